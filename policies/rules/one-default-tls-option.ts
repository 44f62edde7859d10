import { TLS_OPTION_NAME } from "../../model/headers.ts";
import { SYSTEM_NAMESPACE } from "../../model/labels.ts";
import { isTraefik, metadataOf } from "../kubernetes-objects.ts";
import { stackRule } from "../rule.ts";

/**
 * Each cluster of a fleet has exactly one TLSOption, the default in the cluster's own namespace, and a tenant has none.
 *
 * Why: with two called default Traefik drops both and TLS 1.2 is back; an option of another name
 * moves every host that names it off the floor.
 * Blind to: options in the cluster that this stack does not hold.
 */
export const oneDefaultTlsOption = stackRule(
  {
    name: "one-default-tls-option",
    description:
      "Each cluster of a fleet has exactly one TLSOption, the default in the cluster's own namespace, and a tenant has none.",
    group: "transport",
    severity: "critical",
    claims: ["F9"],
    references: ["PCI DSS 4.0.1 4.2.1", "SOC 2 CC6.7", "ISO 27001:2022 A.8.24"],
    remediation: "Keep the one TLSOption of the location and remove every other.",
  },
  (subjects, report) => {
    const options = subjects.filter(({ type }) => isTraefik(type, "TLSOption"));
    for (const option of options) {
      const { name, namespace } = metadataOf(option.props);
      if (name !== TLS_OPTION_NAME || namespace !== SYSTEM_NAMESPACE) {
        report(
          `${option.name}: a TLSOption must be ${SYSTEM_NAMESPACE}/${TLS_OPTION_NAME}, got ${namespace ?? "no namespace"}/${name ?? "no name"}.`,
          option,
        );
      }
    }
    if (subjects.some(({ type }) => type === "fluxbilling:fleet:ClusterEdge")) {
      const clusters = new Set(
        subjects
          .filter(({ type }) => type.startsWith("kubernetes:"))
          .map(({ provider }) => provider?.name ?? "none"),
      );
      for (const cluster of clusters) {
        const own = options.filter(({ provider }) => (provider?.name ?? "none") === cluster);
        if (own.length !== 1) {
          report(`${cluster}: a cluster must have exactly one TLSOption, got ${own.length}.`);
        }
      }
    }
    for (const tenant of subjects.filter(({ type }) => type === "fluxbilling:tenant:Tenant")) {
      if (options.length > 0) {
        report(
          `${tenant.name}: a tenant's stack must hold no TLSOption, got ${options.length}.`,
          tenant,
        );
      }
    }
  },
);
