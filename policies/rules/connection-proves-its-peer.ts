import type { ResourceValidationPolicy } from "@pulumi/policy";
import { failClosed } from "../fail-closed.ts";

/**
 * Every connection of the program proves its peer: PostgreSQL by verify-full, SSH by a pinned host key, a cluster by its authority.
 *
 * Why: whoever answers in the peer's place would be handed an administrator's password or a secret.
 * Blind to: how well the host key was come by.
 */
export const connectionProvesItsPeer: ResourceValidationPolicy = {
  name: "connection-proves-its-peer",
  description:
    "Every connection of the program proves its peer: PostgreSQL by verify-full, SSH by a pinned host key, a cluster by its authority.",
  enforcementLevel: "mandatory",
  validateResource: failClosed((args, report) => {
    if (args.type === "pulumi:providers:postgresql") {
      const { sslmode, sslrootcert } = args.props as { sslmode?: string; sslrootcert?: string };
      if (sslmode !== "verify-full") {
        report(`${args.name}: sslmode must be verify-full, got ${sslmode ?? "none"}.`);
      }
      if ((sslrootcert ?? "") === "") {
        report(`${args.name}: sslrootcert must name the server's authority, got none.`);
      }
    } else if (args.type === "pulumi:providers:kubernetes") {
      const { kubeconfig } = args.props as { kubeconfig?: string };
      // The text is a secret: it is searched, never shown.
      if (kubeconfig === undefined || /insecure-skip-tls-verify["']?:\s*true/.test(kubeconfig)) {
        report(
          `${args.name}: kubeconfig must be given and must check the server's certificate, got ${kubeconfig === undefined ? "none" : "one that skips the check"}.`,
        );
      }
    } else if (args.type.startsWith("command:remote:")) {
      const { connection, logging } = args.props as {
        connection?: { hostKey?: string };
        logging?: string;
      };
      if (!/^ssh-ed25519 [A-Za-z0-9+/=]+$/.test(connection?.hostKey ?? "")) {
        report(`${args.name}: connection.hostKey must pin the host's ssh-ed25519 key, got none.`);
      }
      if (args.type === "command:remote:Command" && logging !== "none") {
        report(`${args.name}: logging must be none, got ${logging ?? "stdoutAndStderr"}.`);
      }
    }
  }),
};
