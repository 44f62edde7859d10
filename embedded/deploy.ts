import { access, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { PACK_REPORT_VARIABLE, packShortfalls, type PackReport } from "../model/policy-pack.ts";
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
import { PlatformError } from "./platform-error.ts";

/** What an `up` did, by the engine's own words: created, updated, replaced, deleted, unchanged. */
export type ChangeCounts = { readonly [change: string]: number };

/** How a run is watched and ended. */
type RunOptions = Pick<PulumiOptions, "onLine" | "signal" | "env" | "cwd">;

/**
 * Brings a stack to what its settings say, as CI does it: a preview that the whole reviewed policy pack has judged, then
 * the update, which the pack judges once more with what is known only then.
 *
 * A run that was killed earlier is settled first, so that nothing is made twice.
 *
 * @param packArguments how the pack is passed; only tests tamper with it
 * @throws PlatformError with the engine's own words when the run fails; or when the pack was not the reviewed one, ran
 * fewer rules or let violations pass: then nothing was changed
 */
export async function deploy(
  stack: LocalStack,
  facts: PlatformFacts,
  options: RunOptions = {},
  packArguments: readonly string[] = passPack(),
): Promise<ChangeCounts> {
  const judged = await preview(stack, facts, options, packArguments);
  if (judged.exitCode !== 0) throw pulumiFailure(stack.name, judged);
  const run = await runOnStack(
    ["up", "--yes", "--skip-preview", ...packArguments],
    stack,
    facts,
    options,
  );
  if (run.exitCode !== 0) throw pulumiFailure(stack.name, run);
  return changeCounts(run.stdout);
}

/**
 * What an `up` would do, judged by the policy pack; nothing is changed.
 *
 * @throws PlatformError when the preview succeeded without the whole reviewed pack
 */
export async function preview(
  stack: LocalStack,
  facts: PlatformFacts,
  options: RunOptions = {},
  packArguments: readonly string[] = passPack(),
): Promise<PulumiRun> {
  const { run, report } = await judgedPreview(stack, facts, options, packArguments);
  if (run.exitCode === 0) assertWhollyJudged(stack.name, report);
  return run;
}

/** A preview, and what the pack says of it; the caller decides what is enough. */
export async function judgedPreview(
  stack: LocalStack,
  facts: PlatformFacts,
  options: RunOptions = {},
  packArguments: readonly string[] = passPack(),
): Promise<{ readonly run: PulumiRun; readonly report: PackReport | undefined }> {
  const folder = await mkdtemp(join(tmpdir(), "judged-"));
  const reportFile = join(folder, "report.json");
  try {
    const run = await runOnStack(["preview", ...packArguments], stack, facts, {
      ...options,
      env: { ...options.env, [PACK_REPORT_VARIABLE]: reportFile },
    });
    return { run, report: await readReport(reportFile) };
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** How the reviewed pack is passed: whole, and with no configuration that could lower a rule. */
function passPack(): readonly string[] {
  return ["--policy-pack", policyPack()];
}

/** @throws PlatformError unless every rule of the reviewed pack has judged every resource and found nothing. */
export function assertWhollyJudged(stackName: string, report: PackReport | undefined): void {
  const shortfalls = packShortfalls(report);
  if (shortfalls.length === 0) return;
  throw new PlatformError(
    `Stack "${stackName}": the reviewed policy pack must judge it whole: ${shortfalls.join("; ")}. ` +
      "Restore policies/ from git and pass it without a configuration; nothing was changed.",
  );
}

/** What the pack has written; undefined where it has written nothing that can be read. */
async function readReport(file: string): Promise<PackReport | undefined> {
  const text = await readFile(file, "utf8").catch(() => undefined);
  return text === undefined ? undefined : (JSON.parse(text) as PackReport);
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
  options: RunOptions = {},
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
  const [closing = ""] = output.slice(output.lastIndexOf("\nResources:") + 1).split("\n\n");
  const counts: { [change: string]: number } = {};
  for (const [, count = "", change = ""] of closing.matchAll(/(\d+) ([a-z]+)/g)) {
    // "3 changes" are those of several kinds together.
    if (!/^changes?$/.test(change)) counts[change] = Number(count);
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
