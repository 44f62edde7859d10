import { DATABASES_OWNER_ROLE, PUBLIC_ROLE } from "../../model/database.ts";
import { stackRule } from "../rule.ts";
import type { Subject } from "../rule.ts";
import { ofType } from "../tenant-stack.ts";

/** Databases that every server comes with. */
const SHIPPED_DATABASES = ["postgres", "template1"] as const;

interface Grant {
  readonly database?: string;
  readonly role?: string;
  readonly objectType?: string;
  readonly privileges?: readonly string[];
}

/**
 * Every database is owned by the platform and has every right of PUBLIC revoked, the shipped ones included.
 *
 * Why: PostgreSQL lets everyone connect to a new database, and its owner can let others in.
 * Blind to: the server's own rules of who may connect from where.
 */
export const databaseRefusesPublicConnect = stackRule(
  {
    name: "database-refuses-public-connect",
    description:
      "Every database is owned by the platform and has every right of PUBLIC revoked, the shipped ones included.",
    group: "isolation",
    severity: "critical",
    claims: ["F1", "F3", "P6"],
    references: [
      "PCI DSS 4.0.1 A1.1.2",
      "SOC 2 CC6.1",
      "ISO 27001:2022 A.8.3",
      "GDPR Art. 32(1)(b)",
    ],
    remediation:
      "Give the database to the platform's owner role and revoke everything from PUBLIC.",
  },
  (subjects, report) => {
    const publicGrants = subjects
      .filter(({ type }) => type === "postgresql:index/grant:Grant")
      .map((subject) => ({ subject, grant: subject.props as Grant }))
      .filter(({ grant }) => grant.role === PUBLIC_ROLE);
    const shut = new Set<string>();
    for (const { subject, grant } of publicGrants) {
      // The official provider answers an empty list as no list.
      const privileges = grant.privileges ?? [];
      if (privileges.length > 0) {
        report(
          `${subject.name}: PUBLIC must have no right, got ${privileges.join(", ")}.`,
          subject,
        );
      } else if (grant.objectType === "database") {
        shut.add(`${serverOf(subject)}/${grant.database ?? ""}`);
      }
    }
    for (const { subject, props } of ofType<{ name?: string; owner?: string }>(
      subjects,
      "postgresql:index/database:Database",
    )) {
      if (!shut.has(`${serverOf(subject)}/${props.name ?? ""}`)) {
        report(
          `${subject.name}: database ${props.name ?? "without a name"} must have a Grant that leaves PUBLIC nothing, got none.`,
          subject,
        );
      }
      if (props.owner !== DATABASES_OWNER_ROLE) {
        report(
          `${subject.name}: owner must be ${DATABASES_OWNER_ROLE}, got ${props.owner ?? "none"}.`,
          subject,
        );
      }
    }
    if (!subjects.some(({ type }) => type === "fluxbilling:fleet:DatabaseServer")) {
      return;
    }
    const servers = subjects
      .filter(({ type }) => type.startsWith("postgresql:"))
      .map((subject) => serverOf(subject));
    for (const server of new Set(servers)) {
      for (const database of SHIPPED_DATABASES) {
        if (!shut.has(`${server}/${database}`)) {
          report(
            `${server}: the shipped database ${database} must have a Grant that leaves PUBLIC nothing, got none.`,
          );
        }
      }
    }
  },
);

/** The server that a resource goes to, by the name of its provider. */
function serverOf({ provider }: Subject): string {
  return provider?.name ?? "none";
}
