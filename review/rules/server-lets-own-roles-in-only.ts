import { REPLICA_ROLE } from "../../model/database.ts";
import { shown, stackRule } from "../../policies/rule.ts";
import { ofType } from "../../policies/tenant-stack.ts";
import { SERVER_TYPE } from "../live-server.ts";

interface HbaLine {
  readonly line_number?: number;
  readonly type?: string;
  readonly database?: readonly string[];
  readonly user_name?: readonly string[];
  readonly auth_method?: string;
}

/**
 * A PostgreSQL lets a role in over TLS by a SCRAM password, into the database of its own group alone.
 *
 * Why: one line more in pg_hba.conf lets a tenant's role into another tenant's database, or in without TLS.
 * Blind to: who holds a superuser's password.
 */
export const serverLetsOwnRolesInOnly = stackRule(
  {
    name: "server-lets-own-roles-in-only",
    description:
      "A PostgreSQL lets a role in over TLS by a SCRAM password, into the database of its own group alone.",
    group: "isolation",
    severity: "critical",
    claims: ["F1", "F3", "F9"],
    references: [
      "PCI DSS 4.0.1 A1.1.2",
      "PCI DSS 4.0.1 8.3.2",
      "SOC 2 CC6.1",
      "ISO 27001:2022 A.8.3",
    ],
    remediation:
      "Restore pg_hba.conf: administrators by name, samerole for all others, reject at the end.",
    blindIn: {
      preview: "the server's own rules are in no stack",
      state: "the server's own rules are in no stack",
    },
  },
  (subjects, report) => {
    for (const { subject, props } of ofType<{ hba?: readonly HbaLine[] }>(subjects, SERVER_TYPE)) {
      for (const line of props.hba ?? []) {
        if (line.auth_method === "reject" || line.type === "local") {
          if (line.type === "local" && line.auth_method !== "peer") {
            report(
              `${subject.name}: line ${shown(line.line_number)} must let the machine's own users in by peer, got ${shown(line.auth_method)}.`,
              subject,
            );
          }
          continue;
        }
        const at = `${subject.name}: line ${shown(line.line_number)}`;
        if (line.type !== "hostssl") {
          report(`${at} must be hostssl, got ${shown(line.type)}.`, subject);
        }
        if (line.auth_method !== "scram-sha-256") {
          report(`${at} must ask for scram-sha-256, got ${shown(line.auth_method)}.`, subject);
        }
        const databases = line.database ?? [];
        const users = line.user_name ?? [];
        const ownGroup = databases.join() === "samerole";
        const replica = databases.join() === "replication" && users.join() === REPLICA_ROLE;
        const named =
          users.length > 0 &&
          users.every((user) => !/^(all|\+.*|(tenant|owner|app|backup)_.*)$/.test(user));
        if (!ownGroup && !replica && !named) {
          report(
            `${at} must let ${shown(users)} into samerole alone, got ${shown(databases)}.`,
            subject,
          );
        }
      }
    }
  },
);
