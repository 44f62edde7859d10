import { stackRule } from "../rule.ts";
import { tenantsOf } from "../tenant-stack.ts";

/**
 * Everything of a tenant goes to the cluster and the server of the tenant's own location.
 *
 * Why: through another location's provider the data would lie where no contract says.
 * Blind to: where the provider's address really leads; the fleet's settings say that.
 */
export const tenantUsesItsLocationsProviders = stackRule(
  {
    name: "tenant-uses-its-locations-providers",
    description:
      "Everything of a tenant goes to the cluster and the server of the tenant's own location.",
    group: "residency",
    severity: "critical",
    claims: ["F11", "F12", "F13"],
    references: ["GDPR Art. 44", "SOC 2 C1.1", "ISO 27001:2022 A.5.31"],
    remediation: "Pass the providers of the tenant's location to the component.",
  },
  (subjects, report) => {
    for (const { says } of tenantsOf(subjects)) {
      for (const subject of subjects) {
        const expected = subject.type.startsWith("kubernetes:")
          ? `${says.location ?? "none"}-cluster`
          : subject.type.startsWith("postgresql:")
            ? `${says.location ?? "none"}-server`
            : undefined;
        const got = subject.provider?.name;
        if (expected !== undefined && got !== expected) {
          report(`${subject.name}: provider must be ${expected}, got ${got ?? "none"}.`, subject);
        }
        if (subject.type === "pulumi:providers:kubernetes") {
          const { clusterIdentifier } = subject.props as { clusterIdentifier?: string };
          if (clusterIdentifier !== says.location) {
            report(
              `${subject.name}: clusterIdentifier must be ${says.location ?? "the tenant's location"}, got ${clusterIdentifier ?? "none"}.`,
              subject,
            );
          }
        }
      }
    }
  },
);
