import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { inNamespace } from "./lan.ts";
import { MachineError } from "./machine-error.ts";
import type { Check, ProbeRequest } from "./probe.ts";

/** A check with the words to report it by. */
export interface Readiness {
  readonly machine: string;
  /** What is ready once it passes: "PostgreSQL". */
  readonly subject: string;
  readonly check: Check;
  readonly logFile: string;
}

/**
 * Waits from the operator's namespace until everything answers.
 *
 * `onReady` is called for each, in the order in which they become ready. Throws a
 * {@link MachineError} that names the first one that did not answer in time.
 */
export async function untilReady(
  wanted: readonly Readiness[],
  seconds: number,
  onReady: (ready: Readiness) => void = () => undefined,
): Promise<void> {
  const open = new Set(wanted);
  const [program = "", ...args] = inNamespace("operator", [
    process.execPath,
    join(import.meta.dirname, "probe.ts"),
  ]);
  const child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"] });
  const request: ProbeRequest = { seconds, checks: wanted.map(({ check }) => check) };
  const words: Buffer[] = [];
  child.stderr.on("data", (chunk: Buffer) => words.push(chunk));
  child.stdin.on("error", () => undefined);
  child.stdin.end(JSON.stringify(request));
  createInterface({ input: child.stdout }).on("line", (line) => {
    const ready = wanted[(JSON.parse(line) as { check: number }).check];
    if (ready === undefined) return;
    open.delete(ready);
    onReady(ready);
  });
  await new Promise<void>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", () => {
      resolve();
    });
  });
  const [first] = open;
  if (first === undefined) return;
  const detail = Buffer.concat(words).toString().trim();
  throw new MachineError(
    `Machine "${first.machine}": ${first.subject} must answer within ${String(seconds)} s, got no good answer${detail === "" ? "" : ` (${detail})`}.`,
    {
      step: `wait for ${first.subject} of ${first.machine}`,
      logFile: first.logFile,
      wayOut: "Read the end of the log; stop the platform and start it again.",
    },
  );
}
