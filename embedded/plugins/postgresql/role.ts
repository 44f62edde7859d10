/** Roles: who may log in, with which limits, and whose member he is. */
import { createHash } from "node:crypto";
import type { BridgedResource } from "../bridged.ts";
import type { CheckFailure, Properties, Value } from "../provider.ts";
import { about, flag, list, number, text, texts, unlessEmpty } from "./fields.ts";
import type { GetServer } from "./fields.ts";
import { isVerifier, scramVerifier } from "./scram.ts";
import { quoteName, quoteText, sqlState } from "./server.ts";
import type { Server, Session } from "./server.ts";
import { AUTO_NAME } from "./auto-name.ts";

/** Attributes of CREATE and ALTER ROLE, by property. */
const FLAGS = {
  superuser: "SUPERUSER",
  createDatabase: "CREATEDB",
  createRole: "CREATEROLE",
  inherit: "INHERIT",
  login: "LOGIN",
  replication: "REPLICATION",
  bypassRowLevelSecurity: "BYPASSRLS",
} as const;

/** Settings of a role that are kept as configuration, by property; 0 means not set. */
const TIMEOUTS = {
  statementTimeout: "statement_timeout",
  idleInTransactionSessionTimeout: "idle_in_transaction_session_timeout",
} as const;

function changed(name: string, prior: Properties, planned: Properties): boolean {
  return JSON.stringify(prior[name] ?? null) !== JSON.stringify(planned[name] ?? null);
}

async function passwordClause(role: string, properties: Properties): Promise<string> {
  const password = text(properties, "password");
  if (password === "" || password.toUpperCase() === "NULL") return "PASSWORD NULL";
  if (!flag(properties, "encryptedPassword")) {
    throw new Error(
      `Role "${role}": encryptedPassword must be true since PostgreSQL 10, got false. Leave it out.`,
    );
  }
  return `ENCRYPTED PASSWORD ${quoteText(await scramVerifier(password))}`;
}

function flagClauses(properties: Properties, names: readonly (keyof typeof FLAGS)[]): string[] {
  return names.map((name) => `${flag(properties, name) ? "" : "NO"}${FLAGS[name]}`);
}

function validUntilClause(properties: Properties): string {
  const until = text(properties, "validUntil");
  return `VALID UNTIL ${quoteText(until.toLowerCase() === "infinity" ? "infinity" : until)}`;
}

/** ALTER ROLE statements for what a role keeps as configuration. */
function configuration(prior: Properties | undefined, planned: Properties): string[] {
  const alter = `ALTER ROLE ${quoteName(text(planned, "name"))}`;
  const statements: string[] = [];
  const searchPaths = list(planned, "searchPaths");
  const spaced = searchPaths.find((path) => path.includes(", "));
  if (spaced !== undefined) {
    throw new Error(
      `Role "${text(planned, "name")}": an element of searchPaths must not hold a comma and a space, got ` +
        `${spaced}. Give each schema as an element of its own.`,
    );
  }
  if (searchPaths.length > 0) {
    statements.push(`${alter} SET search_path TO ${searchPaths.map(quoteName).join(", ")}`);
  } else if (prior !== undefined) {
    statements.push(`${alter} RESET search_path`);
  }
  for (const [name, setting] of Object.entries(TIMEOUTS)) {
    const milliseconds = number(planned, name);
    if (milliseconds === number(prior ?? {}, name)) continue;
    statements.push(
      milliseconds === 0
        ? `${alter} RESET ${setting}`
        : `${alter} SET ${setting} TO ${Math.trunc(milliseconds)}`,
    );
  }
  const assumed = text(planned, "assumeRole");
  if (assumed !== text(prior ?? {}, "assumeRole")) {
    statements.push(
      assumed === "" ? `${alter} RESET role` : `${alter} SET role TO ${quoteName(assumed)}`,
    );
  }
  return statements;
}

function memberships(planned: Properties): string[] {
  const member = quoteName(text(planned, "name"));
  return list(planned, "roles").map((role) => `GRANT ${quoteName(role)} TO ${member}`);
}

async function createRole(server: Server, planned: Properties): Promise<void> {
  const name = text(planned, "name");
  const clauses = [
    ...(text(planned, "password") === "" ? [] : [await passwordClause(name, planned)]),
    ...(text(planned, "validUntil") === "" ? [] : [validUntilClause(planned)]),
    `CONNECTION LIMIT ${Math.trunc(number(planned, "connectionLimit"))}`,
    ...flagClauses(planned, Object.keys(FLAGS) as (keyof typeof FLAGS)[]),
  ];
  await server.transaction((session) =>
    session.run(
      `CREATE ROLE ${quoteName(name)} WITH ${clauses.join(" ")}`,
      ...memberships(planned),
      ...configuration(undefined, planned),
    ),
  );
}

