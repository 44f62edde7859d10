import { makesPods, metadataOf, podLabelsOf, selectsAll, selects } from "../kubernetes-objects.ts";
import type { NetworkPolicySpec } from "../kubernetes-objects.ts";
import { stackRule } from "../rule.ts";
import { ofType, tenantsOf } from "../tenant-stack.ts";

/**
 * Every network policy of a tenant selects every pod of its namespace or at least one that the stack makes.
 *
 * Why: a policy whose labels fit no pod looks like protection and is none.
 * Blind to: pods that are made outside the stack.
 */
export const networkPolicySelectsAPod = stackRule(
  {
    name: "network-policy-selects-a-pod",
    description:
      "Every network policy of a tenant selects every pod of its namespace or at least one that the stack makes.",
    group: "isolation",
    severity: "medium",
    claims: ["F1", "P6"],
    references: ["PCI DSS 4.0.1 1.2.1", "SOC 2 CC6.6", "ISO 27001:2022 A.8.22"],
    remediation: "Correct the labels of the policy's podSelector, or remove the policy.",
  },
  (subjects, report) => {
    const namespaces = tenantsOf(subjects).map(({ names }) => names.namespace);
    const pods = subjects
      .filter(({ type }) => makesPods(type))
      .map(({ type, props }) => ({
        namespace: metadataOf(props).namespace,
        labels: podLabelsOf(type, props),
      }));
    for (const { subject, props } of ofType<{ spec?: NetworkPolicySpec }>(
      subjects,
      "kubernetes:networking.k8s.io/v1:NetworkPolicy",
    )) {
      const selector = props.spec?.podSelector;
      const { namespace } = metadataOf(props);
      // Elsewhere a policy may stand before the pods that it is for.
      if (!namespaces.includes(namespace ?? "")) {
        continue;
      }
      const selected = pods.some(
        (pod) => pod.namespace === namespace && selects(selector, pod.labels),
      );
      if (!selectsAll(selector) && !selected) {
        report(
          `${subject.name}: podSelector must select a pod of namespace ${namespace ?? "none"}, got ${Object.entries(
            selector?.matchLabels ?? {},
          )
            .map(([label, value]) => `${label}=${value}`)
            .join(",")} for no pod.`,
          subject,
        );
      }
    }
  },
);
