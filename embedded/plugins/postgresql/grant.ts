/** Privileges of one role on existing objects. */
import { crc32 } from "node:zlib";
import type { BridgedResource } from "../bridged.ts";
import type { Properties } from "../provider.ts";
import { isUnknown } from "../values.ts";
import { about, flag, list, text, texts, unlessEmpty, without } from "./fields.ts";
import type { GetServer } from "./fields.ts";
import { checkPrivileges, samePrivileges } from "./privileges.ts";
import { quoteName, quoteNames } from "./server.ts";
import type { Server, Session } from "./server.ts";

const OBJECT_TYPES = [
  "database",
  "function",
  "procedure",
  "routine",
  "schema",
  "sequence",
  "table",
  "foreign_data_wrapper",
  "foreign_server",
  "column",
] as const;
/** Those that lie in no schema. */
const OUTSIDE_SCHEMAS: readonly string[] = ["database", "foreign_data_wrapper", "foreign_server"];

/** Terraform's order of a set of strings, in which the official plugin puts them into ids. */
function inHashOrder(names: readonly string[]): readonly string[] {
  const key = (name: string) => String(crc32(name));
  return [...new Set(names)].sort((a, b) => (key(a) < key(b) ? -1 : 1));
}

function idOf(properties: Properties): string {
  const objectType = text(properties, "objectType");
  return [
    text(properties, "role"),
    text(properties, "database"),
    ...(OUTSIDE_SCHEMAS.includes(objectType) ? [] : [text(properties, "schema")]),
    objectType,
    ...inHashOrder(list(properties, "objects")),
    ...inHashOrder(list(properties, "columns")),
  ].join("_");
}