async function updateRole(server: Server, prior: Properties, planned: Properties): Promise<void> {
  const before = text(prior, "name");
  const name = text(planned, "name");
  const renamed = before !== name;
  const clauses = [
    // A rename may clear the password, whose hash can hold the name.
    ...(renamed || changed("password", prior, planned)
      ? [await passwordClause(name, planned)]
      : []),
    ...(changed("validUntil", prior, planned) && text(planned, "validUntil") !== ""
      ? [validUntilClause(planned)]
      : []),
    ...(changed("connectionLimit", prior, planned)
      ? [`CONNECTION LIMIT ${Math.trunc(number(planned, "connectionLimit"))}`]
      : []),
    ...flagClauses(
      planned,
      (Object.keys(FLAGS) as (keyof typeof FLAGS)[]).filter(
        (flagName) => flag(prior, flagName) !== flag(planned, flagName),
      ),
    ),
  ];
  await server.transaction(async (session) => {
    // As the official plugin: memberships that the Role does not name are gone after any update.
    const granted = await session.rows(
      `SELECT pg_get_userbyid(roleid)::text AS role FROM pg_catalog.pg_auth_members
       WHERE member = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1)`,
      [before],
    );
    await session.run(
      ...(renamed ? [`ALTER ROLE ${quoteName(before)} RENAME TO ${quoteName(name)}`] : []),
      ...(clauses.length === 0 ? [] : [`ALTER ROLE ${quoteName(name)} WITH ${clauses.join(" ")}`]),
      ...granted.map((row) => `REVOKE ${quoteName(String(row["role"]))} FROM ${quoteName(name)}`),
      ...memberships(planned),
      ...configuration(prior, planned),
    );
  });
}

/** A setting's value in `rolconfig`. */
function setting(config: readonly string[], name: string): string | undefined {
  return config.find((entry) => entry.startsWith(`${name}=`))?.slice(name.length + 1);
}

/** A name as it is, from how the catalog quotes it. */
function unquoted(name: string): string {
  return /^".*"$/s.test(name) ? name.slice(1, -1).replaceAll('""', '"') : name;
}

async function readRole(
  server: Server,
  session: Session,
  name: string,
  prior: Properties,
): Promise<Properties | undefined> {
  const [row] = await session.rows(
    `SELECT r.*, COALESCE(rolvaliduntil::text, 'infinity') AS valid_until,
       ARRAY(SELECT pg_get_userbyid(roleid)::text FROM pg_catalog.pg_auth_members
             WHERE member = r.oid ORDER BY 1) AS roles
     FROM pg_catalog.pg_roles r WHERE rolname = $1`,
    [name],
  );
  if (row === undefined) return undefined;
  const config = texts(row["rolconfig"]);
  const searchPath = setting(config, "search_path");
  const login = row["rolcanlogin"] === true;
  const password = await readPassword(server, session, name, login, text(prior, "password"));
  return {
    name,
    ...(password === "" ? {} : { password }),
    connectionLimit: Number(row["rolconnlimit"]),
    encryptedPassword: true,
    validUntil: String(row["valid_until"]),
    superuser: row["rolsuper"] === true,
    createDatabase: row["rolcreatedb"] === true,
    createRole: row["rolcreaterole"] === true,
    inherit: row["rolinherit"] === true,
    login,
    replication: row["rolreplication"] === true,
    bypassRowLevelSecurity: row["rolbypassrls"] === true,
    skipDropRole: flag(prior, "skipDropRole"),
    skipReassignOwned: flag(prior, "skipReassignOwned"),
    assumeRole: unquoted(setting(config, "role") ?? ""),
    statementTimeout: Number(setting(config, TIMEOUTS.statementTimeout) ?? 0),
    idleInTransactionSessionTimeout: Number(
      setting(config, TIMEOUTS.idleInTransactionSessionTimeout) ?? 0,
    ),
    roles: texts(row["roles"]),
    searchPaths: searchPath === undefined ? [] : searchPath.split(", ").map(unquoted),
    ...(prior["encrypted"] === undefined ? {} : { encrypted: prior["encrypted"] }),
  };
}

/**
 * The password as the state should have it: the recorded one where the server's hash may be of it, else what the
 * server has, so that a change by hand shows. Only superusers may ask.
 */
async function readPassword(
  server: Server,
  session: Session,
  role: string,
  login: boolean,
  recorded: string,
): Promise<string> {
  if (!login || !server.settings.superuser) return recorded;
  const rows = await session
    .rows("SELECT COALESCE(passwd, '') AS hash FROM pg_catalog.pg_shadow WHERE usename = $1", [
      role,
    ])
    .catch((error: unknown) => {
      if (sqlState(error) !== "42501") throw error;
      throw new Error(
        `Role "${role}": its password can only be read by a superuser, got ${server.settings.user}. ` +
          `Set superuser to false in the provider's settings, so that it is not read.`,
        { cause: error },
      );
    });
  const found = rows[0]?.["hash"];
  const hash = typeof found === "string" ? found : "";
  if (recorded !== "" && !isVerifier(recorded)) {
    if (hash.startsWith("SCRAM-SHA-256$")) return recorded;
    const md5 = `md5${createHash("md5")
      .update(recorded + role)
      .digest("hex")}`;
    if (hash === md5) return recorded;
  }
  return hash;
}

