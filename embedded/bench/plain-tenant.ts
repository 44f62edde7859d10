import { execFile } from "node:child_process";
import { mkdtemp, mkdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

import { runOnStack } from "../deploy.ts";
import type { LocalStack } from "../local-fleet.ts";
import { asOperator, type MachineFacts, type PlatformFacts } from "../machines/platform.ts";
import { BIN } from "../paths.ts";

const run = promisify(execFile);

interface Recorded {
  readonly type: string;
  readonly inputs?: Manifest;
}

type Manifest = {
  [key: string]: unknown;
  metadata?: { name?: string; namespace?: string };
};

/** The objects of a deployed tenant, made once more under another name by other tools. */
export interface PlainTenant {
  /** `psql` for roles and database, then one `kubectl apply`, then the wait for the application. */
  byKubectl(): Promise<void>;
  /** `psql` for roles and database, then one `helm install --wait`. */
  byHelm(): Promise<void>;
  remove(): Promise<void>;
}

/**
 * Takes the objects that a tenant's stack recorded and renames them: what is compared is the very same set.
 *
 * @param name tenant name to give them
 */
export async function plainTenant(
  stack: LocalStack,
  facts: PlatformFacts,
  name: string,
): Promise<PlainTenant> {
  const exported = await runOnStack(["stack", "export", "--show-secrets"], stack, facts);
  const tenant = stack.name.split(".").at(-1) ?? "";
  const renamed = exported.stdout
    .replaceAll(tenant, name)
    .replaceAll(tenant.replaceAll("-", "_"), name.replaceAll("-", "_"));
  const { deployment } = JSON.parse(renamed) as { deployment: { resources: Recorded[] } };
  const objects = deployment.resources
    .filter(({ type }) => type.startsWith("kubernetes:"))
    .map(({ inputs }) => plain(inputs) as Manifest)
    .map(withoutMarks);
  const namespace = `tenant-${name}`;
  const machine = facts.machines["nl-1"];
  const folder = await mkdtemp(join(tmpdir(), "bench-"));
  const manifest = join(folder, "manifest.json");
  await writeFile(manifest, JSON.stringify({ apiVersion: "v1", kind: "List", items: objects }), {
    mode: 0o600,
  });
  const chart = await writeChart(folder, objects);
  const verifiers = deployment.resources
    .filter(({ type }) => type === "postgresql:index/role:Role")
    .map(({ inputs }) => plain(inputs) as { name: string; password?: string });
  const sql = databaseSql(name, (role) => {
    const verifier = verifiers.find((candidate) => candidate.name === role)?.password;
    if (verifier === undefined) throw new Error(`Role ${role} must have a password`);
    return `password '${verifier}'`;
  });
  const rollout = [
    "rollout",
    "status",
    "deployment/app",
    "--namespace",
    namespace,
    "--timeout=60s",
  ];
  const made: PlainTenant = {
    byKubectl: async () => {
      await psql(machine, facts, sql.create);
      await kubectl(machine, facts, ["apply", "--filename", manifest]);
      await kubectl(machine, facts, rollout);
    },
    byHelm: async () => {
      await psql(machine, facts, sql.create);
      await helm(machine, facts, ["install", name, chart, "--namespace", "default", "--wait"]);
    },
    remove: async () => {
      await helm(machine, facts, [
        "uninstall",
        name,
        "--namespace",
        "default",
        "--ignore-not-found",
      ]);
      await kubectl(machine, facts, ["delete", "namespace", namespace, "--ignore-not-found"]);
      await psql(machine, facts, sql.drop);
    },
  };
  // A bench that was cut off has left it there.
  await made.remove();
  return made;
}

/** Secrets as the values that they hold. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  if ("plaintext" in value) return plain(JSON.parse(value.plaintext as string));
  return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, plain(entry)]));
}

/** Takes out what only the engine's provider writes. */
function withoutMarks(manifest: Manifest): Manifest {
  return Object.fromEntries(Object.entries(manifest).filter(([key]) => !key.startsWith("__")));
}

/** The roles, database and grants of a tenant, in as few statements as a person would write. */
function databaseSql(
  name: string,
  password: (role: string) => string,
): { create: string; drop: string } {
  const id = name.replaceAll("-", "_");
  const database = `tenant_${id}`;
  const [app, backup] = [`app_${id}`, `backup_${id}`];
  return {
    create: `
      create role ${database} nologin;
      create role owner_${id} nologin;
      create role ${app} login noinherit connection limit 10 in role ${database}, owner_${id} ${password(app)};
      create role ${backup} login bypassrls connection limit 2 in role ${database}, pg_read_all_data ${password(backup)};
      create database ${database} template template0 encoding 'UTF8' lc_collate 'C.UTF-8' lc_ctype 'C.UTF-8';
      revoke all on database ${database} from public;
      grant connect on database ${database} to ${app}, ${backup};
      \\connect ${database}
      revoke all on schema public from public;
      create schema app authorization owner_${id};
      grant usage on schema app to ${app};
      alter default privileges for role owner_${id} in schema app
        grant select, insert, update, delete on tables to ${app};
      alter default privileges for role owner_${id} in schema app grant select, usage on sequences to ${app};`,
    drop: `
      drop database if exists ${database} with (force);
      drop role if exists ${app}, ${backup}, owner_${id}, ${database};`,
  };
}

async function writeChart(folder: string, objects: readonly Manifest[]): Promise<string> {
  const chart = join(folder, "chart");
  await mkdir(join(chart, "templates"), { recursive: true });
  await writeFile(join(chart, "Chart.yaml"), "apiVersion: v2\nname: tenant\nversion: 1.0.0\n");
  await Promise.all(
    objects.map((object, index) =>
      // Braces in values are text, not templates.
      writeFile(
        join(chart, "templates", `${index}.yaml`),
        JSON.stringify(object).replaceAll("{{", '{{ "{{" }}'),
        { mode: 0o600 },
      ),
    ),
  );
  return chart;
}

async function kubectl(
  machine: MachineFacts,
  facts: PlatformFacts,
  args: readonly string[],
): Promise<void> {
  await inOperator(facts, [join(BIN, "kubectl"), "--kubeconfig", kubeconfig(machine), ...args]);
}

async function helm(
  machine: MachineFacts,
  facts: PlatformFacts,
  args: readonly string[],
): Promise<void> {
  await inOperator(facts, [join(BIN, "helm"), "--kubeconfig", kubeconfig(machine), ...args]);
}

async function psql(machine: MachineFacts, facts: PlatformFacts, sql: string): Promise<void> {
  const { postgres } = machine;
  if (postgres === undefined) throw new Error(`Machine ${machine.name} must have a PostgreSQL`);
  const environment = {
    PGHOST: postgres.host,
    PGPORT: String(postgres.port),
    PGUSER: postgres.adminUser,
    PGDATABASE: "postgres",
    PGPASSWORD: (await readFile(postgres.adminPasswordFile, "utf8")).trim(),
    PGSSLMODE: "verify-full",
    PGSSLROOTCERT: postgres.caFile,
  };
  await inOperator(
    facts,
    ["psql", "--quiet", "--no-psqlrc", "--set", "ON_ERROR_STOP=1"],
    environment,
    sql,
  );
}

function kubeconfig({ name, cluster }: MachineFacts): string {
  if (cluster === undefined) throw new Error(`Machine ${name} must have a cluster`);
  return cluster.kubeconfigFile;
}

async function inOperator(
  facts: PlatformFacts,
  argv: readonly string[],
  env: NodeJS.ProcessEnv = {},
  input = "",
): Promise<void> {
  const [command = "", ...args] = asOperator(argv, facts);
  const child = run(command, args, { env: { ...process.env, ...env } });
  child.child.stdin?.end(input);
  await child;
}
