import { shown, stackRule } from "../../policies/rule.ts";
import { ofType } from "../../policies/tenant-stack.ts";
import { SERVER_TYPE } from "../live-server.ts";

/** Settings of a server, and what they must be. */
const SETTINGS = {
  ssl: "on",
  ssl_min_protocol_version: "TLSv1.3",
  password_encryption: "scram-sha-256",
} as const;

/**
 * A PostgreSQL speaks TLS 1.3 or nothing, and keeps passwords as SCRAM verifiers.
 *
 * Why: what clients insist on protects them; what the server insists on protects the data.
 * Blind to: the certificate's own strength.
 */
export const serverSpeaksTls13 = stackRule(
  {
    name: "server-speaks-tls-1-3",
    description: "A PostgreSQL speaks TLS 1.3 or nothing, and keeps passwords as SCRAM verifiers.",
    group: "transport",
    severity: "critical",
    claims: ["F9"],
    references: ["PCI DSS 4.0.1 4.2.1", "SOC 2 CC6.7", "ISO 27001:2022 A.8.24"],
    remediation:
      "Set ssl on, ssl_min_protocol_version TLSv1.3 and password_encryption scram-sha-256.",
    blindIn: {
      preview: "the server's own settings are in no stack",
      state: "the server's own settings are in no stack",
    },
  },
  (subjects, report) => {
    for (const { subject, props } of ofType<{
      settings?: Readonly<Record<string, string>>;
    }>(subjects, SERVER_TYPE)) {
      for (const [setting, value] of Object.entries(SETTINGS)) {
        const got = props.settings?.[setting];
        if (got !== value) {
          report(`${subject.name}: ${setting} must be ${value}, got ${shown(got)}.`, subject);
        }
      }
    }
  },
);
