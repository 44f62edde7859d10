import { createHash } from "node:crypto";
import { readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { projectName, STATE } from "./engine/engine.ts";
import type { LocalStack } from "./local-fleet.ts";
import type { PlatformFacts } from "./machines/platform.ts";
import { ROOT } from "./paths.ts";

/** All that decides what a deploy does, besides the stack's own settings. */
const PROGRAM = [
  "Pulumi.yaml",
  "index.ts",
  "package-lock.json",
  "model",
  "components",
  "stacks",
  "policies",
];

/**
 * Whether an `up` of the stack would find nothing to do: it succeeded before with the same program, policies, settings
 * and secrets, and its record has not changed since. An `up` compares nothing else; it does not look at the clusters.
 *
 * @param settings settings files that the stack reads
 */
export async function isDeployed(
  stack: LocalStack,
  facts: PlatformFacts,
  settings: readonly string[],
): Promise<boolean> {
  const remembered = await readFile(memoryFile(stack), "utf8").catch(() => undefined);
  return remembered !== undefined && remembered === (await fingerprint(stack, facts, settings));
}

/** Remembers that an `up` of the stack has just succeeded. */
export async function rememberDeployed(
  stack: LocalStack,
  facts: PlatformFacts,
  settings: readonly string[],
): Promise<void> {
  const print = await fingerprint(stack, facts, settings);
  if (print !== undefined) await writeFile(memoryFile(stack), print);
}

function memoryFile(stack: LocalStack): string {
  return `${stack.configFile}.deployed`;
}

/** Undefined where something that a deploy reads is not there. */
async function fingerprint(
  stack: LocalStack,
  facts: PlatformFacts,
  settings: readonly string[],
): Promise<string | undefined> {
  const secrets = Object.values(facts.machines).flatMap(({ ssh, postgres, cluster }) => [
    ssh.privateKeyFile,
    ...(postgres === undefined ? [] : [postgres.adminPasswordFile, postgres.caFile]),
    ...(cluster === undefined ? [] : [cluster.kubeconfigFile]),
  ]);
  const record = join(STATE, ".pulumi", "stacks", projectName(), `${stack.name}.json`);
  const named = [
    ...PROGRAM.map((name) => join(ROOT, name)),
    ...settings,
    ...Object.values(stack.environment),
    ...secrets,
    record,
  ];
  const hash = createHash("sha256");
  try {
    for (const file of (await Promise.all(named.map(filesOf))).flat()) {
      hash.update(`${file}\n`).update(await readFile(file));
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  return hash.digest("hex");
}

async function filesOf(path: string): Promise<string[]> {
  if (!(await stat(path)).isDirectory()) return [path];
  const entries = await readdir(path, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}
