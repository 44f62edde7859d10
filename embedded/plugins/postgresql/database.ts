/** Databases. */
import type { BridgedResource } from "../bridged.ts";
import type { Properties } from "../provider.ts";
import { AUTO_NAME } from "./auto-name.ts";
import { about, flag, number, text } from "./fields.ts";
import type { GetServer } from "./fields.ts";
import { quoteName, quoteText } from "./server.ts";
import type { Server, Session } from "./server.ts";

/** The first server that drops a database together with its sessions. */
const DROP_WITH_FORCE = 130_000;

function isDefault(value: string): boolean {
  return value.toUpperCase() === "DEFAULT";
}

/** The clause of CREATE DATABASE for an option; nothing for one that is not given. */
function option(
  keyword: string,
  value: string,
  quote: (text: string) => string,
  otherwise = "",
): string {
  if (value === "") return otherwise === "" ? "" : `${keyword} ${otherwise}`;
  return `${keyword} ${isDefault(value) ? "DEFAULT" : quote(value)}`;
}

/**
 * Runs the work as a member of the owner, where the connected user is no superuser. There is no transaction: a
 * database cannot be made in one.
 */
async function asOwner<T>(
  server: Server,
  session: Session,
  owner: string,
  work: () => Promise<T>,
): Promise<T> {
  if (
    owner === "" ||
    owner === server.settings.databaseUser ||
    (await server.isSuperuser(session))
  ) {
    return work();
  }
  const member = await session.rows(
    `SELECT FROM pg_catalog.pg_auth_members
     WHERE pg_get_userbyid(roleid) = $1 AND pg_get_userbyid(member) = CURRENT_USER`,
    [owner],
  );
  if (member.length > 0) return work();
  await session.run(`GRANT ${quoteName(owner)} TO CURRENT_USER`);
  try {
    return await work();
  } finally {
    await session.run(`REVOKE ${quoteName(owner)} FROM CURRENT_USER`);
  }
}

async function createDatabase(server: Server, planned: Properties): Promise<void> {
  const owner = text(planned, "owner");
  const template = text(planned, "template");
  const statement = [
    `CREATE DATABASE ${quoteName(text(planned, "name"))}`,
    `OWNER ${quoteName(owner === "" ? server.settings.databaseUser : owner)}`,
    option("TEMPLATE", template, quoteName, "template0"),
    option("ENCODING", text(planned, "encoding"), quoteText, "'UTF8'"),
    option("LC_COLLATE", text(planned, "lcCollate"), quoteText),
    option("LC_CTYPE", text(planned, "lcCtype"), quoteText),
    option("TABLESPACE", text(planned, "tablespaceName"), quoteName),
    `ALLOW_CONNECTIONS ${flag(planned, "allowConnections")}`,
    `CONNECTION LIMIT ${Math.trunc(number(planned, "connectionLimit"))}`,
    `IS_TEMPLATE ${flag(planned, "isTemplate")}`,
  ];
  await server.retried(async () => {
    if (template !== "") await server.leave(template);
    await server.session((session) =>
      asOwner(server, session, owner, () => session.run(statement.join(" "))),
    );
  });
}

async function readDatabase(
  session: Session,
  name: string,
  prior: Properties,
): Promise<Properties | undefined> {
  const [row] = await session.rows(
    `SELECT d.*, pg_get_userbyid(datdba)::text AS owner, pg_encoding_to_char(encoding)::text AS charset,
       spcname::text AS tablespace
     FROM pg_catalog.pg_database d JOIN pg_catalog.pg_tablespace t ON t.oid = dattablespace
     WHERE datname = $1`,
    [name],
  );
  if (row === undefined) return undefined;
  const template = text(prior, "template");
  return {
    name,
    owner: String(row["owner"]),
    encoding: String(row["charset"]),
    lcCollate: String(row["datcollate"]),
    lcCtype: String(row["datctype"]),
    tablespaceName: String(row["tablespace"]),
    connectionLimit: Number(row["datconnlimit"]),
    allowConnections: row["datallowconn"] === true,
    isTemplate: row["datistemplate"] === true,
    // The catalog does not say what a database was copied from.
    template: template === "" ? "template0" : template,
    alterObjectOwnership: flag(prior, "alterObjectOwnership"),
  };
}

