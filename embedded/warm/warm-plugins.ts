import { spawn } from "node:child_process";
import { readdirSync, statSync } from "node:fs";
import { chmod, mkdir, open, readFile, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

import { COMPILE_CACHE, installedPlugins, startedAhead } from "../engine/plugins.ts";
import { asOperator, type PlatformFacts } from "../machines/platform.ts";
import {
  formatIdentity,
  identityOf,
  isAlive,
  parseIdentity,
} from "../machines/process-identity.ts";
import { CACHE, ROOT } from "../paths.ts";
import { runtimeDependencies } from "../plugins/nodejs/node-packages.ts";
import { SOCKET } from "./launcher.ts";
import { ALL, type PoolSettings, type WaitingKind } from "./pool-protocol.ts";

/** Who keeps the pool, and the settings it was started with. */
const STATE_FILE = join(dirname(SOCKET), "keeper");
const LOG_FILE = join(CACHE, "logs", "warm.log");
/** What an `up` of a tenant starts, its preview and its update together. */
const RUNS = 2;

/**
 * Has processes of the embedded plugins, of a program and of a policy pack started ahead, at the operator's workplace:
 * whatever runs `pulumi` there next finds them loaded. Official plugins are left to the engine.
 *
 * Safe to repeat: a pool that stands is kept, one of other settings is replaced.
 */
export async function keepWarm(facts: PlatformFacts): Promise<void> {
  const settings: PoolSettings = {
    socket: SOCKET,
    compileCache: COMPILE_CACHE,
    kinds: kindsOf(startedAhead(await installedPlugins())),
  };
  const wanted = JSON.stringify(settings);
  const pool = await standing();
  if (pool?.settings === wanted && isInOperatorNamespace(pool.identity.pid, facts)) return;
  await letCool();
  if (settings.kinds.length === 0) return;

  await mkdir(dirname(SOCKET), { recursive: true });
  await chmod(dirname(SOCKET), 0o700);
  await mkdir(dirname(LOG_FILE), { recursive: true });
  const log = await open(LOG_FILE, "a");
  const program = join(import.meta.dirname, "pool.ts");
  const [command = "", ...args] = asOperator([process.execPath, program, wanted], facts);
  const keeper = spawn(command, args, {
    detached: true,
    cwd: ROOT,
    stdio: ["ignore", log.fd, log.fd],
  });
  keeper.unref();
  const identity = keeper.pid === undefined ? undefined : identityOf(keeper.pid);
  if (identity !== undefined) await writeFile(STATE_FILE, `${formatIdentity(identity)}${wanted}`);
  await log.close();
}

/** Or else it stands in that of a platform that was stopped under it, where nobody asks any more. */
function isInOperatorNamespace(pid: number, { operatorNamespace }: PlatformFacts): boolean {
  const namespaceOf = (path: string): number | undefined =>
    statSync(path, { throwIfNoEntry: false })?.ino;
  return namespaceOf(`/proc/${pid}/ns/net`) === namespaceOf(`/run/netns/${operatorNamespace}`);
}

/** Waits until the next run finds all that it can; returns at once without a pool. */
export async function untilWarm(): Promise<void> {
  if ((await standing()) === undefined) return;
  await new Promise<void>((resolve, reject) => {
    const pool = connect(SOCKET, () => pool.write(`${JSON.stringify({ kind: ALL })}\n`));
    pool.once("error", reject);
    pool.once("close", () => {
      resolve();
    });
    pool.resume();
  });
}

/** Ends the processes that wait; none is fine. */
export async function letCool(): Promise<void> {
  const pool = await standing();
  if (pool !== undefined) {
    process.kill(pool.identity.pid, "SIGTERM");
    while (isAlive(pool.identity)) await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await rm(STATE_FILE, { force: true });
}

async function standing() {
  const text = await readFile(STATE_FILE, "utf8").catch(() => "");
  const [first = "", settings = ""] = text.split("\n");
  const identity = parseIdentity(first);
  return identity !== undefined && isAlive(identity) ? { identity, settings } : undefined;
}

function kindsOf(
  plugins: readonly { readonly kind: string; readonly script: string }[],
): readonly WaitingKind[] {
  const host = plugins.find(({ kind }) => kind === "nodejs");
  const build = host === undefined ? undefined : dirname(host.script);
  return [
    ...plugins.map(({ kind, script }): WaitingKind => ({
      kind,
      argv: [script],
      count: kind === "command" ? 1 : kind === "nodejs" ? 2 * RUNS : RUNS,
      files: [script, join(dirname(script), "main.mjs")],
      prefix: [],
    })),
    ...(build === undefined
      ? []
      : [
          loadedAhead("program", build, "ahead.mjs", {
            modules: [
              ...runtimeDependencies(ROOT).filter((name) => name !== "@pulumi/policy"),
              ...["fleet", "tenant", "stack-settings", "secret-source", "secret-data"].map(
                (name) => `./stacks/${name}.ts`,
              ),
            ],
            sources: sourcesIn("model", "components", "stacks"),
          }),
          loadedAhead("pack", build, "pack.mjs", {
            modules: [
              "@pulumi/policy",
              "@pulumi/pulumi/cmd/run-policy-pack/run.js",
              ...["rules", "pulumi-pack"].map((name) => `./policies/${name}.ts`),
              "./model/exceptions.ts",
            ],
            sources: sourcesIn("model", "policies"),
          }),
        ]),
  ];
}

/**
 * A process for a program or a pack, with what its entry point will ask for: packages, and modules of this checkout,
 * which hold nothing of a run. The sources that those are made of are compared before one is taken.
 */
function loadedAhead(
  kind: "program" | "pack",
  build: string,
  script: string,
  of: { readonly modules: readonly string[]; readonly sources: readonly string[] },
): WaitingKind {
  const quickStart = ["--import", pathToFileURL(join(build, "quick-start.mjs")).href];
  const file = join(build, script);
  return {
    kind,
    argv: [...quickStart, "--experimental-import-meta-resolve", file, ROOT, ...of.modules],
    count: RUNS,
    files: [
      file,
      join(build, "quick-start.mjs"),
      join(ROOT, "node_modules", ".package-lock.json"),
      ...of.sources,
    ],
    // A pack is run by its script, waiting or not; a program's is there for waiting alone.
    prefix: kind === "pack" ? [...quickStart, file] : quickStart,
  };
}

/** Every source file below some folders of the checkout. */
function sourcesIn(...folders: readonly string[]): readonly string[] {
  return folders.flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".ts"))
      .map((name) => join(ROOT, folder, name)),
  );
}
