import { COMPONENT_LABEL } from "../../model/labels.ts";
import {
  containersOf,
  makesPods,
  metadataOf,
  podLabelsOf,
  podSpecOf,
  selects,
} from "../kubernetes-objects.ts";
import type { NetworkPolicySpec } from "../kubernetes-objects.ts";
import { shown, stackRule } from "../rule.ts";
import type { Subject } from "../rule.ts";
import { inNamespace, ofType, tenantsOf } from "../tenant-stack.ts";

const REPLAY = "replay";
/** Kinds of volume that bring no secret and no word of the cluster: the tenant's files, and what goes with the pod. */
const VOLUMES = ["name", "persistentVolumeClaim", "emptyDir"];

/**
 * A replay starts by hand alone and reaches nothing: no policy opens a way to or from its pods, which get no Secret, no token and no ConfigMap, and the tenant's files to read only.
 *
 * Why: what is replayed has happened already: one call too many is a second payment, a second mail, a changed row.
 * Blind to: whether the cluster enforces policies; what somebody puts into a Job by hand, which the review of the live system finds.
 */
export const replayReachesNothing = stackRule(
  {
    name: "replay-reaches-nothing",
    description:
      "A replay starts by hand alone and reaches nothing: no policy opens a way to or from its pods, which get no Secret, no token and no ConfigMap, and the tenant's files to read only.",
    group: "isolation",
    severity: "critical",
    claims: ["R6"],
    references: [
      "PCI DSS 4.0.1 1.3.2",
      "PCI DSS 4.0.1 6.5.5",
      "SOC 2 CC6.6",
      "ISO 27001:2022 A.8.31",
    ],
    remediation:
      "Make it by components/tenant-replay.ts, and let no policy but the default deny select it.",
  },
  (subjects, report) => {
    for (const { names } of tenantsOf(subjects)) {
      const own = inNamespace(subjects, names.namespace);
      const open = ofType<{ spec?: NetworkPolicySpec }>(
        own,
        "kubernetes:networking.k8s.io/v1:NetworkPolicy",
      ).filter(
        ({ props }) => (props.spec?.ingress ?? []).length + (props.spec?.egress ?? []).length > 0,
      );
      for (const subject of own.filter(isReplay)) {
        const { type, name, props } = subject;
        const { suspend } = (props as { spec?: { suspend?: boolean } }).spec ?? {};
        if (type !== "kubernetes:batch/v1:CronJob" || suspend !== true) {
          report(
            `${name}: a replay must be a CronJob with suspend true, got a ${type.split(":").at(-1) ?? type} with ${shown(suspend)}.`,
            subject,
          );
        }
        const labels = podLabelsOf(type, props);
        if (labels[COMPONENT_LABEL] !== REPLAY) {
          report(
            `${name}: label ${COMPONENT_LABEL} of its pods must be ${REPLAY}, got ${shown(labels[COMPONENT_LABEL])}.`,
            subject,
          );
        }
        for (const policy of open) {
          if (selects(policy.props.spec?.podSelector, labels)) {
            report(
              `${name}: no policy that allows anything may select its pods, got ${policy.subject.name}.`,
              subject,
            );
          }
        }
        for (const fault of podFaults(subject)) {
          report(`${name}: ${fault}`, subject);
        }
      }
    }
  },
);

/** Whether a resource or the pods that it makes say that they are a replay. */
function isReplay({ type, props }: Subject): boolean {
  return (
    makesPods(type) &&
    [metadataOf(props).labels, podLabelsOf(type, props)].some(
      (labels) => labels?.[COMPONENT_LABEL] === REPLAY,
    )
  );
}

function podFaults({ type, props }: Subject): readonly string[] {
  const pod = podSpecOf(type, props) ?? {};
  const faults: string[] = [];
  for (const kind of (pod.volumes ?? []).flatMap((volume) => Object.keys(volume))) {
    if (!VOLUMES.includes(kind)) {
      faults.push(`its volumes must be ${VOLUMES.slice(1).join(" or ")}, got ${kind}.`);
    }
  }
  const temporary = (pod.volumes ?? [])
    .filter((volume) => volume["emptyDir"] !== undefined)
    .map((volume) => volume["name"]);
  for (const container of containersOf(pod)) {
    const at = `container ${container.name ?? "without a name"}`;
    for (const { name, readOnly } of container.volumeMounts ?? []) {
      if (!temporary.includes(name) && readOnly !== true) {
        faults.push(
          `${at} must mount ${name ?? "a volume"} readOnly true, got ${shown(readOnly)}.`,
        );
      }
    }
    if ((container.volumeDevices ?? []).length > 0) {
      faults.push(`${at} must have no device, got one.`);
    }
    const drawn = (container.env ?? []).filter(({ valueFrom }) => valueFrom !== undefined);
    if (drawn.length > 0 || (container.envFrom ?? []).length > 0) {
      faults.push(
        `${at} must get its variables as plain values, got ${drawn.map(({ name }) => `${name ?? "one"} from elsewhere`).join(", ") || "envFrom"}.`,
      );
    }
  }
  return faults;
}
