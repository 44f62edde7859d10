import { LOCATION_LABEL, TENANT_LABEL, ZONE_LABEL } from "../../model/labels.ts";
import { metadataOf } from "../kubernetes-objects.ts";
import { stackRule } from "../rule.ts";
import { isClusterWide, tenantsOf } from "../tenant-stack.ts";

/**
 * Every object of a tenant lies in the tenant's namespace and names its tenant, zone and location.
 *
 * Why: an object in another namespace is in another tenant's hands, and an unnamed one is in no account of who has what where.
 * Blind to: what the names are worth; other rules hold zone and provider to each other.
 */
export const tenantObjectsAreItsOwn = stackRule(
  {
    name: "tenant-objects-are-its-own",
    description:
      "Every object of a tenant lies in the tenant's namespace and names its tenant, zone and location.",
    group: "isolation",
    severity: "critical",
    claims: ["F1", "F4", "F13"],
    references: [
      "CIS Kubernetes 5.7.1",
      "PCI DSS 4.0.1 A1.1.2",
      "SOC 2 CC6.1",
      "ISO 27001:2022 A.8.3",
    ],
    remediation: "Pass the tenant's namespace and labels on to the object.",
  },
  (subjects, report) => {
    for (const { says, tenant, names } of tenantsOf(subjects)) {
      const labels = {
        [TENANT_LABEL]: tenant,
        [ZONE_LABEL]: says.zone,
        [LOCATION_LABEL]: says.location,
      };
      for (const subject of subjects.filter(({ type }) => type.startsWith("kubernetes:"))) {
        const metadata = metadataOf(subject.props);
        const isNamespace = subject.type === "kubernetes:core/v1:Namespace";
        const place = isNamespace ? metadata.name : metadata.namespace;
        if (!(isClusterWide(subject.type) && !isNamespace) && place !== names.namespace) {
          report(
            `${subject.name}: namespace must be ${names.namespace}, got ${place ?? "none"}.`,
            subject,
          );
        }
        for (const [label, value] of Object.entries(labels)) {
          const got = metadata.labels?.[label];
          if (value === undefined || got !== value) {
            report(
              `${subject.name}: label ${label} must be ${value ?? "known from the tenant"}, got ${got ?? "none"}.`,
              subject,
            );
          }
        }
      }
    }
  },
);
