import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { settle } from "../../embedded/deploy.ts";
import { pulumiEnvironment } from "../../embedded/engine/engine.ts";
import { PULUMI_BIN } from "../../embedded/engine/plugins.ts";
import { policyPack } from "../../embedded/engine/policy-pack.ts";
import type { LocalStack } from "../../embedded/local-fleet.ts";
import type { PlatformFacts } from "../../embedded/machines/platform.ts";
import { ROOT } from "../../embedded/paths.ts";
import { until } from "./platform.ts";

/** Change of a resource that the engine has told of as done. */
const DONE = / (?:created|updated|deleted|replaced) \(/g;

/** Time in which everything that a killed run has started must have ended. */
const END_WITHIN_MS = 10_000;

/** An `up` and a `destroy` as they are run to be killed. */
const RUNS = {
  up: () => ["up", "--yes", "--skip-preview", "--policy-pack", policyPack()],
  destroy: () => ["destroy", "--yes", "--skip-preview", "--remove"],
} as const;

/**
 * Kills a run of the CLI as soon as it has told of so many changes, or as soon as something has come about: SIGKILL, no
 * chance to clean up. Waits until no process of the run is left; tells how many changes it told of.
 *
 * @throws Error when the run ended before it could be killed, or when a process of it lives on
 */
export async function killedRun(
  kind: keyof typeof RUNS,
  stack: LocalStack,
  facts: PlatformFacts,
  after: number | Promise<unknown>,
): Promise<number> {
  await settle(stack, facts);
  const mark = `FLUX_KILLED_RUN=${randomUUID()}`;
  const [variable = "", value = ""] = mark.split("=");
  const child = spawn(
    join(PULUMI_BIN, "pulumi"),
    [
      ...RUNS[kind](),
      ...["--non-interactive", "--stack", stack.name, "--config-file", stack.configFile],
    ],
    {
      cwd: ROOT,
      env: { ...pulumiEnvironment(), ...stack.environment, [variable]: value },
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
  let told = 0;
  let text = "";
  let complaint = "";
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => (complaint += chunk));
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
    told = [...text.matchAll(DONE)].length;
    if (typeof after === "number" && told >= after) child.kill("SIGKILL");
  });
  if (typeof after !== "number") {
    const kill = (): void => void child.kill("SIGKILL");
    after.then(kill, kill);
  }
  const signal = await new Promise((resolve) => {
    child.once("close", (_code, by) => {
      resolve(by);
    });
  });
  if (typeof after !== "number") await after;
  if (signal !== "SIGKILL") {
    throw new Error(
      `The run must be killed in the middle, got an end of its own: ${complaint}${text}`,
    );
  }
  await until("no process of the killed run", END_WITHIN_MS, () =>
    Promise.resolve(processesWith(mark) === 0),
  );
  return told;
}

/** Living processes that carry a mark in their environment. */
function processesWith(mark: string): number {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && name !== String(process.pid))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").includes(mark);
      } catch (error) {
        // Ended meanwhile, or not a process of this user's making at all.
        if (["ENOENT", "ESRCH", "EACCES"].includes((error as NodeJS.ErrnoException).code ?? ""))
          return false;
        throw error;
      }
    }).length;
}