async function updateDatabase(
  server: Server,
  prior: Properties,
  planned: Properties,
): Promise<void> {
  const before = text(prior, "name");
  const name = text(planned, "name");
  const owner = text(planned, "owner");
  const alter = `ALTER DATABASE ${quoteName(name)}`;
  const changed = (property: string) => prior[property] !== planned[property];
  if (before !== name || changed("tablespaceName")) await server.leave(before);
  if (before !== name) {
    await server.retried(() =>
      server.session((session) =>
        session.run(`ALTER DATABASE ${quoteName(before)} RENAME TO ${quoteName(name)}`),
      ),
    );
  }
  if (changed("owner") && owner !== "") {
    if (flag(planned, "alterObjectOwnership")) {
      const heir = text(prior, "owner");
      await server.transaction(
        (session) =>
          server.asMemberOf(
            session,
            () => [heir, owner],
            () => session.run(`REASSIGN OWNED BY ${quoteName(heir)} TO ${quoteName(owner)}`),
          ),
        name,
      );
    }
    await server.retried(() =>
      server.session((session) =>
        asOwner(server, session, owner, () => session.run(`${alter} OWNER TO ${quoteName(owner)}`)),
      ),
    );
  }
  if (changed("tablespaceName")) {
    const tablespace = text(planned, "tablespaceName");
    await server.session((session) =>
      session.run(
        tablespace === "" || isDefault(tablespace)
          ? `${alter} SET TABLESPACE pg_default`
          : `${alter} SET TABLESPACE ${quoteName(tablespace)}`,
      ),
    );
  }
  const settings = [
    ...(changed("connectionLimit")
      ? [`CONNECTION LIMIT ${Math.trunc(number(planned, "connectionLimit"))}`]
      : []),
    ...(changed("allowConnections")
      ? [`ALLOW_CONNECTIONS ${flag(planned, "allowConnections")}`]
      : []),
    ...(changed("isTemplate") ? [`IS_TEMPLATE ${flag(planned, "isTemplate")}`] : []),
  ];
  if (settings.length > 0) {
    await server.transaction((session) => session.run(`${alter} WITH ${settings.join(" ")}`));
  }
}

async function deleteDatabase(server: Server, prior: Properties): Promise<void> {
  const name = text(prior, "name");
  await server.leave(name);
  await server.retried(() =>
    server.session(async (session) => {
      const [row] = await session.rows(
        `SELECT datistemplate, current_setting('server_version_num')::int AS version
         FROM pg_catalog.pg_database WHERE datname = $1`,
        [name],
      );
      // A delete that was cut off may have been done: that is what was wanted.
      if (row === undefined) return;
      await asOwner(server, session, text(prior, "owner"), async () => {
        const alter = `ALTER DATABASE ${quoteName(name)} ALLOW_CONNECTIONS false`;
        await session.run(row["datistemplate"] === true ? `${alter} IS_TEMPLATE false` : alter);
        await session.rows(
          `SELECT pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
           WHERE datname = $1 AND pid <> pg_backend_pid()`,
          [name],
        );
        const force = Number(row["version"]) >= DROP_WITH_FORCE ? " WITH (FORCE)" : "";
        await session.run(`DROP DATABASE IF EXISTS ${quoteName(name)}${force}`);
      });
    }),
  );
}

/** `postgresql:index/database:Database`. */
export function databaseResource(getServer: GetServer): BridgedResource {
  const readBack = async (name: string, prior: Properties): Promise<Properties> =>
    (await getServer().session((session) => readDatabase(session, name, prior))) ?? prior;
  return {
    properties: {
      allowConnections: { kind: "bool", use: "optional", default: true },
      alterObjectOwnership: { kind: "bool", use: "optional", default: false },
      connectionLimit: { kind: "number", use: "optional", default: -1 },
      encoding: { kind: "string", use: "optional+computed", forceNew: true },
      isTemplate: { kind: "bool", use: "optional+computed" },
      lcCollate: { kind: "string", use: "optional+computed", forceNew: true },
      lcCtype: { kind: "string", use: "optional+computed", forceNew: true },
      name: { kind: "string", use: "required", autoName: AUTO_NAME },
      owner: { kind: "string", use: "optional+computed" },
      tablespaceName: { kind: "string", use: "optional+computed" },
      template: { kind: "string", use: "optional+computed", forceNew: true },
    },
    checkInputs: (inputs) => {
      const limit = inputs["connectionLimit"];
      return typeof limit === "number" && (limit < -1 || !Number.isInteger(limit))
        ? [
            {
              property: "connectionLimit",
              reason: `expected connectionLimit to be at least (-1), got ${limit}`,
            },
          ]
        : [];
    },
    async create(planned) {
      const name = text(planned, "name");
      return about(`Database "${name}"`, "created", async () => {
        await createDatabase(getServer(), planned);
        return { id: name, state: await readBack(name, planned) };
      });
    },
    async read(id, prior) {
      return about(`Database "${id}"`, "read", () =>
        getServer().session((session) => readDatabase(session, id, prior)),
      );
    },
    async update(_id, prior, planned) {
      const name = text(planned, "name");
      return about(`Database "${name}"`, "updated", async () => {
        await updateDatabase(getServer(), prior, planned);
        return readBack(name, planned);
      });
    },
    async delete(_id, prior) {
      const name = text(prior, "name");
      await about(`Database "${name}"`, "deleted", () => deleteDatabase(getServer(), prior));
    },
  };
}
