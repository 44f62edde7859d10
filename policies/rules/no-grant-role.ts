import { resourceRule } from "../rule.ts";

/**
 * No role's membership is made by a GrantRole.
 *
 * Why: the next update of the Role revokes every membership that its own `roles` does not name, and
 * nothing notices until a refresh.
 * Blind to: memberships granted by hand.
 */
export const noGrantRole = resourceRule(
  {
    name: "no-grant-role",
    description: "No role's membership is made by a GrantRole.",
    group: "isolation",
    severity: "high",
    claims: ["F3"],
    references: ["PCI DSS 4.0.1 7.2.5", "SOC 2 CC6.3", "ISO 27001:2022 A.8.2"],
    remediation: "Put the membership into the roles of the Role itself.",
    judges: (type) => type === "postgresql:index/grantRole:GrantRole",
    blindIn: { live: "how a membership was made cannot be told from the membership" },
  },
  (subject, report) => {
    if (subject.type === "postgresql:index/grantRole:GrantRole") {
      report(
        `${subject.name}: a membership must stand in the Role's own roles, got a GrantRole. Move it there.`,
      );
    }
  },
);
