import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { preview, settle } from "./deploy.ts";
import { pulumiEnvironment, takesSettings } from "./engine/engine.ts";
import { PULUMI_BIN } from "./engine/plugins.ts";
import { policyPack } from "./engine/policy-pack.ts";
import { type LocalStack, localStackOf } from "./local-fleet.ts";
import {
  asOperator,
  type MachineFacts,
  type PlatformFacts,
  platformFacts,
} from "./machines/platform.ts";
import { BIN } from "./paths.ts";
import { PlatformError } from "./platform-error.ts";

/** `npm run shell -- <machine> [command …]`: a shell on a machine, over SSH, its host key pinned. */
export async function shell(args: readonly string[]): Promise<number> {
  const { facts, machine, rest } = await machineOf(args);
  const { ssh } = machine;
  return inOperator(facts, [
    "ssh",
    "-q",
    ...["-i", ssh.privateKeyFile, "-p", String(ssh.port), "-o", "IdentitiesOnly=yes"],
    ...["-o", "StrictHostKeyChecking=yes", "-o", "UserKnownHostsFile=/dev/null"],
    ...["-o", `KnownHostsCommand=/bin/echo ${ssh.host} ${ssh.hostKey}`],
    `${ssh.user}@${ssh.host}`,
    ...rest,
  ]);
}

/** `npm run kubectl -- <machine> <arguments …>`: kubectl on a machine's cluster. */
export async function kubectl(args: readonly string[]): Promise<number> {
  const { facts, machine, rest } = await machineOf(args);
  if (machine.cluster === undefined) {
    throw new PlatformError(
      `Machine "${machine.name}": must have a cluster, got none. Name another.`,
    );
  }
  return inOperator(facts, [
    join(BIN, "kubectl"),
    "--kubeconfig",
    machine.cluster.kubeconfigFile,
    ...rest,
  ]);
}

/** `npm run psql -- <machine> [arguments …]`: psql as the administrator of a machine's PostgreSQL. */
export async function psql(args: readonly string[]): Promise<number> {
  const { facts, machine, rest } = await machineOf(args);
  const { postgres } = machine;
  if (postgres === undefined) {
    throw new PlatformError(
      `Machine "${machine.name}": must have a PostgreSQL, got none. Name another.`,
    );
  }
  return inOperator(facts, ["psql", ...rest], {
    PGHOST: postgres.host,
    PGPORT: String(postgres.port),
    PGUSER: postgres.adminUser,
    PGDATABASE: "postgres",
    PGPASSWORD: readFileSync(postgres.adminPasswordFile, "utf8").trim(),
    PGSSLMODE: "verify-full",
    PGSSLROOTCERT: postgres.caFile,
  });
}

/** `npm run pulumi -- <arguments …>`: Pulumi with the local state; `--stack local.<tenant>` finds its settings. */
export async function pulumi(args: readonly string[]): Promise<number> {
  const facts = await running();
  const stackName = args[args.findIndex((arg) => arg === "--stack" || arg === "-s") + 1];
  const stack =
    args.some((arg) => arg === "--stack" || arg === "-s") && stackName !== undefined
      ? localStackOf(stackName)
      : undefined;
  if (stack !== undefined) await settle(stack, facts);
  if (CHANGES.has(args[0] ?? "")) return judgedChange(args, stack, facts);
  return inOperator(
    facts,
    [
      join(PULUMI_BIN, "pulumi"),
      ...args,
      ...(stack !== undefined && takesSettings(args) ? ["--config-file", stack.configFile] : []),
    ],
    { ...pulumiEnvironment(), ...stack?.environment, ...debugging(args) },
  );
}

/** The program's own debug lines are sent only where its environment asks for them (`plugins/nodejs/quick-start.ts`). */
function debugging(args: readonly string[]): NodeJS.ProcessEnv {
  return args.some((arg) => /^(-d|--debug(=true)?)$/.test(arg))
    ? { PULUMI_OPTION_DEBUG: "true" }
    : {};
}

/** Commands of Pulumi that bring a stack to what its program says. */
const CHANGES = new Set(["up", "update", "preview", "pre"]);
/** What would judge less than the reviewed pack does, or nothing. */
const TAMPERING =
  /^--(policy-pack|policy-pack-config|policy-pack-configs|skip-preview|target|exclude)(=|$)|^-t$/;

/** A preview or an update by hand: refused unless the whole reviewed pack has judged the stack first. */
async function judgedChange(
  args: readonly string[],
  stack: LocalStack | undefined,
  facts: PlatformFacts,
): Promise<number> {
  const [command = "", ...rest] = args;
  const tampering = rest.find((arg) => TAMPERING.test(arg));
  if (stack === undefined || tampering !== undefined) {
    throw new PlatformError(
      `Command "pulumi ${command}": must name its stack by --stack and leave the policy pack and its resources as they are, ` +
        `got ${tampering ?? "no --stack"}. Run npm run pulumi -- ${command} --stack <fleet>[.<tenant>].`,
    );
  }
  // Without a yes Pulumi shows its own preview again and asks.
  const isAgreed = rest.some((arg) => arg === "--yes" || arg === "-y");
  const isPreview = command === "preview" || command === "pre";
  const judged = await preview(stack, facts, {
    onLine: (line) => void process.stdout.write(`${line}\n`),
  });
  if (isPreview || judged.exitCode !== 0) return judged.exitCode;
  return inOperator(
    facts,
    [
      join(PULUMI_BIN, "pulumi"),
      ...args,
      ...(isAgreed ? ["--skip-preview"] : []),
      ...["--policy-pack", policyPack()],
      ...["--config-file", stack.configFile],
    ],
    { ...pulumiEnvironment(), ...stack.environment, ...debugging(args) },
  );
}

async function machineOf(
  args: readonly string[],
): Promise<{ facts: PlatformFacts; machine: MachineFacts; rest: readonly string[] }> {
  const facts = await running();
  const [name = "", ...rest] = args;
  const machine = Object.values(facts.machines).find((candidate) => candidate.name === name);
  if (machine === undefined) {
    throw new PlatformError(
      `Machine "${name}": must be one of ${Object.keys(facts.machines).join(", ")}. Name one of them first.`,
    );
  }
  return { facts, machine, rest };
}

async function running(): Promise<PlatformFacts> {
  const facts = await platformFacts();
  if (facts === undefined) {
    throw new PlatformError("Platform: must run, got none running. Run npm start.");
  }
  return facts;
}

function inOperator(
  facts: PlatformFacts,
  argv: readonly string[],
  env: NodeJS.ProcessEnv = {},
): number {
  const [command = "", ...rest] = asOperator(argv, facts);
  const { status, error } = spawnSync(command, rest, {
    stdio: "inherit",
    env: { ...process.env, ...env },
  });
  if (error !== undefined) throw error;
  return status ?? 1;
}
