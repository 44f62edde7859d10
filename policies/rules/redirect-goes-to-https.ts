import { isTraefik, metadataOf } from "../kubernetes-objects.ts";
import { resourceRule } from "../rule.ts";

/** The middleware with which the one way in without TLS sends everyone to HTTPS. */
const REDIRECT = "redirect-to-https";

/**
 * The way in without TLS sends everyone to HTTPS for good and serves nothing.
 *
 * Why: the rule that every way in speaks TLS lets this one through by its name.
 * Blind to: entry points that the ingress was started with.
 */
export const redirectGoesToHttps = resourceRule(
  {
    name: "redirect-goes-to-https",
    description: "The way in without TLS sends everyone to HTTPS for good and serves nothing.",
    group: "transport",
    severity: "high",
    claims: ["F9", "F10", "P1"],
    references: ["PCI DSS 4.0.1 4.2.1", "SOC 2 CC6.7", "ISO 27001:2022 A.8.24"],
    remediation: "Redirect permanently to the scheme https, and name noop@internal as the service.",
    judges: (type) => isTraefik(type, "Middleware") || isTraefik(type, "IngressRoute"),
  },
  (subject, report) => {
    if (isTraefik(subject.type, "Middleware")) {
      if (metadataOf(subject.props).name !== REDIRECT) {
        return;
      }
      const { scheme, permanent } =
        (
          subject.props as {
            spec?: { redirectScheme?: { scheme?: string; permanent?: boolean } };
          }
        ).spec?.redirectScheme ?? {};
      if (scheme !== "https") {
        report(`${subject.name}: redirectScheme.scheme must be https, got ${scheme ?? "none"}.`);
      }
      if (permanent !== true) {
        report(
          `${subject.name}: redirectScheme.permanent must be true, got ${permanent ?? "none"}.`,
        );
      }
      return;
    }
    const routes =
      (
        subject.props as {
          spec?: {
            routes?: readonly {
              middlewares?: readonly { name?: string }[];
              services?: readonly { name?: string; kind?: string }[];
            }[];
          };
        }
      ).spec?.routes ?? [];
    for (const { middlewares, services } of routes) {
      if (!(middlewares ?? []).some(({ name }) => name === REDIRECT)) {
        continue;
      }
      for (const { kind, name } of services ?? []) {
        if (kind !== "TraefikService" || name !== "noop@internal") {
          report(
            `${subject.name}: a route that redirects must serve noop@internal, got ${kind ?? "Service"} ${name ?? "none"}.`,
          );
        }
      }
    }
  },
);
