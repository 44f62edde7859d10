import { spawn } from "node:child_process";
import { chmod, mkdir, open, readFile, rm, writeFile } from "node:fs/promises";
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
import type { PoolSettings, WaitingKind } from "./pool.ts";

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
  if ((await standing())?.settings === wanted) return;
  await letCool();
  if (settings.kinds.length === 0) return;

  await mkdir(dirname(SOCKET), { recursive: true });
  await chmod(dirname(SOCKET), 0o700);
  await mkdir(dirname(LOG_FILE), { recursive: true });
  const log = await open(LOG_FILE, "a");
  const pool = join(import.meta.dirname, "pool.ts");
  const [command = "", ...args] = asOperator([process.execPath, pool, wanted], facts);
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
          packagesAhead("program", build, "ahead.mjs", [
            ...runtimeDependencies(ROOT).filter((name) => name !== "@pulumi/policy"),
          ]),
          packagesAhead("pack", build, "pack.mjs", [
            "@pulumi/policy",
            "@pulumi/pulumi/cmd/run-policy-pack/run.js",
          ]),
        ]),
  ];
}

/** A process for a program or a pack, with what it will ask for of the packages of this checkout. */
function packagesAhead(
  kind: "program" | "pack",
  build: string,
  script: string,
  packages: readonly string[],
): WaitingKind {
  const quickStart = ["--import", pathToFileURL(join(build, "quick-start.mjs")).href];
  const file = join(build, script);
  return {
    kind,
    argv: [...quickStart, "--experimental-import-meta-resolve", file, ROOT, ...packages],
    count: RUNS,
    files: [file, join(build, "quick-start.mjs"), join(ROOT, "node_modules", ".package-lock.json")],
    // A pack is run by its script, waiting or not; a program's is there for waiting alone.
    prefix: kind === "pack" ? [...quickStart, file] : quickStart,
  };
}
