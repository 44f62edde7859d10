import { resourceRule } from "../rule.ts";
import { tenantLabelOf } from "../tenant-stack.ts";

/**
 * Every Secret of a tenant is immutable, so that a rotation makes a new one beside it.
 *
 * Why: a Secret that is changed in place rolls no pod, and the former key is gone while it is still in use.
 * Blind to: what a pod keeps in its memory.
 */
export const tenantSecretIsImmutable = resourceRule(
  {
    name: "tenant-secret-is-immutable",
    description:
      "Every Secret of a tenant is immutable, so that a rotation makes a new one beside it.",
    group: "secrets",
    severity: "medium",
    claims: ["F7", "X8"],
    references: ["PCI DSS 4.0.1 3.6.1", "SOC 2 CC6.1", "ISO 27001:2022 A.8.24"],
    remediation: "Set immutable, and put the generation into the Secret's name.",
    judges: (type) => type === "kubernetes:core/v1:Secret",
  },
  (subject, report) => {
    const { immutable } = subject.props as { immutable?: boolean };
    if (tenantLabelOf(subject.props) !== undefined && immutable !== true) {
      report(`${subject.name}: immutable must be true, got ${immutable ?? "none"}.`);
    }
  },
);
