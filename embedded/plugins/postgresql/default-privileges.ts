/** Privileges on objects that an owner will make later. */
import type { BridgedResource } from "../bridged.ts";
import type { Properties } from "../provider.ts";
import { isUnknown } from "../values.ts";
import { about, flag, list, text, texts, unlessEmpty, without } from "./fields.ts";
import type { GetServer } from "./fields.ts";
import { checkPrivileges, samePrivileges } from "./privileges.ts";
import { quoteName } from "./server.ts";
import type { Server } from "./server.ts";

/** `pg_default_acl.defaclobjtype`, by objectType. */
const CATALOG_TYPES: { readonly [objectType: string]: string } = {
  table: "r",
  sequence: "S",
  function: "f",
  routine: "f",
  type: "T",
  schema: "n",
};

function idOf(properties: Properties): string {
  return [
    text(properties, "role"),
    text(properties, "database"),
    text(properties, "schema") || "noschema",
    text(properties, "owner"),
    text(properties, "objectType"),
  ].join("_");
}

function alter(properties: Properties): string {
  const schema = text(properties, "schema");
  return (
    `ALTER DEFAULT PRIVILEGES FOR ROLE ${quoteName(text(properties, "owner"))}` +
    (schema === "" ? "" : ` IN SCHEMA ${quoteName(schema)}`)
  );
}

/** Only object types of the table above reach a statement. */
function objects(properties: Properties): string {
  return `${text(properties, "objectType").toUpperCase()}S`;
}

function revoke(properties: Properties): string {
  const role = quoteName(text(properties, "role"));
  return `${alter(properties)} REVOKE ALL ON ${objects(properties)} FROM ${role}`;
}

async function readDefaults(
  server: Server,
  properties: Properties,
): Promise<Properties | undefined> {
  const database = text(properties, "database");
  const role = text(properties, "role");
  const schema = text(properties, "schema");
  const objectType = text(properties, "objectType");
  const found = await server.session((session) =>
    session.rows(
      `SELECT FROM pg_catalog.pg_database
       WHERE datname = $1 AND ($2 = 'public' OR EXISTS
         (SELECT FROM pg_catalog.pg_roles WHERE rolname = $2))`,
      [database, role],
    ),
  );
  if (found.length === 0) return undefined;
  const [row] = await server.session(
    (session) =>
      session.rows(
        `SELECT ARRAY(
           SELECT privilege_type FROM pg_catalog.pg_default_acl, aclexplode(defaclacl) AS acl
           WHERE defaclobjtype = $1 AND pg_get_userbyid(acl.grantor) = $2
             AND acl.grantee = COALESCE((SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $3), 0)
             AND defaclnamespace = CASE WHEN $4 = '' THEN 0 ELSE
               (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = $4) END
           ORDER BY 1) AS privileges`,
        [CATALOG_TYPES[objectType], text(properties, "owner"), role, schema],
      ),
    database,
  );
  const granted = texts(row?.["privileges"]);
  const wanted = list(properties, "privileges");
  if (granted.length === 0 && wanted.length > 0) return undefined;
  return {
    ...without(properties, "privileges"),
    ...unlessEmpty(
      "privileges",
      samePrivileges(objectType, granted, wanted) ? [...wanted].sort() : granted,
    ),
  };
}

/** `postgresql:index/defaultPrivileges:DefaultPrivileges`. */
export function defaultPrivilegesResource(getServer: GetServer): BridgedResource {
  const write = async (planned: Properties): Promise<Properties> => {
    const server = getServer();
    const subject = `DefaultPrivileges "${idOf(planned)}"`;
    const role = text(planned, "role");
    const objectType = text(planned, "objectType");
    const privileges = list(planned, "privileges");
    if (objectType === "schema" && text(planned, "schema") !== "") {
      throw new Error(
        `${subject}: schema must be absent when objectType is schema, got one. Leave it out.`,
      );
    }
    if (flag(planned, "withGrantOption") && role.toLowerCase() === "public") {
      throw new Error(
        `${subject}: withGrantOption must be false for the role public, got true. Leave it out.`,
      );
    }
    checkPrivileges(subject, objectType, privileges);
    return about(subject, "written", async () => {
      const grant =
        `${alter(planned)} GRANT ${privileges.join(", ")} ON ${objects(planned)} TO ${quoteName(role)}` +
        (flag(planned, "withGrantOption") ? " WITH GRANT OPTION" : "");
      await server.transaction(
        (session) =>
          server.asMemberOf(
            session,
            () => [text(planned, "owner")],
            () => session.run(revoke(planned), ...(privileges.length === 0 ? [] : [grant])),
          ),
        text(planned, "database"),
      );
      return (await readDefaults(server, planned)) ?? planned;
    });
  };
  return {
    properties: {
      database: { kind: "string", use: "required", forceNew: true },
      objectType: { kind: "string", use: "required", forceNew: true },
      owner: { kind: "string", use: "required", forceNew: true },
      privileges: { kind: "set", use: "required" },
      role: { kind: "string", use: "required", forceNew: true },
      schema: { kind: "string", use: "optional", forceNew: true },
      withGrantOption: { kind: "bool", use: "optional", default: false, forceNew: true },
    },
    checkInputs: (inputs) => {
      const { objectType } = inputs;
      return typeof objectType === "string" &&
        !isUnknown(objectType) &&
        !(objectType in CATALOG_TYPES)
        ? [
            {
              property: "objectType",
              reason: `expected objectType to be one of ${Object.keys(CATALOG_TYPES).join(", ")}, got ${objectType}`,
            },
          ]
        : [];
    },
    create: async (planned) => ({ id: idOf(planned), state: await write(planned) }),
    read: async (id, prior) =>
      about(`DefaultPrivileges "${id}"`, "read", () => readDefaults(getServer(), prior)),
    update: async (_id, _prior, planned) => write(planned),
    async delete(id, prior) {
      const server = getServer();
      await about(`DefaultPrivileges "${id}"`, "deleted", () =>
        server.transaction(
          (session) =>
            server.asMemberOf(
              session,
              () => [text(prior, "owner")],
              () => session.run(revoke(prior)),
            ),
          text(prior, "database"),
        ),
      );
    },
  };
}
