import { SYSTEM_NAMESPACE } from "../../model/labels.ts";
import { deniesAll, isTraefik, metadataOf } from "../kubernetes-objects.ts";
import type { NetworkPolicySpec } from "../kubernetes-objects.ts";
import { stackRule } from "../rule.ts";

/**
 * Every cluster whose ingress is set up has a policy that shuts every pod of its own namespace both ways.
 *
 * Why: that namespace holds what sees every tenant's Secret and traffic; a pod there that no policy
 * selects is open to every other pod.
 * Blind to: a cluster that this stack does nothing with; pods on the host's network.
 */
export const systemNamespaceIsShut = stackRule(
  {
    name: "system-namespace-is-shut",
    description:
      "Every cluster whose ingress is set up has a policy that shuts every pod of its own namespace both ways.",
    group: "isolation",
    severity: "high",
    claims: ["F1", "P6", "R7"],
    references: [
      "PCI DSS 4.0.1 1.3.1",
      "PCI DSS 4.0.1 1.3.2",
      "SOC 2 CC6.6",
      "ISO 27001:2022 A.8.22",
      "CIS Kubernetes 5.3.2",
    ],
    remediation:
      "Add a NetworkPolicy to the cluster's own namespace with an empty podSelector, both policy types and no rule: components/system-network.ts.",
  },
  (subjects, report) => {
    const inSystem = subjects.filter(
      ({ props, type }) =>
        type.startsWith("kubernetes:") && metadataOf(props).namespace === SYSTEM_NAMESPACE,
    );
    const shut = new Set(
      inSystem
        .filter(({ type }) => type === "kubernetes:networking.k8s.io/v1:NetworkPolicy")
        .filter(({ props }) => deniesAll((props as { spec?: NetworkPolicySpec }).spec))
        .map(({ provider }) => provider?.name),
    );
    for (const subject of inSystem) {
      const through = subject.provider?.name;
      if (isTraefik(subject.type, "TLSOption") && !shut.has(through)) {
        report(
          `${subject.name}: the cluster of ${through ?? "no provider"} must have a NetworkPolicy in ${SYSTEM_NAMESPACE} that selects every pod and allows nothing either way, got none.`,
          subject,
        );
      }
    }
  },
);
