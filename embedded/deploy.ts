import { access, readFile } from "node:fs/promises";
import { join } from "node:path";

import {
  createStack,
  projectName,
  pulumiFailure,
  type PulumiOptions,
  type PulumiRun,
  runPulumi,
  STATE,
} from "./engine/engine.ts";
import { policyPack } from "./engine/policy-pack.ts";
import { clearStaleLock, recoverStack } from "./engine/recovery.ts";
import type { LocalStack } from "./local-fleet.ts";
import { asOperator, type PlatformFacts } from "./machines/platform.ts";

/** What an `up` did, by the engine's own words: created, updated, replaced, deleted, unchanged. */
export type ChangeCounts = { readonly [change: string]: number };

/**
 * Brings a stack to what its settings say, as CI does it: a preview with the policy pack, then the update.
 *
 * A run that was killed earlier is settled first, so that nothing is made twice.
 *
 * @throws PlatformError with the engine's own words when the run fails
 */
export async function deploy(
  stack: LocalStack,
  facts: PlatformFacts,
  options: Pick<PulumiOptions, "onLine" | "signal" | "env"> = {},
): Promise<ChangeCounts> {
  const run = await runOnStack(
    ["up", "--yes", "--policy-pack", policyPack()],
    stack,
    facts,
    options,
  );
  if (run.exitCode !== 0) throw pulumiFailure(stack.name, run);
  return changeCounts(run.stdout);
}

/** What an `up` would do; nothing is changed. */
export async function preview(
  stack: LocalStack,
  facts: PlatformFacts,
  options: Pick<PulumiOptions, "onLine" | "env"> = {},
): Promise<PulumiRun> {
  return runOnStack(["preview", "--policy-pack", policyPack()], stack, facts, options);
}

/** Deletes everything that a stack holds, and the stack. */
export async function destroy(
  stack: LocalStack,
  facts: PlatformFacts,
  options: Pick<PulumiOptions, "onLine"> = {},
): Promise<void> {
  const run = await runOnStack(
    ["destroy", "--yes", "--skip-preview", "--remove"],
    stack,
    facts,
    options,
  );
  if (run.exitCode !== 0) throw pulumiFailure(stack.name, run);
}

/** Runs the CLI on a stack, from the operator's namespace; makes the stack and settles a killed run first. */
export async function runOnStack(
  args: readonly string[],
  stack: LocalStack,
  facts: PlatformFacts,
  options: Pick<PulumiOptions, "onLine" | "signal" | "env"> = {},
): Promise<PulumiRun> {
  await settle(stack, facts);
  const ours = optionsFor(stack, facts);
  return runPulumi([...args, "--stack", stack.name], {
    ...ours,
    ...options,
    env: { ...ours.env, ...options.env },
  });
}

/**
 * Makes the stack where it does not exist, and brings one whose run was killed back to where an `up` converges: its
 * lock is removed, what it had begun is adopted or forgotten.
 */
export async function settle(stack: LocalStack, facts: PlatformFacts): Promise<void> {
  const options = optionsFor(stack, facts);
  const recorded = await recordedStack(stack.name);
  if (recorded === "none") await createStack(stack.name, options);
  clearStaleLock(stack.name, options);
  if (recorded === "interrupted") await recoverStack(stack.name, options);
}

function optionsFor(stack: LocalStack, facts: PlatformFacts): PulumiOptions {
  return {
    stackConfigFile: stack.configFile,
    env: stack.environment,
    inOperatorNamespace: (argv) => asOperator(argv, facts),
  };
}

/** The counts under "Resources:" in the engine's closing lines; the update's, where there was a preview before. */
export function changeCounts(output: string): ChangeCounts {
  const closing = output.slice(output.lastIndexOf("\nResources:"));
  const counts: { [change: string]: number } = {};
  for (const [, count = "", change = ""] of closing.matchAll(/^\s+(?:\S{1,2} )?(\d+) ([a-z]+)/gm)) {
    counts[change] = Number(count);
  }
  return counts;
}

/** Looks at the record itself: asking the CLI would cost half a second each time. */
async function recordedStack(name: string): Promise<"none" | "whole" | "interrupted"> {
  const file = join(STATE, ".pulumi", "stacks", projectName(), `${name}.json`);
  const exists = await access(file).then(
    () => true,
    () => false,
  );
  if (!exists) return "none";
  const { checkpoint } = JSON.parse(await readFile(file, "utf8")) as {
    checkpoint?: { latest?: { pending_operations?: readonly unknown[] } | null };
  };
  return (checkpoint?.latest?.pending_operations ?? []).length > 0 ? "interrupted" : "whole";
}
