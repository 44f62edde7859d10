import type { ResourceValidationPolicy } from "@pulumi/policy";
import { READ_ALL_ROLE, REPLICA_ROLE } from "../../model/database.ts";
import { failClosed } from "../fail-closed.ts";

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
export const roleHasNoPower: ResourceValidationPolicy = {
  name: "role-has-no-power",
  description:
    "No role may more than its work needs: no superuser, no making of databases or roles, row security bypassed by backups alone, and every login has a limit of connections.",
  enforcementLevel: "mandatory",
  validateResource: failClosed((args, report) => {
    if (args.type !== "postgresql:index/role:Role") {
      return;
    }
    const role = args.props as Role;
    const name = role.name ?? "";
    for (const right of ["superuser", "createDatabase", "createRole"] as const) {
      if (role[right] === true) {
        report(`${args.name}: ${right} must be false, got true.`);
      }
    }
    if (role.replication === true && name !== REPLICA_ROLE) {
      report(`${args.name}: replication must be ${REPLICA_ROLE}'s alone, got ${name}'s.`);
    }
    const isBackup = BACKUP_ROLE.test(name);
    if (role.bypassRowLevelSecurity === true && !isBackup) {
      report(`${args.name}: bypassRowLevelSecurity must be a backup role's alone, got ${name}'s.`);
    }
    for (const membership of role.roles ?? []) {
      if (membership.startsWith("pg_") && !(isBackup && membership === READ_ALL_ROLE)) {
        report(`${args.name}: roles must name no role of the server's own, got ${membership}.`);
      }
    }
    if (role.login === true && !((role.connectionLimit ?? -1) > 0)) {
      report(
        `${args.name}: a login must have a connectionLimit above 0, got ${role.connectionLimit ?? "none"}.`,
      );
    }
  }),
};
