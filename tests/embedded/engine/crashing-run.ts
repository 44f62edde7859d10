import { readFileSync, readdirSync } from "node:fs";
import { randomUUID } from "node:crypto";
import { setTimeout } from "node:timers/promises";

import type { PulumiOptions, PulumiRun } from "../../../embedded/engine/engine.ts";
import { runPulumi } from "../../../embedded/engine/engine.ts";

const POLL_MS = 50;

/** What a killed run left. */
export interface Crash {
  readonly run: PulumiRun;
  /** Command lines of the processes that still live when their time is over. */
  readonly survivors: readonly string[];
}

/**
 * Runs the CLI and kills it, as a power cut would, once `hasBegun` says so.
 *
 * @param graceMs how long the processes around the CLI have to notice, at the most
 */
export async function crash(
  args: readonly string[],
  options: PulumiOptions,
  hasBegun: () => boolean,
  graceMs: number,
): Promise<Crash> {
  const mark = `CRASHING_RUN=${randomUUID()}`;
  const [name = "", value = ""] = mark.split("=");
  const running = runPulumi(args, { ...options, env: { ...options.env, [name]: value } });
  let ended = false;
  const end = running.then(
    () => (ended = true),
    () => (ended = true),
  );
  while (!hasBegun()) {
    if (ended) throw new Error(`the run ended before it was killed: ${(await running).stdout}`);
    await setTimeout(POLL_MS);
  }
  for (const { pid, program } of marked(mark)) {
    if (program.endsWith("/pulumi")) process.kill(pid, "SIGKILL");
  }
  const deadline = performance.now() + graceMs;
  while (marked(mark).length > 0 && performance.now() < deadline) await setTimeout(POLL_MS);
  await end;
  return { run: await running, survivors: marked(mark).map(({ line }) => line) };
}

/** The processes that carry the mark in their environment. */
function marked(mark: string): { pid: number; program: string; line: string }[] {
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .flatMap((entry) => {
      try {
        const environment = readFileSync(`/proc/${entry}/environ`, "utf8");
        if (!environment.split("\0").includes(mark)) return [];
        const words = readFileSync(`/proc/${entry}/cmdline`, "utf8").split("\0");
        // A zombie has no command line, and is nothing that runs.
        if (words[0] === "") return [];
        return [{ pid: Number(entry), program: words[0] ?? "", line: words.join(" ") }];
      } catch (error) {
        // It has ended while we looked, or is somebody else's.
        const { code } = error as NodeJS.ErrnoException;
        if (code === "ENOENT" || code === "ESRCH" || code === "EACCES") return [];
        throw error;
      }
    });
}
