import type { StackValidationPolicy } from "@pulumi/policy";
import { DATABASES_OWNER_ROLE, PUBLIC_ROLE } from "../../model/database.ts";
import { failClosedStack } from "../fail-closed.ts";

interface Grant {
  readonly database?: string;
  readonly role?: string;
  readonly objectType?: string;
  readonly privileges?: readonly string[];
}

/**
 * Every database is owned by the platform and has every right of PUBLIC revoked.
 *
 * Why: PostgreSQL lets everyone connect to a new database, and its owner can let others in.
 * Blind to: the server's own rules of who may connect from where.
 */
export const databaseRefusesPublicConnect: StackValidationPolicy = {
  name: "database-refuses-public-connect",
  description: "Every database is owned by the platform and has every right of PUBLIC revoked.",
  enforcementLevel: "mandatory",
  validateStack: failClosedStack((args, report) => {
    const publicGrants = args.resources
      .filter(({ type }) => type === "postgresql:index/grant:Grant")
      .map(({ name, urn, props }) => ({ name, urn, grant: props as Grant }))
      .filter(({ grant }) => grant.role === PUBLIC_ROLE);
    const shut = new Set<string | undefined>();
    for (const { name, urn, grant } of publicGrants) {
      // The official provider answers an empty list as no list.
      const privileges = grant.privileges ?? [];
      if (privileges.length > 0) {
        report(`${name}: PUBLIC must have no right, got ${privileges.join(", ")}.`, urn);
      } else if (grant.objectType === "database") {
        shut.add(grant.database);
      }
    }
    for (const { type, name, urn, props } of args.resources) {
      if (type !== "postgresql:index/database:Database") {
        continue;
      }
      const database = props as { name?: string; owner?: string };
      if (!shut.has(database.name)) {
        report(
          `${name}: database ${database.name ?? "without a name"} must have a Grant that leaves PUBLIC nothing, got none.`,
          urn,
        );
      }
      if (database.owner !== DATABASES_OWNER_ROLE) {
        report(
          `${name}: owner must be ${DATABASES_OWNER_ROLE}, got ${database.owner ?? "none"}.`,
          urn,
        );
      }
    }
  }),
};
