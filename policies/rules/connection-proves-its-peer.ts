import { resourceRule } from "../rule.ts";

/**
 * Every connection of the program proves its peer: PostgreSQL by verify-full, SSH by a pinned host key, a cluster by its authority.
 *
 * Why: whoever answers in the peer's place would be handed an administrator's password or a secret.
 * Blind to: how well the host key was come by.
 */
export const connectionProvesItsPeer = resourceRule(
  {
    name: "connection-proves-its-peer",
    description:
      "Every connection of the program proves its peer: PostgreSQL by verify-full, SSH by a pinned host key, a cluster by its authority.",
    group: "transport",
    severity: "critical",
    claims: ["F9", "P1"],
    references: [
      "PCI DSS 4.0.1 4.2.1",
      "PCI DSS 4.0.1 2.2.7",
      "SOC 2 CC6.7",
      "ISO 27001:2022 A.8.21",
      "GDPR Art. 32(1)(a)",
    ],
    remediation:
      "Reach PostgreSQL by verify-full with its authority, SSH with the host's pinned key, and a cluster by its own authority.",
    judges: (type) => /^(pulumi:providers:(postgresql|kubernetes)|command:remote:.+)$/.test(type),
    blindIn: { live: "what a program is configured with is in no live system" },
  },
  (subject, report) => {
    if (subject.type === "pulumi:providers:postgresql") {
      const { sslmode, sslrootcert } = subject.props as { sslmode?: string; sslrootcert?: string };
      if (sslmode !== "verify-full") {
        report(`${subject.name}: sslmode must be verify-full, got ${sslmode ?? "none"}.`);
      }
      if ((sslrootcert ?? "") === "") {
        report(`${subject.name}: sslrootcert must name the server's authority, got none.`);
      }
    } else if (subject.type === "pulumi:providers:kubernetes") {
      const { kubeconfig } = subject.props as { kubeconfig?: string };
      // The text is a secret: it is searched, never shown.
      if (kubeconfig === undefined || /insecure-skip-tls-verify["']?:\s*true/.test(kubeconfig)) {
        report(
          `${subject.name}: kubeconfig must be given and must check the server's certificate, got ${kubeconfig === undefined ? "none" : "one that skips the check"}.`,
        );
      }
    } else if (subject.type.startsWith("command:remote:")) {
      const { connection, logging } = subject.props as {
        connection?: { hostKey?: string };
        logging?: string;
      };
      if (!/^ssh-ed25519 [A-Za-z0-9+/=]+$/.test(connection?.hostKey ?? "")) {
        report(
          `${subject.name}: connection.hostKey must pin the host's ssh-ed25519 key, got none.`,
        );
      }
      if (subject.type === "command:remote:Command" && logging !== "none") {
        report(`${subject.name}: logging must be none, got ${logging ?? "stdoutAndStderr"}.`);
      }
    }
  },
);
