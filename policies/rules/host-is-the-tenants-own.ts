import { isRoute, isTraefik, routeSpecOf } from "../kubernetes-objects.ts";
import { stackRule } from "../rule.ts";
import { ofType, tenantsOf } from "../tenant-stack.ts";

/** What matches by one host alone, and that host. */
const HTTP_HOST = /^Host\(`([^`]+)`\)$/;
const TCP_HOST = /^HostSNI\(`([^`]+)`\)$/;

/**
 * Every host of a tenant's routes begins with the tenant's own name, and a route matches by one host alone.
 *
 * Why: a route for another tenant's host would take its visitors and their sessions.
 * Blind to: where the name leads in DNS.
 */
export const hostIsTheTenantsOwn = stackRule(
  {
    name: "host-is-the-tenants-own",
    description:
      "Every host of a tenant's routes begins with the tenant's own name, and a route matches by one host alone.",
    group: "isolation",
    severity: "critical",
    claims: ["F1", "F4", "W12"],
    references: ["PCI DSS 4.0.1 A1.1.2", "SOC 2 CC6.6", "ISO 27001:2022 A.8.22"],
    remediation: "Serve <tenant>.<tenant domain> and nothing else.",
  },
  (subjects, report) => {
    for (const { tenant } of tenantsOf(subjects)) {
      const owned = new RegExp(`^${tenant}\\.[a-z0-9.-]+$`);
      for (const { subject, props } of ofType<{
        spec?: {
          rules?: readonly { host?: string }[];
          tls?: readonly { hosts?: readonly string[] }[];
        };
      }>(subjects, "kubernetes:networking.k8s.io/v1:Ingress")) {
        const hosts = [
          ...(props.spec?.rules ?? []).map(({ host }) => host),
          ...(props.spec?.tls ?? []).flatMap((entry) => [...(entry.hosts ?? [])]),
        ];
        for (const host of hosts) {
          if (!owned.test(host ?? "")) {
            report(
              `${subject.name}: host must begin with ${tenant}., got ${host ?? "none"}.`,
              subject,
            );
          }
        }
      }
      for (const subject of subjects.filter(({ type }) => isRoute(type))) {
        const one = isTraefik(subject.type, "IngressRoute") ? HTTP_HOST : TCP_HOST;
        for (const { match } of routeSpecOf(subject.props).routes ?? []) {
          const host = one.exec(match ?? "")?.[1];
          if (!owned.test(host ?? "")) {
            report(
              `${subject.name}: match must be one host that begins with ${tenant}., got ${match ?? "none"}.`,
              subject,
            );
          }
        }
      }
    }
  },
);
