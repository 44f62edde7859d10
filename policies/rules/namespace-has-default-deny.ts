import { deniesAll, metadataOf } from "../kubernetes-objects.ts";
import type { NetworkPolicySpec } from "../kubernetes-objects.ts";
import { stackRule } from "../rule.ts";
import type { Subject } from "../rule.ts";

/**
 * Every namespace has a policy that shuts every pod both ways.
 *
 * Why: without it a pod that no other policy selects reaches, and is reached by, every other pod.
 * Blind to: whether the cluster enforces network policies at all.
 */
export const namespaceHasDefaultDeny = stackRule(
  {
    name: "namespace-has-default-deny",
    description: "Every namespace has a policy that shuts every pod both ways.",
    group: "isolation",
    severity: "critical",
    claims: ["F1", "P6", "R7"],
    references: [
      "PCI DSS 4.0.1 1.3.1",
      "PCI DSS 4.0.1 1.3.2",
      "SOC 2 CC6.6",
      "ISO 27001:2022 A.8.22",
      "CIS Kubernetes 5.3.2",
    ],
    remediation: "Add a NetworkPolicy with an empty podSelector, both policy types and no rule.",
  },
  (subjects, report) => {
    // Namespaces of two clusters may have one name.
    const placeOf = (subject: Subject, namespace = ""): string =>
      `${namespace} through ${subject.provider?.name ?? "no provider"}`;
    const shut = new Set(
      subjects
        .filter(({ type }) => type === "kubernetes:networking.k8s.io/v1:NetworkPolicy")
        .filter(({ props }) => deniesAll((props as { spec?: NetworkPolicySpec }).spec))
        .map((subject) => placeOf(subject, metadataOf(subject.props).namespace)),
    );
    for (const resource of subjects) {
      if (resource.type !== "kubernetes:core/v1:Namespace") {
        continue;
      }
      const metadata = metadataOf(resource.props);
      if (!shut.has(placeOf(resource, metadata.name))) {
        report(
          `${resource.name}: namespace ${metadata.name ?? "without a name"} must have a NetworkPolicy that selects every pod and allows nothing either way, got none.`,
          resource,
        );
      }
    }
  },
);
