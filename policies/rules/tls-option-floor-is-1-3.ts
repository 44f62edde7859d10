import { TLS_MIN_VERSION } from "../../model/headers.ts";
import { isTraefik } from "../kubernetes-objects.ts";
import { resourceRule } from "../rule.ts";

/**
 * No TLSOption lets a client speak TLS older than 1.3.
 *
 * Why: one option with a lower floor lowers every host that names it, or all of them.
 * Blind to: what the ingress was started with; options made by hand.
 */
export const tlsOptionFloorIs13 = resourceRule(
  {
    name: "tls-option-floor-is-1-3",
    description: "No TLSOption lets a client speak TLS older than 1.3.",
    group: "transport",
    severity: "critical",
    claims: ["F9", "P1"],
    references: [
      "PCI DSS 4.0.1 4.2.1",
      "SOC 2 CC6.7",
      "ISO 27001:2022 A.8.24",
      "GDPR Art. 32(1)(a)",
    ],
    remediation: "Set minVersion to VersionTLS13 and no maxVersion.",
    judges: (type) => isTraefik(type, "TLSOption"),
  },
  (subject, report) => {
    if (!isTraefik(subject.type, "TLSOption")) {
      return;
    }
    const spec = (subject.props as { spec?: { minVersion?: string; maxVersion?: string } }).spec;
    if (spec?.minVersion !== TLS_MIN_VERSION) {
      report(
        `${subject.name}: minVersion must be ${TLS_MIN_VERSION}, got ${spec?.minVersion ?? "none, which means VersionTLS12"}.`,
      );
    }
    if (spec?.maxVersion !== undefined) {
      report(`${subject.name}: maxVersion must not be set, got ${spec.maxVersion}.`);
    }
  },
);