async function deleteRole(server: Server, prior: Properties): Promise<void> {
  const name = text(prior, "name");
  await server.transaction(async (session) => {
    const found = await session.rows("SELECT FROM pg_catalog.pg_roles WHERE rolname = $1", [name]);
    // A delete that was cut off may have been done: that is what was wanted.
    if (found.length === 0) return;
    if (!flag(prior, "skipReassignOwned")) {
      const heir = quoteName(server.settings.databaseUser);
      await server.asMemberOf(
        session,
        () => [name],
        () =>
          session.run(
            `REASSIGN OWNED BY ${quoteName(name)} TO ${heir}`,
            `DROP OWNED BY ${quoteName(name)}`,
          ),
      );
    }
    if (!flag(prior, "skipDropRole")) await session.run(`DROP ROLE ${quoteName(name)}`);
  });
}

function atLeast(inputs: Properties, name: string, least: number): readonly CheckFailure[] {
  const value = inputs[name];
  return typeof value === "number" && (value < least || !Number.isInteger(value))
    ? [{ property: name, reason: `expected ${name} to be at least (${least}), got ${value}` }]
    : [];
}

/** Empty collections are null in what the official plugin answers to create and update, not to read. */
function written(state: Properties | undefined): Properties {
  const { roles = [], searchPaths = [], ...rest } = state ?? {};
  return {
    ...rest,
    ...unlessEmpty("roles", roles as Value[]),
    ...unlessEmpty("searchPaths", searchPaths as Value[]),
  };
}

/** `postgresql:index/role:Role`. */
export function roleResource(getServer: GetServer): BridgedResource {
  const readBack = async (name: string, planned: Properties): Promise<Properties> => {
    const server = getServer();
    return written(await server.session((session) => readRole(server, session, name, planned)));
  };
  return {
    properties: {
      assumeRole: { kind: "string", use: "optional" },
      bypassRowLevelSecurity: { kind: "bool", use: "optional", default: false },
      connectionLimit: { kind: "number", use: "optional", default: -1 },
      createDatabase: { kind: "bool", use: "optional", default: false },
      createRole: { kind: "bool", use: "optional", default: false },
      encrypted: { kind: "string", use: "optional" },
      encryptedPassword: { kind: "bool", use: "optional", default: true },
      idleInTransactionSessionTimeout: { kind: "number", use: "optional" },
      inherit: { kind: "bool", use: "optional", default: true },
      login: { kind: "bool", use: "optional", default: false },
      name: { kind: "string", use: "required", autoName: AUTO_NAME },
      password: { kind: "string", use: "optional", secret: true },
      passwordWo: { kind: "string", use: "optional", secret: true },
      passwordWoVersion: { kind: "string", use: "optional" },
      replication: { kind: "bool", use: "optional", default: false },
      roles: { kind: "set", use: "optional" },
      searchPaths: { kind: "list", use: "optional", terraformName: "search_path" },
      skipDropRole: { kind: "bool", use: "optional", default: false },
      skipReassignOwned: { kind: "bool", use: "optional", default: false },
      statementTimeout: { kind: "number", use: "optional" },
      superuser: { kind: "bool", use: "optional", default: false },
      validUntil: { kind: "string", use: "optional", default: "infinity" },
    },
    checkInputs: (inputs) => [
      ...atLeast(inputs, "connectionLimit", -1),
      ...atLeast(inputs, "statementTimeout", 0),
      ...atLeast(inputs, "idleInTransactionSessionTimeout", 0),
      ...["passwordWo", "passwordWoVersion"].flatMap((property) =>
        inputs[property] === undefined
          ? []
          : [
              {
                property,
                reason: `${property} is not in the embedded plugin. Use password, best as a SCRAM verifier.`,
              },
            ],
      ),
    ],
    modifyPlan({ planned, prior }) {
      // What is not set reads back as zero: that is no change.
      for (const name of ["assumeRole", ...Object.keys(TIMEOUTS)]) {
        const before = prior?.[name];
        if (planned[name] === undefined && (before === "" || before === 0)) planned[name] = before;
      }
      return { planned };
    },
    async create(planned) {
      const name = text(planned, "name");
      return about(`Role "${name}"`, "created", async () => {
        await createRole(getServer(), planned);
        return { id: name, state: await readBack(name, planned) };
      });
    },
    async read(id, prior) {
      const server = getServer();
      return about(`Role "${id}"`, "read", () =>
        server.session((session) => readRole(server, session, id, prior)),
      );
    },
    async update(_id, prior, planned) {
      const name = text(planned, "name");
      return about(`Role "${name}"`, "updated", async () => {
        await updateRole(getServer(), prior, planned);
        return readBack(name, planned);
      });
    },
    async delete(_id, prior) {
      const name = text(prior, "name");
      await about(`Role "${name}"`, "deleted", () => deleteRole(getServer(), prior));
    },
  };
}
