/** Schemas. */
import type { BridgedResource } from "../bridged.ts";
import type { Properties } from "../provider.ts";
import { AUTO_NAME } from "./auto-name.ts";
import { about, flag, text } from "./fields.ts";
import type { GetServer } from "./fields.ts";
import { quoteName } from "./server.ts";
import type { Server } from "./server.ts";

async function databaseExists(server: Server, database: string): Promise<boolean> {
  const rows = await server.session((session) =>
    session.rows("SELECT FROM pg_catalog.pg_database WHERE datname = $1", [database]),
  );
  return rows.length > 0;
}

async function readSchema(
  server: Server,
  database: string,
  name: string,
  prior: Properties,
): Promise<Properties | undefined> {
  const [row] = await server.session(
    (session) =>
      session.rows(
        `SELECT pg_get_userbyid(nspowner)::text AS owner FROM pg_catalog.pg_namespace
         WHERE nspname = $1`,
        [name],
      ),
    database,
  );
  if (row === undefined) return undefined;
  return {
    name,
    database,
    owner: String(row["owner"]),
    ifNotExists: prior["ifNotExists"] ?? true,
    dropCascade: flag(prior, "dropCascade"),
    policies: [],
  };
}

async function createSchema(server: Server, database: string, planned: Properties): Promise<void> {
  const name = quoteName(text(planned, "name"));
  const owner = text(planned, "owner");
  await server.transaction(async (session) => {
    const [row] = await session.rows(
      `SELECT pg_get_userbyid(datdba)::text AS owner,
         EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1) AS found
       FROM pg_catalog.pg_database WHERE datname = current_database()`,
      [text(planned, "name")],
    );
    const owners = [String(row?.["owner"]), ...(owner === "" ? [] : [owner])];
    await server.asMemberOf(
      session,
      () => owners,
      async () => {
        if (row?.["found"] !== true) {
          await session.run(
            `CREATE SCHEMA ${name}${owner === "" ? "" : ` AUTHORIZATION ${quoteName(owner)}`}`,
          );
        } else if (owner !== "") {
          // As the official plugin: a schema that is there already is taken over.
          await session.run(`ALTER SCHEMA ${name} OWNER TO ${quoteName(owner)}`);
        }
      },
    );
  }, database);
}

/** `postgresql:index/schema:Schema`. */
export function schemaResource(getServer: GetServer): BridgedResource {
  const databaseOf = (properties: Properties) =>
    text(properties, "database") || getServer().settings.database;
  return {
    properties: {
      database: { kind: "string", use: "optional+computed", forceNew: true },
      dropCascade: { kind: "bool", use: "optional", default: false },
      ifNotExists: { kind: "bool", use: "optional", default: true },
      name: { kind: "string", use: "required", autoName: AUTO_NAME },
      owner: { kind: "string", use: "optional+computed" },
      policies: {
        kind: "set",
        use: "optional+computed",
        terraformName: "policy",
        fields: {
          create: { kind: "bool", use: "optional", default: false },
          createWithGrant: { kind: "bool", use: "optional", default: false },
          role: { kind: "string", use: "optional", default: "" },
          usage: { kind: "bool", use: "optional", default: false },
          usageWithGrant: { kind: "bool", use: "optional", default: false },
        },
      },
    },
    checkInputs: (inputs) =>
      Array.isArray(inputs["policies"]) && inputs["policies"].length > 0
        ? [
            {
              property: "policies",
              reason: "policies is not in the embedded plugin. Use a Grant of objectType schema.",
            },
          ]
        : [],
    async create(planned) {
      const server = getServer();
      const database = databaseOf(planned);
      const name = text(planned, "name");
      return about(`Schema "${database}.${name}"`, "created", async () => {
        await createSchema(server, database, planned);
        const state = await readSchema(server, database, name, planned);
        return { id: `${database}.${name}`, state: state ?? planned };
      });
    },
    async read(id, prior) {
      const server = getServer();
      const [importedDatabase = "", ...rest] = id.split(".");
      const database = text(prior, "database") || importedDatabase;
      const name = text(prior, "name") || rest.join(".");
      return about(`Schema "${id}"`, "read", async () =>
        (await databaseExists(server, database))
          ? readSchema(server, database, name, prior)
          : undefined,
      );
    },
    async update(_id, prior, planned) {
      const server = getServer();
      const database = databaseOf(planned);
      const name = text(planned, "name");
      const before = text(prior, "name");
      const owner = text(planned, "owner");
      return about(`Schema "${database}.${name}"`, "updated", async () => {
        const statements = [
          ...(before === name
            ? []
            : [`ALTER SCHEMA ${quoteName(before)} RENAME TO ${quoteName(name)}`]),
          ...(owner === text(prior, "owner")
            ? []
            : [`ALTER SCHEMA ${quoteName(name)} OWNER TO ${quoteName(owner)}`]),
        ];
        if (statements.length > 0) {
          await server.transaction(
            (session) =>
              server.asMemberOf(
                session,
                () => [text(prior, "owner"), owner],
                () => session.run(...statements),
              ),
            database,
          );
        }
        return (await readSchema(server, database, name, planned)) ?? planned;
      });
    },
    async delete(id, prior) {
      const server = getServer();
      const database = databaseOf(prior);
      await about(`Schema "${id}"`, "deleted", () =>
        server.transaction(
          (session) =>
            server.asMemberOf(
              session,
              () => [text(prior, "owner")],
              () =>
                session.run(
                  `DROP SCHEMA IF EXISTS ${quoteName(text(prior, "name"))} ` +
                    (flag(prior, "dropCascade") ? "CASCADE" : "RESTRICT"),
                ),
            ),
          database,
        ),
      );
    },
  };
}
