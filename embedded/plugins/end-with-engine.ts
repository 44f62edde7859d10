import { fstatSync } from "node:fs";

const PARENT_POLL_MS = 500;

/**
 * Calls `end` once the engine is gone, killed ones included: a plugin or program that outlives its engine would go on
 * changing things. The engine holds the other end of stdin, and is this process's parent unless a shell stands in
 * between; each of the two signs is enough.
 */
export function endWithEngine(end: () => void): void {
  const stdin = fstatSync(0);
  if (stdin.isFIFO() || stdin.isSocket()) {
    process.stdin.once("end", end);
    process.stdin.once("error", end);
    process.stdin.resume();
  }
  const parent = process.ppid;
  setInterval(() => {
    if (process.ppid !== parent) end();
  }, PARENT_POLL_MS).unref();
}
