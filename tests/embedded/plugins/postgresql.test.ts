import { spawn } from "node:child_process";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import type { BridgedProvider } from "../../../embedded/plugins/bridged.ts";
import { postgresqlProvider } from "../../../embedded/plugins/postgresql/postgresql-provider.ts";
import type { Properties } from "../../../embedded/plugins/provider.ts";
import { secret, unwrapSecrets } from "../../../embedded/plugins/values.ts";
import { startPostgres } from "../../support/postgres.ts";
import type { Postgres } from "../../support/postgres.ts";
import { ask, compare, recordedCalls, replay, testContext } from "./replay.ts";
import type { Call } from "./replay.ts";

const SERVER_SOURCE = join(import.meta.dirname, "../../../embedded/plugins/postgresql/server.ts");
const CANARY = "canary-password-8d2e";
const TYPES = {
  role: "postgresql:index/role:Role",
  database: "postgresql:index/database:Database",
  schema: "postgresql:index/schema:Schema",
  extension: "postgresql:index/extension:Extension",
  grant: "postgresql:index/grant:Grant",
  grantRole: "postgresql:index/grantRole:GrantRole",
  defaults: "postgresql:index/defaultPrivileges:DefaultPrivileges",
} as const;
type Kind = keyof typeof TYPES;

function isPure(call: Call): boolean {
  return (
    !["Create", "Update", "Delete", "Read"].includes(call.method) ||
    call.request["preview"] === true
  );
}

async function failure(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "no failure",
    (error: unknown) => (error instanceof Error ? error.message : String(error)),
  );
}

/** A resource of the plugin under test, as the engine handles it. */
interface Made {
  readonly kind: Kind;
  readonly id: string;
  readonly inputs: Properties;
  readonly outputs: Properties;
}

function at(kind: Kind) {
  return { urn: `urn:pulumi:s::p::${TYPES[kind]}::unit`, type: TYPES[kind], name: "unit" };
}

async function check(plugin: BridgedProvider, kind: Kind, news: Properties): Promise<Properties> {
  const { inputs, failures } = await plugin.check({ ...at(kind), news });
  if (inputs === undefined) throw new Error(JSON.stringify(failures));
  return inputs;
}

async function create(plugin: BridgedProvider, kind: Kind, news: Properties): Promise<Made> {
  const inputs = await check(plugin, kind, news);
  const { id, properties } = await plugin.create(
    { ...at(kind), properties: inputs },
    testContext(),
  );
  return { kind, id: id ?? "", inputs, outputs: properties };
}

async function update(plugin: BridgedProvider, made: Made, news: Properties): Promise<Made> {
  const { kind, id } = made;
  const inputs = await check(plugin, kind, news);
  const { properties } = await plugin.update(
    { ...at(kind), id, olds: made.outputs, oldInputs: made.inputs, news: inputs },
    testContext(),
  );
  return { kind, id, inputs, outputs: properties };
}

async function read(plugin: BridgedProvider, made: Made): Promise<Properties | undefined> {
  const { kind, id } = made;
  const answer = await plugin.read(
    { ...at(kind), id, properties: made.outputs, inputs: made.inputs },
    testContext(),
  );
  return (answer.id ?? "") === "" ? undefined : answer.properties;
}

/** What a refresh followed by a preview finds: nothing where all is as recorded. */
async function drift(plugin: BridgedProvider, made: Made): Promise<readonly string[]> {
  const found = await read(plugin, made);
  if (found === undefined) return ["gone"];
  const { diffs } = await plugin.diff({
    ...at(made.kind),
    id: made.id,
    olds: found,
    oldInputs: made.inputs,
    news: made.inputs,
  });
  return diffs ?? [];
}

async function remove(plugin: BridgedProvider, made: Made): Promise<void> {
  const { kind, id, outputs } = made;
  await plugin.delete({ ...at(kind), id, properties: outputs }, testContext());
}

