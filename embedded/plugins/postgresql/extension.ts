/** Extensions. */
import type { BridgedResource } from "../bridged.ts";
import type { Properties } from "../provider.ts";
import { AUTO_NAME } from "./auto-name.ts";
import { about, flag, text } from "./fields.ts";
import type { GetServer } from "./fields.ts";
import { quoteName } from "./server.ts";
import type { Server } from "./server.ts";

async function readExtension(
  server: Server,
  database: string,
  name: string,
  prior: Properties,
): Promise<Properties | undefined> {
  const [row] = await server.session(
    (session) =>
      session.rows(
        `SELECT nspname::text AS schema, extversion AS version
         FROM pg_catalog.pg_extension JOIN pg_catalog.pg_namespace n ON n.oid = extnamespace
         WHERE extname = $1`,
        [name],
      ),
    database,
  );
  if (row === undefined) return undefined;
  return {
    name,
    database,
    schema: String(row["schema"]),
    version: String(row["version"]),
    createCascade: flag(prior, "createCascade"),
    dropCascade: flag(prior, "dropCascade"),
  };
}

/** `postgresql:index/extension:Extension`. */
export function extensionResource(getServer: GetServer): BridgedResource {
  const databaseOf = (properties: Properties) =>
    text(properties, "database") || getServer().settings.database;
  return {
    properties: {
      createCascade: { kind: "bool", use: "optional", default: false },
      database: { kind: "string", use: "optional+computed", forceNew: true },
      dropCascade: { kind: "bool", use: "optional", default: false },
      name: { kind: "string", use: "required", forceNew: true, autoName: AUTO_NAME },
      schema: { kind: "string", use: "optional+computed" },
      version: { kind: "string", use: "optional+computed" },
    },
    async create(planned) {
      const server = getServer();
      const database = databaseOf(planned);
      const name = text(planned, "name");
      const schema = text(planned, "schema");
      const version = text(planned, "version");
      return about(`Extension "${database}.${name}"`, "created", async () => {
        const statement =
          `CREATE EXTENSION IF NOT EXISTS ${quoteName(name)}` +
          (schema === "" ? "" : ` SCHEMA ${quoteName(schema)}`) +
          (version === "" ? "" : ` VERSION ${quoteName(version)}`) +
          (flag(planned, "createCascade") ? " CASCADE" : "");
        await server.transaction((session) => session.run(statement), database);
        const state = await readExtension(server, database, name, planned);
        return { id: `${database}.${name}`, state: state ?? planned };
      });
    },
    async read(id, prior) {
      const server = getServer();
      const [importedDatabase = "", ...rest] = id.split(".");
      const database = text(prior, "database") || importedDatabase;
      const name = text(prior, "name") || rest.join(".");
      return about(`Extension "${id}"`, "read", async () => {
        const found = await server.session((session) =>
          session.rows("SELECT FROM pg_catalog.pg_database WHERE datname = $1", [database]),
        );
        return found.length === 0 ? undefined : readExtension(server, database, name, prior);
      });
    },
    async update(id, prior, planned) {
      const server = getServer();
      const database = databaseOf(planned);
      const name = text(planned, "name");
      const alter = `ALTER EXTENSION ${quoteName(name)}`;
      const schema = text(planned, "schema");
      const version = text(planned, "version");
      return about(`Extension "${id}"`, "updated", async () => {
        const statements = [
          ...(schema === text(prior, "schema") ? [] : [`${alter} SET SCHEMA ${quoteName(schema)}`]),
          ...(version === text(prior, "version") || version === ""
            ? []
            : [`${alter} UPDATE TO ${quoteName(version)}`]),
        ];
        if (statements.length > 0) {
          await server.transaction((session) => session.run(...statements), database);
        }
        return (await readExtension(server, database, name, planned)) ?? planned;
      });
    },
    async delete(id, prior) {
      const server = getServer();
      await about(`Extension "${id}"`, "deleted", () =>
        server.transaction(
          (session) =>
            session.run(
              `DROP EXTENSION IF EXISTS ${quoteName(text(prior, "name"))} ` +
                (flag(prior, "dropCascade") ? "CASCADE" : "RESTRICT"),
            ),
          databaseOf(prior),
        ),
      );
    },
  };
}
