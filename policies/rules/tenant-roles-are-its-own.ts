import { PUBLIC_ROLE, READ_ALL_ROLE } from "../../model/database.ts";
import { stackRule } from "../rule.ts";
import { ofType, tenantsOf } from "../tenant-stack.ts";

interface InDatabase {
  readonly database?: string;
  readonly role?: string;
  readonly owner?: string;
}

/**
 * Every database, role, schema and grant of a tenant's stack bears the tenant's own names.
 *
 * Why: a role or a grant of another name is a way into another tenant's rows.
 * Blind to: grants made by hand, which the review of the live server finds.
 */
export const tenantRolesAreItsOwn = stackRule(
  {
    name: "tenant-roles-are-its-own",
    description:
      "Every database, role, schema and grant of a tenant's stack bears the tenant's own names.",
    group: "isolation",
    severity: "critical",
    claims: ["F1", "F3", "P6"],
    references: [
      "PCI DSS 4.0.1 A1.1.2",
      "PCI DSS 4.0.1 7.2.5",
      "SOC 2 CC6.1",
      "ISO 27001:2022 A.8.3",
    ],
    remediation: "Use the names that model/tenant-name.ts gives this tenant.",
  },
  (subjects, report) => {
    for (const { names } of tenantsOf(subjects)) {
      const roles = [names.database, names.ownerRole, names.appRole, names.backupRole];
      for (const { subject, props } of ofType<{ name?: string; roles?: readonly string[] }>(
        subjects,
        "postgresql:index/role:Role",
      )) {
        if (!roles.includes(props.name ?? "")) {
          report(
            `${subject.name}: name must be one of ${roles.join(", ")}, got ${props.name ?? "none"}.`,
            subject,
          );
        }
        for (const member of props.roles ?? []) {
          if (!roles.includes(member) && member !== READ_ALL_ROLE) {
            report(`${subject.name}: roles must be the tenant's own, got ${member}.`, subject);
          }
        }
      }
      for (const { subject, props } of ofType<{ name?: string }>(
        subjects,
        "postgresql:index/database:Database",
      )) {
        if (props.name !== names.database) {
          report(
            `${subject.name}: name must be ${names.database}, got ${props.name ?? "none"}.`,
            subject,
          );
        }
      }
      for (const type of ["grant:Grant", "defaultPrivileges:DefaultPrivileges", "schema:Schema"]) {
        for (const { subject, props } of ofType<InDatabase>(subjects, `postgresql:index/${type}`)) {
          if (props.database !== names.database) {
            report(
              `${subject.name}: database must be ${names.database}, got ${props.database ?? "none"}.`,
              subject,
            );
          }
          for (const role of [props.role, props.owner]) {
            if (role !== undefined && role !== PUBLIC_ROLE && !roles.includes(role)) {
              report(`${subject.name}: a role must be the tenant's own, got ${role}.`, subject);
            }
          }
        }
      }
    }
  },
);