describe("postgresqlProvider", () => {
  it("answers every recorded call that touches no server as the official plugin did", async () => {
    const calls = recordedCalls("postgresql").filter(isPure);
    expect(calls.length).toBe(164);
    expect(await replay(postgresqlProvider(), calls)).toEqual([]);
  });

  it("refuses a server that is no embedded machine", async () => {
    const plugin = postgresqlProvider();
    expect(await failure(plugin.configure({ args: { host: "192.0.2.7" } }, testContext()))).toBe(
      'Provider "postgresql": an embedded plugin must only reach loopback or the embedded machines, got ' +
        "192.0.2.7. Use the official provider plugin for it, or list an embedded machine's address in " +
        "FLUX_EMBEDDED_ADDRESSES.",
    );
  });

  it("names every setting that it does not have", async () => {
    const plugin = postgresqlProvider();
    const { failures } = await plugin.checkConfig({
      urn: "urn:pulumi:s::p::pulumi:providers:postgresql::unit",
      type: "pulumi:providers:postgresql",
      name: "unit",
      news: { awsRdsIamAuth: "true", scheme: "awspostgres", sslmode: "prefer", port: "x" },
    });
    expect(failures).toEqual([
      {
        property: "awsRdsIamAuth",
        reason: "awsRdsIamAuth is not in the embedded plugin. Use username and password.",
      },
      {
        property: "scheme",
        reason: "expected scheme to be postgres with the embedded plugin, got awspostgres",
      },
      {
        property: "sslmode",
        reason:
          "expected sslmode to be one of disable, require, verify-ca, verify-full, got prefer",
      },
      { property: "port", reason: "expected port to be a whole number from 0 on, got x" },
    ]);
  });
});

