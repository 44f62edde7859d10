import {
  containersOf,
  makesPods,
  metadataOf,
  podSpecOf,
  RESTRICTED_VOLUMES,
} from "../kubernetes-objects.ts";
import type { Container, PodSpec } from "../kubernetes-objects.ts";
import { resourceRule } from "../rule.ts";

const ENFORCE_LABEL = "pod-security.kubernetes.io/enforce";

/**
 * Every namespace enforces Pod Security's level restricted, and every pod is made to fit it, with a read-only root and no token of the cluster.
 *
 * Why: a pod with more is one step from the node, and with the node from every tenant on it.
 * Blind to: pods that no resource of a stack makes.
 */
export const podsRunRestricted = resourceRule(
  {
    name: "pods-run-restricted",
    description:
      "Every namespace enforces Pod Security's level restricted, and every pod is made to fit it, with a read-only root and no token of the cluster.",
    group: "isolation",
    severity: "critical",
    claims: ["F1", "P7"],
    references: [
      "Pod Security Standards restricted",
      "CIS Kubernetes 5.2.2",
      "CIS Kubernetes 5.2.5",
      "CIS Kubernetes 5.2.12",
      "CIS Kubernetes 5.1.6",
      "PCI DSS 4.0.1 2.2.6",
      "SOC 2 CC6.1",
    ],
    remediation: "Use the pod and container security of model/pod.ts as they are.",
    judges: (type) =>
      type === "kubernetes:core/v1:Namespace" ||
      type === "kubernetes:core/v1:ServiceAccount" ||
      makesPods(type),
  },
  (subject, report) => {
    if (subject.type === "kubernetes:core/v1:Namespace") {
      const level = metadataOf(subject.props).labels?.[ENFORCE_LABEL];
      if (level !== "restricted") {
        report(
          `${subject.name}: label ${ENFORCE_LABEL} must be restricted, got ${level ?? "none"}.`,
        );
      }
    } else if (subject.type === "kubernetes:core/v1:ServiceAccount") {
      const account = subject.props as { automountServiceAccountToken?: boolean };
      if (account.automountServiceAccountToken !== false) {
        report(
          `${subject.name}: automountServiceAccountToken must be false, got ${account.automountServiceAccountToken ?? "none"}.`,
        );
      }
    } else if (makesPods(subject.type)) {
      const pod = podSpecOf(subject.type, subject.props);
      if (pod === undefined) {
        report(`${subject.name}: the pods that it makes must be described, got nothing.`);
        return;
      }
      for (const fault of [...podFaults(pod), ...containersOf(pod).flatMap(containerFaults)]) {
        report(`${subject.name}: ${fault}`);
      }
    }
  },
);

function podFaults(pod: PodSpec): string[] {
  const faults: string[] = [];
  for (const key of ["hostNetwork", "hostPID", "hostIPC"] as const) {
    if (pod[key] === true) {
      faults.push(`${key} must be false, got true.`);
    }
  }
  if (pod.automountServiceAccountToken !== false) {
    faults.push(
      `automountServiceAccountToken must be false, got ${pod.automountServiceAccountToken ?? "none"}.`,
    );
  }
  if (pod.securityContext?.runAsNonRoot !== true) {
    faults.push(
      `securityContext.runAsNonRoot must be true, got ${pod.securityContext?.runAsNonRoot ?? "none"}.`,
    );
  }
  if (pod.securityContext?.seccompProfile?.type !== "RuntimeDefault") {
    faults.push(
      `seccompProfile must be RuntimeDefault, got ${pod.securityContext?.seccompProfile?.type ?? "none"}.`,
    );
  }
  faults.push(...identityFaults("the pod", pod.securityContext ?? {}));
  for (const { name } of pod.securityContext?.sysctls ?? []) {
    faults.push(`the pod must set no kernel parameter, got ${name ?? "one without a name"}.`);
  }
  for (const volume of pod.volumes ?? []) {
    for (const kind of Object.keys(volume)) {
      if (!RESTRICTED_VOLUMES.some((allowed) => allowed === kind)) {
        faults.push(`a volume must be one that Pod Security's restricted allows, got ${kind}.`);
      }
    }
    const sources =
      (
        volume["projected"] as
          { sources?: readonly Readonly<Record<string, unknown>>[] } | undefined
      )?.sources ?? [];
    if (sources.some((source) => "serviceAccountToken" in source)) {
      faults.push("a volume must hold no token of the cluster, got serviceAccountToken.");
    }
  }
  return faults;
}

/** What a pod and a container of it may both say. */
function identityFaults(
  at: string,
  {
    runAsUser,
    seLinuxOptions,
    windowsOptions,
  }: Pick<
    NonNullable<Container["securityContext"]>,
    "runAsUser" | "seLinuxOptions" | "windowsOptions"
  >,
): string[] {
  const faults: string[] = [];
  if (runAsUser === 0) {
    faults.push(`${at} must not run as root, got runAsUser 0.`);
  }
  if (seLinuxOptions !== undefined) {
    faults.push(`${at} must set no seLinuxOptions, got some.`);
  }
  if (windowsOptions?.hostProcess === true) {
    faults.push(`${at} must be no process of the host, got hostProcess true.`);
  }
  return faults;
}

function containerFaults({ name, ports, securityContext = {} }: Container): string[] {
  const faults: string[] = [];
  const at = `container ${name ?? "without a name"}`;
  if (securityContext.allowPrivilegeEscalation !== false) {
    faults.push(
      `${at} must have allowPrivilegeEscalation false, got ${securityContext.allowPrivilegeEscalation ?? "none"}.`,
    );
  }
  if (securityContext.privileged === true) {
    faults.push(`${at} must not be privileged, got true.`);
  }
  faults.push(...identityFaults(at, securityContext));
  const { procMount, seccompProfile } = securityContext;
  if (procMount !== undefined && procMount !== "Default") {
    faults.push(`${at} must have procMount Default, got ${procMount}.`);
  }
  if (seccompProfile !== undefined && seccompProfile.type !== "RuntimeDefault") {
    faults.push(
      `${at} must not take back seccompProfile RuntimeDefault, got ${seccompProfile.type ?? "none"}.`,
    );
  }
  if (securityContext.runAsNonRoot === false) {
    faults.push(`${at} must not take back runAsNonRoot, got false.`);
  }
  if (securityContext.readOnlyRootFilesystem !== true) {
    faults.push(
      `${at} must have a read-only root, got readOnlyRootFilesystem ${securityContext.readOnlyRootFilesystem ?? "none"}.`,
    );
  }
  const { add = [], drop = [] } = securityContext.capabilities ?? {};
  if (!drop.includes("ALL")) {
    faults.push(`${at} must drop ALL capabilities, got ${drop.join(", ") || "none"}.`);
  }
  if (add.length > 0) {
    faults.push(`${at} must add no capability, got ${add.join(", ")}.`);
  }
  if ((ports ?? []).some(({ hostPort }) => hostPort !== undefined)) {
    faults.push(`${at} must take no port of its host, got a hostPort.`);
  }
  return faults;
}
