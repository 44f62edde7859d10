import type { ResourceValidationPolicy } from "@pulumi/policy";
import { failClosed } from "../fail-closed.ts";
import {
  containersOf,
  makesPods,
  metadataOf,
  podSpecOf,
  RESTRICTED_VOLUMES,
} from "../kubernetes-objects.ts";
import type { Container, PodSpec } from "../kubernetes-objects.ts";

const ENFORCE_LABEL = "pod-security.kubernetes.io/enforce";

/**
 * Every namespace enforces Pod Security's level restricted, and every pod is made to fit it, with a read-only root and no token of the cluster.
 *
 * Why: a pod with more is one step from the node, and with the node from every tenant on it.
 * Blind to: pods that no resource of a stack makes.
 */
export const podsRunRestricted: ResourceValidationPolicy = {
  name: "pods-run-restricted",
  description:
    "Every namespace enforces Pod Security's level restricted, and every pod is made to fit it, with a read-only root and no token of the cluster.",
  enforcementLevel: "mandatory",
  validateResource: failClosed((args, report) => {
    if (args.type === "kubernetes:core/v1:Namespace") {
      const level = metadataOf(args.props).labels?.[ENFORCE_LABEL];
      if (level !== "restricted") {
        report(`${args.name}: label ${ENFORCE_LABEL} must be restricted, got ${level ?? "none"}.`);
      }
    } else if (args.type === "kubernetes:core/v1:ServiceAccount") {
      const account = args.props as { automountServiceAccountToken?: boolean };
      if (account.automountServiceAccountToken !== false) {
        report(
          `${args.name}: automountServiceAccountToken must be false, got ${account.automountServiceAccountToken ?? "none"}.`,
        );
      }
    } else if (makesPods(args.type)) {
      const pod = podSpecOf(args.type, args.props);
      if (pod === undefined) {
        report(`${args.name}: the pods that it makes must be described, got nothing.`);
        return;
      }
      for (const fault of [...podFaults(pod), ...containersOf(pod).flatMap(containerFaults)]) {
        report(`${args.name}: ${fault}`);
      }
    }
  }),
};

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
  for (const volume of pod.volumes ?? []) {
    for (const kind of Object.keys(volume)) {
      if (!RESTRICTED_VOLUMES.some((allowed) => allowed === kind)) {
        faults.push(`a volume must be one that Pod Security's restricted allows, got ${kind}.`);
      }
    }
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