/** An object of a schema; a function may carry the types of its arguments, which stay as they are written. */
function qualified(subject: string, schema: string, object: string): string {
  const [, name = object, types = ""] = /^([^(]*)(\(.*)?$/s.exec(object) ?? [];
  if (types !== "" && !/^\([\w\s,."[\]]*\)$/.test(types)) {
    throw new Error(
      `${subject}: an element of objects must be a name, for functions with argument types in parentheses, ` +
        `got ${object}. Write it like sum_up(integer, text).`,
    );
  }
  return `${quoteName(schema)}.${quoteName(name)}${types}`;
}

/** What follows ON in a GRANT or REVOKE; none when there is no object to name. */
function target(subject: string, properties: Properties): string {
  const objectType = text(properties, "objectType");
  const schema = text(properties, "schema");
  const objects = inHashOrder(list(properties, "objects"));
  const named = objects.map((object) => qualified(subject, schema, object)).join(", ");
  switch (objectType) {
    case "database":
      return `DATABASE ${quoteName(text(properties, "database"))}`;
    case "schema":
      return `SCHEMA ${quoteName(schema)}`;
    case "foreign_data_wrapper":
      return `FOREIGN DATA WRAPPER ${quoteNames(objects)}`;
    case "foreign_server":
      return `FOREIGN SERVER ${quoteNames(objects)}`;
    case "column":
      return `TABLE ${named}`;
    default:
      return objects.length > 0
        ? `${objectType.toUpperCase()} ${named}`
        : `ALL ${objectType.toUpperCase()}S IN SCHEMA ${quoteName(schema)}`;
  }
}

/** The privileges of a statement; those on columns name the columns. */
function withColumns(privileges: readonly string[], properties: Properties): string {
  const columns = list(properties, "columns");
  return privileges
    .map((privilege) =>
      columns.length === 0 ? privilege : `${privilege} (${quoteNames(columns)})`,
    )
    .join(", ");
}

function revokeStatements(subject: string, properties: Properties): readonly string[] {
  const objectType = text(properties, "objectType");
  const privileges = list(properties, "privileges");
  const columns = objectType === "column";
  if (columns && privileges.length === 0) return [];
  // Named objects lose what was granted here only: privileges on their columns may be another grant's.
  const precise =
    columns ||
    (privileges.length > 0 &&
      list(properties, "objects").length > 0 &&
      !OUTSIDE_SCHEMAS.includes(objectType));
  const what = precise ? withColumns(privileges, properties) : "ALL PRIVILEGES";
  const role = quoteName(text(properties, "role"));
  return [`REVOKE ${what} ON ${target(subject, properties)} FROM ${role}`];
}

function grantStatements(subject: string, properties: Properties): readonly string[] {
  const privileges = list(properties, "privileges");
  if (privileges.length === 0) return [];
  return [
    `GRANT ${withColumns(privileges, properties)} ON ${target(subject, properties)} ` +
      `TO ${quoteName(text(properties, "role"))}` +
      (flag(properties, "withGrantOption") ? " WITH GRANT OPTION" : ""),
  ];
}

/** The rule that a grant's inputs break, if any. */
function brokenRule(properties: Properties): string | undefined {
  const objectType = text(properties, "objectType");
  const count = (name: string) => list(properties, name).length;
  if (text(properties, "schema") === "" && !OUTSIDE_SCHEMAS.includes(objectType)) {
    return `schema must be given when objectType is ${objectType}, got none`;
  }
  if (count("objects") > 0 && (objectType === "database" || objectType === "schema")) {
    return `objects must be absent when objectType is ${objectType}, got some`;
  }
  if (count("columns") > 0 !== (objectType === "column")) {
    return `columns must be given exactly when objectType is column, got ${count("columns")}`;
  }
  if (objectType === "column" && count("privileges") !== 1) {
    return `privileges must be exactly one when objectType is column, got ${count("privileges")}`;
  }
  const single = ["column", "foreign_data_wrapper", "foreign_server"].includes(objectType);
  if (single && count("objects") !== 1) {
    return `objects must be exactly one when objectType is ${objectType}, got ${count("objects")}`;
  }
  return undefined;
}

/** Whose objects they are: an administrator who is no superuser must be a member to change their privileges. */
async function owners(session: Session, properties: Properties): Promise<readonly string[]> {
  const objectType = text(properties, "objectType");
  if (OUTSIDE_SCHEMAS.includes(objectType)) return [];
  const rows = await session.rows(
    `SELECT pg_get_userbyid(CASE WHEN owner = 'pg_database_owner'::regrole THEN
         (SELECT datdba FROM pg_catalog.pg_database WHERE datname = current_database())
       ELSE owner END)::text AS owner
     FROM (SELECT nspowner AS owner FROM pg_catalog.pg_namespace WHERE nspname = $1
       UNION SELECT relowner FROM pg_catalog.pg_class
         JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace
         WHERE nspname = $1 AND relkind = 'r' AND $2) owners`,
    [text(properties, "schema"), objectType !== "schema"],
  );
  return rows.map((row) => String(row["owner"]));
}

/** Every object that the grant is about, with what the role may do with it. `$1` is the role's oid, 0 for public. */
function privilegesQuery(objectType: string): string {
  const granted = (acl: string) =>
    `ARRAY(SELECT DISTINCT privilege_type FROM aclexplode(${acl}) WHERE grantee = $1 ORDER BY 1)`;
  switch (objectType) {
    case "database":
      return `SELECT datname::text AS object, ${granted("datacl")} AS privileges
        FROM pg_catalog.pg_database WHERE datname = $2`;
    case "schema":
      return `SELECT nspname::text AS object, ${granted("nspacl")} AS privileges
        FROM pg_catalog.pg_namespace WHERE nspname = $2`;
    case "foreign_data_wrapper":
      return `SELECT fdwname::text AS object, ${granted("fdwacl")} AS privileges
        FROM pg_catalog.pg_foreign_data_wrapper WHERE fdwname = $2`;
    case "foreign_server":
      return `SELECT srvname::text AS object, ${granted("srvacl")} AS privileges
        FROM pg_catalog.pg_foreign_server WHERE srvname = $2`;
    case "table":
    case "sequence":
      return `SELECT relname::text AS object, ${granted("relacl")} AS privileges
        FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace
        WHERE nspname = $2 AND relkind = '${objectType === "table" ? "r" : "S"}' ORDER BY 1`;
    default:
      return `SELECT proname::text AS object, ${granted("proacl")} AS privileges
        FROM pg_catalog.pg_proc JOIN pg_catalog.pg_namespace n ON n.oid = pronamespace
        WHERE nspname = $2 ORDER BY 1`;
  }
}

const COLUMNS_QUERY = `SELECT attname::text AS column
  FROM pg_catalog.pg_attribute JOIN pg_catalog.pg_class c ON c.oid = attrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace, aclexplode(attacl) AS acl
  WHERE acl.grantee = $1 AND nspname = $2 AND relname = $3 AND privilege_type = $4`;

async function readGrant(server: Server, properties: Properties): Promise<Properties | undefined> {
  const database = text(properties, "database");
  const role = text(properties, "role");
  const schema = text(properties, "schema");
  const objectType = text(properties, "objectType");
  const wanted = list(properties, "privileges");
  const objects = list(properties, "objects");
  const columns = list(properties, "columns");
  const [known] = await server.session((session) =>
    session.rows(
      `SELECT COALESCE((SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $2), 0) AS oid
       FROM pg_catalog.pg_database
       WHERE datname = $1 AND ($2 = 'public' OR EXISTS
         (SELECT FROM pg_catalog.pg_roles WHERE rolname = $2))`,
      [database, role],
    ),
  );
  if (known === undefined) return undefined;
  const oid = known["oid"];
  const rest = without(properties, "privileges", "columns");
  const read = async (session: Session): Promise<Properties | undefined> => {
    if (schema !== "" && !OUTSIDE_SCHEMAS.includes(objectType)) {
      const found = await session.rows("SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1", [
        schema,
      ]);
      if (found.length === 0) return undefined;
    }
    if (objectType === "column") {
      const rows = await session.rows(COLUMNS_QUERY, [oid, schema, objects[0], wanted[0]]);
      const granted = rows.map((row) => String(row["column"]));
      return {
        ...rest,
        ...unlessEmpty("privileges", wanted),
        ...unlessEmpty("columns", columns.filter((column) => granted.includes(column)).sort()),
      };
    }
    const inSchema = !OUTSIDE_SCHEMAS.includes(objectType);
    const place = objectType === "database" ? database : inSchema ? schema : objects[0];
    const rows = await session.rows(privilegesQuery(objectType), [oid, place]);
    // Functions are named with the types of their arguments, or without.
    const plainNames = objects.map((object) => object.replace(/\(.*$/s, ""));
    const other = rows
      .filter((row) => plainNames.length === 0 || plainNames.includes(String(row["object"])))
      .map((row) => texts(row["privileges"]))
      .find((granted) => !samePrivileges(objectType, granted, wanted));
    return { ...rest, ...unlessEmpty("privileges", other ?? [...wanted].sort()) };
  };
  // What belongs to the whole server is asked where its locks are too.
  return objectType === "database" ? server.session(read) : server.session(read, database);
}

/** `postgresql:index/grant:Grant`. */
export function grantResource(getServer: GetServer): BridgedResource {
  const write = async (planned: Properties, statements: readonly string[]): Promise<Properties> => {
    const server = getServer();
    const subject = `Grant "${idOf(planned)}"`;
    const database = text(planned, "database");
    return about(subject, "written", async () => {
      await server.transaction(
        (session) =>
          server.asMemberOf(
            session,
            () => owners(session, planned),
            () => session.run(...statements),
          ),
        // All grants on databases are written under one lock, whatever their database.
        text(planned, "objectType") === "database" ? server.settings.database : database,
      );
      return (await readGrant(server, planned)) ?? planned;
    });
  };
  const checked = (planned: Properties): string => {
    const subject = `Grant "${idOf(planned)}"`;
    const broken = brokenRule(planned);
    if (broken !== undefined) throw new Error(`${subject}: ${broken}. Correct the inputs.`);
    checkPrivileges(subject, text(planned, "objectType"), list(planned, "privileges"));
    return subject;
  };
  return {
    properties: {
      columns: { kind: "set", use: "optional", forceNew: true },
      database: { kind: "string", use: "required", forceNew: true },
      objectType: { kind: "string", use: "required", forceNew: true },
      objects: { kind: "set", use: "optional", forceNew: true },
      privileges: { kind: "set", use: "required" },
      role: { kind: "string", use: "required", forceNew: true },
      schema: { kind: "string", use: "optional", forceNew: true },
      withGrantOption: { kind: "bool", use: "optional", default: false, forceNew: true },
    },
    checkInputs: (inputs) => {
      const { objectType } = inputs;
      return typeof objectType === "string" &&
        !isUnknown(objectType) &&
        !(OBJECT_TYPES as readonly string[]).includes(objectType)
        ? [
            {
              property: "objectType",
              reason: `expected objectType to be one of ${OBJECT_TYPES.join(", ")}, got ${objectType}`,
            },
          ]
        : [];
    },
    async create(planned) {
      const subject = checked(planned);
      const statements = [
        ...revokeStatements(subject, planned),
        ...grantStatements(subject, planned),
      ];
      return { id: idOf(planned), state: await write(planned, statements) };
    },
    read: async (id, prior) => about(`Grant "${id}"`, "read", () => readGrant(getServer(), prior)),
    async update(_id, prior, planned) {
      const subject = checked(planned);
      return write(planned, [
        ...revokeStatements(subject, prior),
        ...grantStatements(subject, planned),
      ]);
    },
    async delete(id, prior) {
      const server = getServer();
      await about(`Grant "${id}"`, "deleted", async () => {
        // With the role, the database or the schema gone its privileges are gone too.
        if ((await readGrant(server, prior)) === undefined) return;
        await write(prior, revokeStatements(`Grant "${id}"`, prior));
      });
    },
  };
}