describe("resources on a real server", () => {
  let server: Postgres;
  let plugin: BridgedProvider;

  const configured = async (settings: Properties = {}): Promise<BridgedProvider> => {
    const provider = postgresqlProvider();
    await provider.configure(
      {
        args: {
          host: server.host,
          port: String(server.port),
          username: server.user,
          password: secret(server.password),
          sslmode: "verify-full",
          sslrootcert: server.certificate,
          superuser: "true",
          ...settings,
        },
      },
      testContext(),
    );
    return provider;
  };

  beforeAll(async () => {
    server = await startPostgres();
    plugin = await configured();
  });
  afterAll(async () => {
    await plugin.close();
    await server.stop();
  });
  afterEach(async () => {
    const sessions = await server.query(
      "SELECT wait_event, query FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'",
    );
    expect(sessions).toEqual([]);
  });

  it("answers every recorded create, read, update and delete as the official plugin did", async () => {
    const calls = recordedCalls("postgresql").filter((call) => !isPure(call));
    expect(calls.length).toBe(33);
    const lines: string[] = [];
    for (const call of calls) {
      const differences = compare(call, await ask(plugin, call));
      lines.push(
        ...differences.map(
          ({ path, expected, actual }) =>
            `${call.step} ${call.method} ${call.type}::${call.name} ${path}: ` +
            `expected ${JSON.stringify(expected)}, got ${JSON.stringify(actual)}`,
        ),
      );
    }
    expect(lines).toEqual([]);
    expect(await server.query("SELECT rolname FROM pg_roles WHERE rolname LIKE 'golden%'")).toEqual(
      [],
    );
    expect(
      await server.query("SELECT datname FROM pg_database WHERE datname LIKE 'golden%'"),
    ).toEqual([]);
  });

  it("makes roles that sign in with their password, which the server never hears", async () => {
    const made = await create(plugin, "role", { name: "signs_in", login: true, password: CANARY });
    expect(await server.signIn("signs_in", CANARY, "postgres")).toBe("signed in");
    expect(await server.signIn("signs_in", "wrong", "postgres")).toContain("authentication failed");
    expect(await drift(plugin, made)).toEqual([]);
    const changed = await update(plugin, made, {
      ...made.inputs,
      password: `${CANARY}-2`,
    });
    expect(await server.signIn("signs_in", `${CANARY}-2`, "postgres")).toBe("signed in");
    await remove(plugin, changed);
    expect(server.log()).not.toContain(CANARY);
  });

  it("stores a precomputed verifier as it is and notices when another takes its place", async () => {
    const verifier = (seed: string): string =>
      `SCRAM-SHA-256$4096:${Buffer.from(seed.padEnd(16)).toString("base64")}` +
      `$${Buffer.alloc(32, seed).toString("base64")}:${Buffer.alloc(32, seed).toString("base64")}`;
    const made = await create(plugin, "role", {
      name: "verified",
      login: true,
      password: verifier("a"),
    });
    const stored = "SELECT rolpassword AS hash FROM pg_authid WHERE rolname = 'verified'";
    expect(await server.query(stored)).toEqual([{ hash: verifier("a") }]);
    expect(await drift(plugin, made)).toEqual([]);
    await server.query(`ALTER ROLE verified PASSWORD '${verifier("b")}'`);
    expect(await drift(plugin, made)).toEqual(["password"]);
    await remove(plugin, made);
  });

  it("notices whatever else of a role is changed by hand", async () => {
    const made = await create(plugin, "role", {
      name: "watched",
      login: true,
      connectionLimit: 3,
      statementTimeout: 1_000,
      idleInTransactionSessionTimeout: 2_000,
      searchPaths: ["app", 'quo"ted', "public"],
      validUntil: "2040-01-01 00:00:00+00",
    });
    expect(await drift(plugin, made)).toEqual([]);
    await server.query(
      "ALTER ROLE watched CREATEDB CONNECTION LIMIT 4 VALID UNTIL '2041-01-01 00:00:00+00'; " +
        "ALTER ROLE watched SET statement_timeout TO 5; ALTER ROLE watched RESET search_path",
    );
    expect(await drift(plugin, made)).toEqual([
      "connectionLimit",
      "createDatabase",
      "searchPaths",
      "statementTimeout",
      "validUntil",
    ]);
    await server.query("DROP ROLE watched");
    expect(await drift(plugin, made)).toEqual(["gone"]);
    await remove(plugin, made);
  });

  it("keeps the memberships that a role names and revokes all others on any update", async () => {
    const group = await create(plugin, "role", { name: "group_a" });
    const other = await create(plugin, "role", { name: "group_b" });
    const made = await create(plugin, "role", { name: "member", roles: ["group_a"] });
    const membership = await create(plugin, "grantRole", { role: "member", grantRole: "group_b" });
    expect(membership.id).toBe("member_group_b_false");
    expect(await drift(plugin, membership)).toEqual([]);
    const updated = await update(plugin, made, {
      name: "member",
      roles: ["group_a"],
      connectionLimit: 5,
    });
    expect(updated.outputs["roles"]).toEqual(["group_a"]);
    expect(await drift(plugin, updated)).toEqual([]);
    expect(await drift(plugin, membership)).toEqual(["gone"]);
    const none = await update(plugin, updated, { name: "member" });
    expect(none.outputs["roles"]).toBeNull();
    for (const each of [membership, none, group, other]) await remove(plugin, each);
  });

  it("renames a role, with all its settings replaced", async () => {
    const made = await create(plugin, "role", {
      name: "old name",
      login: true,
      password: CANARY,
      statementTimeout: 9,
      assumeRole: "postgres",
    });
    const renamed = await update(plugin, made, { name: 'new"name', login: true, password: CANARY });
    expect(
      await server.query(
        "SELECT rolname, rolconfig, passwd IS NOT NULL AS password FROM pg_roles " +
          "JOIN pg_shadow ON rolname = usename WHERE rolname LIKE '%name'",
      ),
    ).toEqual([{ rolname: 'new"name', rolconfig: null, password: true }]);
    await remove(plugin, renamed);
  });

  it("says in one sentence that a name is taken, and how a cut-off run is taken up", async () => {
    const made = await create(plugin, "role", { name: "taken" });
    const wayOut =
      "If a run that was cut off made it, take it into the stack with pulumi import; else choose another name.";
    expect(
      await failure(create(plugin, "role", { name: "taken", login: true, password: CANARY })),
    ).toBe(
      'Role "taken": the server must let it be created, got: role "taken" already exists (42710). ' +
        wayOut,
    );
    expect(await failure(create(plugin, "database", { name: "postgres" }))).toBe(
      'Database "postgres": the server must let it be created, got: database "postgres" already exists (42P04). ' +
        wayOut,
    );
    await remove(plugin, made);
  });

  it("is deleted well when it is gone already", async () => {
    const role = await create(plugin, "role", { name: "gone_role" });
    const database = await create(plugin, "database", { name: "gone_database" });
    const schema = await create(plugin, "schema", { name: "s", database: "gone_database" });
    await remove(plugin, schema);
    await remove(plugin, schema);
    for (const each of [database, database, role, role]) await remove(plugin, each);
  });

  it("imports a role and a database as the server has them", async () => {
    const role = await create(plugin, "role", { name: "imported", login: true, password: CANARY });
    const answer = await plugin.read({ ...at("role"), id: "imported" }, testContext());
    expect(answer.id).toBe("imported");
    expect(unwrapSecrets(answer.properties ?? {})["password"]).toMatch(/^SCRAM-SHA-256\$/);
    expect(unwrapSecrets(answer.inputs ?? {})["name"]).toBe("imported");
    const { inputs } = await plugin.read({ ...at("database"), id: "template1" }, testContext());
    expect(inputs).toMatchObject({ name: "template1", isTemplate: true, owner: "postgres" });
    expect(await plugin.read({ ...at("role"), id: "nobody" }, testContext())).toEqual({});
    await remove(plugin, role);
  });

  it("changes a database in place, moves what it holds to a new owner and drops it under its sessions", async () => {
    const first = await create(plugin, "role", { name: "first_owner", login: true });
    const second = await create(plugin, "role", { name: "second_owner" });
    const made = await create(plugin, "database", { name: "moved", owner: "first_owner" });
    expect(made.outputs).toMatchObject({
      encoding: "UTF8",
      isTemplate: false,
      template: "template0",
      tablespaceName: "pg_default",
    });
    expect(await drift(plugin, made)).toEqual([]);
    await server
      .query("SET ROLE first_owner; CREATE TABLE t(); RESET ROLE", "moved")
      .catch(() => server.query("CREATE TABLE t(); ALTER TABLE t OWNER TO first_owner", "moved"));
    const changed = await update(plugin, made, {
      name: "renamed",
      owner: "second_owner",
      alterObjectOwnership: true,
      connectionLimit: 7,
      isTemplate: true,
    });
    expect(
      await server.query("SELECT tableowner FROM pg_tables WHERE tablename = 't'", "renamed"),
    ).toEqual([{ tableowner: "second_owner" }]);
    expect(
      await server.query(
        "SELECT datname, datconnlimit, datistemplate FROM pg_database WHERE datname IN ('moved', 'renamed')",
      ),
    ).toEqual([{ datname: "renamed", datconnlimit: 7, datistemplate: true }]);
    const busy = server
      .query("SELECT pg_sleep(60)", "renamed")
      .catch((error: Error) => error.message);
    await new Promise((resolve) => setTimeout(resolve, 200));
    await remove(plugin, changed);
    expect(await busy).toContain("terminating connection");
    await remove(plugin, first);
    await remove(plugin, second);
  });

  it("grants and revokes on every kind of object, and notices changes by hand", async () => {
    const role = await create(plugin, "role", { name: "grantee" });
    const database = await create(plugin, "database", { name: "granted" });
    await server.query(
      "CREATE SCHEMA app; CREATE TABLE app.one(a int, b int); CREATE TABLE app.three(c int); " +
        "CREATE SEQUENCE app.numbers; CREATE FUNCTION app.f(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
      "granted",
    );
    const base = { database: "granted", role: "grantee" };
    const cases: readonly [Properties, string, string][] = [
      [
        { objectType: "database", privileges: ["CONNECT", "TEMPORARY"] },
        "grantee_granted_database",
        "REVOKE CONNECT ON DATABASE granted FROM grantee",
      ],
      [
        { objectType: "schema", schema: "app", privileges: ["USAGE"] },
        "grantee_granted_app_schema",
        "GRANT CREATE ON SCHEMA app TO grantee",
      ],
      [
        { objectType: "table", schema: "app", privileges: ["SELECT", "INSERT"] },
        "grantee_granted_app_table",
        "REVOKE SELECT ON app.three FROM grantee",
      ],
      [
        { objectType: "sequence", schema: "app", privileges: ["ALL"] },
        "grantee_granted_app_sequence",
        "REVOKE USAGE ON SEQUENCE app.numbers FROM grantee",
      ],
      [
        { objectType: "function", schema: "app", objects: ["f(int)"], privileges: ["EXECUTE"] },
        "grantee_granted_app_function_f(int)",
        "REVOKE EXECUTE ON FUNCTION app.f(int) FROM grantee",
      ],
    ];
    for (const [inputs, id, change] of cases) {
      const made = await create(plugin, "grant", { ...base, ...inputs });
      expect(made.id).toBe(id);
      expect(await drift(plugin, made)).toEqual([]);
      await server.query(change, "granted");
      expect(await drift(plugin, made)).toEqual(["privileges"]);
      const mended = await update(plugin, made, { ...base, ...inputs });
      expect(await drift(plugin, mended)).toEqual([]);
      await remove(plugin, mended);
    }
    const tables = await create(plugin, "grant", {
      ...{ ...base, objectType: "table", schema: "app" },
      ...{ objects: ["one", "three"], privileges: ["SELECT"], withGrantOption: true },
    });
    // Terraform's order of a set: by hash.
    expect(tables.id).toBe("grantee_granted_app_table_three_one");
    const columns = await create(plugin, "grant", {
      ...{ ...base, objectType: "column", schema: "app", objects: ["one"] },
      ...{ columns: ["a", "b"], privileges: ["UPDATE"] },
    });
    expect(await drift(plugin, columns)).toEqual([]);
    await server.query("REVOKE UPDATE (b) ON app.one FROM grantee", "granted");
    expect(await drift(plugin, columns)).toEqual(["columns"]);
    await remove(plugin, columns);
    await remove(plugin, tables);
    await remove(plugin, database);
    await remove(plugin, role);
  });

  it("sets default privileges and notices their loss", async () => {
    const owner = await create(plugin, "role", { name: "maker" });
    const reader = await create(plugin, "role", { name: "reader" });
    const database = await create(plugin, "database", { name: "defaults" });
    const made = await create(plugin, "defaults", {
      ...{ database: "defaults", role: "reader", owner: "maker" },
      ...{ objectType: "sequence", privileges: ["USAGE", "SELECT"] },
    });
    expect(made.id).toBe("reader_defaults_noschema_maker_sequence");
    expect(await drift(plugin, made)).toEqual([]);
    await server.query(
      "ALTER DEFAULT PRIVILEGES FOR ROLE maker REVOKE USAGE ON SEQUENCES FROM reader",
      "defaults",
    );
    expect(await drift(plugin, made)).toEqual(["privileges"]);
    await remove(plugin, made);
    expect(await drift(plugin, made)).toEqual(["gone"]);
    for (const each of [database, reader, owner]) await remove(plugin, each);
  });

  it("refuses grants that could not mean what they say", async () => {
    const grant = (rest: Properties) =>
      failure(create(plugin, "grant", { database: "postgres", role: "postgres", ...rest }));
    expect(await grant({ objectType: "table", privileges: ["SELECT"] })).toBe(
      'Grant "postgres_postgres__table": schema must be given when objectType is table, got none. Correct the inputs.',
    );
    expect(
      await grant({ objectType: "database", privileges: ["CONNECT; DROP ROLE postgres"] }),
    ).toBe(
      'Grant "postgres_postgres_database": a privilege on a database must be one of ALL, CREATE, CONNECT, ' +
        "TEMPORARY, got CONNECT; DROP ROLE postgres. Write it in capitals, or choose another objectType.",
    );
    expect(
      await grant({
        ...{ objectType: "function", schema: "s", privileges: ["EXECUTE"] },
        objects: ["f(int) TO PUBLIC; --"],
      }),
    ).toBe(
      'Grant "postgres_postgres_s_function_f(int) TO PUBLIC; --": an element of objects must be a name, for ' +
        "functions with argument types in parentheses, got f(int) TO PUBLIC; --. Write it like " +
        "sum_up(integer, text).",
    );
  });

  it("checks the server's certificate as sslmode says", async () => {
    const reads = async (settings: Properties): Promise<string> => {
      const other = await configured(settings);
      const said = await failure(other.read({ ...at("role"), id: "postgres" }, testContext()));
      await other.close();
      return said;
    };
    expect(await reads({})).toBe("no failure");
    expect(await reads({ sslmode: "require", sslrootcert: "" })).toBe("no failure");
    expect(await reads({ sslmode: "verify-ca", host: "localhost" })).toBe("no failure");
    expect(await reads({ sslmode: "verify-full", host: "localhost" })).toContain(
      "with sslmode verify-full, got: Hostname/IP does not match certificate's altnames",
    );
    expect(await reads({ sslmode: "verify-full", sslrootcert: "" })).toContain(
      "with sslmode verify-full, got: self-signed certificate",
    );
    expect(await reads({ sslrootcert: "/no/such/file" })).toContain(
      'Provider "postgresql": sslrootcert must be a file that can be read, got /no/such/file',
    );
    const wrong = await reads({ password: CANARY });
    expect(wrong).toContain('password authentication failed for user "postgres"');
    expect(wrong).not.toContain(CANARY);
  });

  it("works for an administrator who is no superuser", async () => {
    await server.query("CREATE ROLE manager LOGIN CREATEDB CREATEROLE PASSWORD 'manager-password'");
    const manager = await configured({
      username: "manager",
      password: "manager-password",
      superuser: "false",
    });
    const owner = await create(manager, "role", { name: "lesser_owner" });
    const reader = await create(manager, "role", {
      name: "lesser_reader",
      login: true,
      password: "x",
    });
    const database = await create(manager, "database", { name: "lesser", owner: "lesser_owner" });
    const schema = await create(manager, "schema", {
      ...{ name: "app", database: "lesser", owner: "lesser_owner" },
    });
    const usage = await create(manager, "grant", {
      ...{ database: "lesser", role: "lesser_reader", schema: "app" },
      ...{ objectType: "schema", privileges: ["USAGE"] },
    });
    const defaults = await create(manager, "defaults", {
      ...{ database: "lesser", role: "lesser_reader", owner: "lesser_owner", schema: "app" },
      ...{ objectType: "table", privileges: ["SELECT"] },
    });
    for (const each of [owner, reader, database, schema, usage, defaults]) {
      expect(await drift(manager, each)).toEqual([]);
    }
    const left =
      "SELECT count(*)::int AS left FROM pg_auth_members WHERE pg_get_userbyid(member) = 'manager'";
    expect(await server.query(left)).toEqual([{ left: 0 }]);
    for (const each of [defaults, usage, schema, database, reader, owner]) {
      await remove(manager, each);
    }
    await manager.close();
    await server.query("DROP ROLE manager");
  });

  it("deploys twenty tenants at once from five plugins without a clash", async () => {
    const plugins = await Promise.all(Array.from({ length: 5 }, () => configured()));
    const tenant = async (n: number): Promise<Made[]> => {
      const provider = plugins[n % plugins.length] ?? plugin;
      const name = `tenant_${n}`;
      const group = await create(provider, "role", { name });
      const [app, backup] = await Promise.all([
        create(provider, "role", {
          ...{ name: `${name}_app`, login: true, password: CANARY, roles: [name] },
        }),
        create(provider, "role", { name: `${name}_backup`, roles: [name, "pg_read_all_data"] }),
      ]);
      const database = await create(provider, "database", { name, owner: "postgres" });
      const grant = (role: string, rest: Properties) =>
        create(provider, "grant", { database: name, role, ...rest });
      const grants = await Promise.all([
        grant("public", { objectType: "database", privileges: [] }),
        grant(`${name}_app`, { objectType: "database", privileges: ["CONNECT"] }),
        grant(`${name}_backup`, { objectType: "database", privileges: ["CONNECT"] }),
        grant("public", { objectType: "schema", schema: "public", privileges: [] }),
        grant(`${name}_app`, { objectType: "schema", schema: "public", privileges: ["USAGE"] }),
        grant(`${name}_backup`, { objectType: "schema", schema: "public", privileges: ["USAGE"] }),
      ]);
      return [...grants, database, app, backup, group];
    };
    const tenants = await Promise.all(Array.from({ length: 20 }, (_, n) => tenant(n)));
    const drifts = await Promise.all(tenants.flat().map((made) => drift(plugin, made)));
    expect(drifts.flat()).toEqual([]);
    await Promise.all(
      tenants.map(async (all, n) => {
        for (const made of all) await remove(plugins[n % plugins.length] ?? plugin, made);
      }),
    );
    await Promise.all(plugins.map((provider) => provider.close()));
    expect(
      await server.query("SELECT rolname FROM pg_roles WHERE rolname LIKE 'tenant_%'"),
    ).toEqual([]);
  });

  it("leaves no statement running when its process is killed", async () => {
    const program = `
      import { Server } from ${JSON.stringify(pathToFileURL(SERVER_SOURCE).href)};
      const server = new Server(${JSON.stringify({
        ...{ host: server.host, port: server.port, user: server.user, password: server.password },
        ...{ databaseUser: server.user, database: "postgres", sslMode: "require" },
        ...{ superuser: true, maxConnections: 0, connectTimeoutSeconds: 10 },
      })});
      await server.session((session) => session.run("SELECT pg_sleep(60)"));`;
    const child = spawn(process.execPath, ["--input-type=module", "--eval", program], {
      stdio: "ignore",
    });
    const running = async () => {
      const rows = await server.query(
        "SELECT pid FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'",
      );
      return rows.length;
    };
    await vi.waitUntil(async () => (await running()) === 1, 60_000);
    child.kill("SIGKILL");
    await vi.waitUntil(async () => (await running()) === 0, 20_000);
  });

  it("closes every connection when it is closed", async () => {
    const other = await configured();
    await read(other, await create(other, "role", { name: "short_lived" }));
    await other.delete(
      { ...at("role"), id: "short_lived", properties: { name: "short_lived" } },
      testContext(),
    );
    await plugin.close();
    await other.close();
    plugin = await configured();
    const open =
      "SELECT count(*)::int AS open FROM pg_stat_activity WHERE application_name = 'embedded-pulumi-postgresql'";
    expect(await server.query(open)).toEqual([{ open: 0 }]);
  });

  it("never shows a password in the server's log", () => {
    expect(server.log()).toContain("CREATE ROLE");
    expect(server.log()).not.toContain(CANARY);
  });
});
