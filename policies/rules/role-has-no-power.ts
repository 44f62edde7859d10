import { READ_ALL_ROLE, REPLICA_ROLE } from "../../model/database.ts";
import { resourceRule } from "../rule.ts";

interface Role {
  readonly name?: string;
  readonly login?: boolean;
  readonly superuser?: boolean;
  readonly createDatabase?: boolean;
  readonly createRole?: boolean;
  readonly replication?: boolean;
  readonly bypassRowLevelSecurity?: boolean;
  readonly connectionLimit?: number;
  readonly roles?: readonly string[];
}

/** Logins that dump: they read every row of the one database that they may connect to. */
const BACKUP_ROLE = /^backup_/;

/**
 * No role may more than its work needs: no superuser, no making of databases or roles, row security bypassed by backups alone, and every login has a limit of connections.
 *
 * Why: on a server that tenants share, any of these rights reaches beyond the tenant's own database.
 * Blind to: rights granted by hand; what a member may do through a role outside this stack.
 */
export const roleHasNoPower = resourceRule(
  {
    name: "role-has-no-power",
    description:
      "No role may more than its work needs: no superuser, no making of databases or roles, row security bypassed by backups alone, and every login has a limit of connections.",
    group: "isolation",
    severity: "critical",
    claims: ["F3", "X1"],
    references: ["PCI DSS 4.0.1 7.2.5", "SOC 2 CC6.3", "ISO 27001:2022 A.8.2"],
    remediation: "Take the right away; only the backup role reads past row security.",
    judges: (type) => type === "postgresql:index/role:Role",
  },
  (subject, report) => {
    if (subject.type !== "postgresql:index/role:Role") {
      return;
    }
    const role = subject.props as Role;
    const name = role.name ?? "";
    for (const right of ["superuser", "createDatabase", "createRole"] as const) {
      if (role[right] === true) {
        report(`${subject.name}: ${right} must be false, got true.`);
      }
    }
    if (role.replication === true && name !== REPLICA_ROLE) {
      report(`${subject.name}: replication must be ${REPLICA_ROLE}'s alone, got ${name}'s.`);
    }
    const isBackup = BACKUP_ROLE.test(name);
    if (role.bypassRowLevelSecurity === true && !isBackup) {
      report(
        `${subject.name}: bypassRowLevelSecurity must be a backup role's alone, got ${name}'s.`,
      );
    }
    for (const membership of role.roles ?? []) {
      if (membership.startsWith("pg_") && !(isBackup && membership === READ_ALL_ROLE)) {
        report(`${subject.name}: roles must name no role of the server's own, got ${membership}.`);
      }
    }
    if (role.login === true && !((role.connectionLimit ?? -1) > 0)) {
      report(
        `${subject.name}: a login must have a connectionLimit above 0, got ${role.connectionLimit ?? "none"}.`,
      );
    }
  },
);
