import { stackRule } from "../rule.ts";
import { tenantsOf } from "../tenant-stack.ts";

/** Types that only a fleet needs: with one of them a tenant's stack would change what tenants share. */
const FLEET_ONLY =
  /^(command:|pulumi:providers:command$|kubernetes:(core\/v1:Pod|apps\/v1:(DaemonSet|StatefulSet)|rbac\.authorization\.k8s\.io\/|traefik\.io\/[^:]+:(TLSOption|TLSStore))|fluxbilling:(fleet|host):)/;

/**
 * A tenant's stack holds nothing that tenants share: no command on a host, no role of the cluster, no option of the ingress.
 *
 * Why: what a tenant's stack changes must end with the tenant.
 * Blind to: what a pod of the tenant does at run time.
 */
export const tenantHoldsTenantTypes = stackRule(
  {
    name: "tenant-holds-tenant-types",
    description:
      "A tenant's stack holds nothing that tenants share: no command on a host, no role of the cluster, no option of the ingress.",
    group: "isolation",
    severity: "critical",
    claims: ["F1", "F4"],
    references: [
      "PCI DSS 4.0.1 A1.1.2",
      "SOC 2 CC6.1",
      "ISO 27001:2022 A.8.3",
      "CIS Kubernetes 5.1.1",
    ],
    remediation: "Move it to the fleet's stack, or leave it out.",
  },
  (subjects, report) => {
    for (const tenant of tenantsOf(subjects)) {
      for (const subject of subjects.filter(({ type }) => FLEET_ONLY.test(type))) {
        report(
          `${subject.name}: the stack of tenant ${tenant.tenant} must hold only a tenant's types, got ${subject.type}.`,
          subject,
        );
      }
    }
  },
);
