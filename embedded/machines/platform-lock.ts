import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { CACHE } from "./layout.ts";
import { MachineError } from "./machine-error.ts";

const LOCK = join(CACHE, "platform.lock");
const WAIT_SECONDS = 180;

/**
 * Runs `work` while no other process starts or stops the platform of this checkout; waits its turn.
 *
 * The lock is the kernel's and held by a child that ends with this process, however that ends.
 */
export async function withPlatformLock<T>(work: () => Promise<T>): Promise<T> {
  await mkdir(CACHE, { recursive: true });
  const holder = spawn(
    "flock",
    ["--wait", String(WAIT_SECONDS), LOCK, "sh", "-c", "echo held; exec cat"],
    { stdio: ["pipe", "pipe", "inherit"] },
  );
  const ended = once(holder, "close");
  const held = await Promise.race([
    once(holder.stdout, "data").then(() => true),
    ended.then(() => false),
  ]);
  if (!held) {
    throw new MachineError(
      `Platform: only one process may start or stop it at a time, got another at it for ${String(WAIT_SECONDS)} s.`,
      {
        step: "take the platform lock",
        wayOut: `Look with "fuser ${LOCK}" which process it is and let it finish or end it.`,
      },
    );
  }
  try {
    return await work();
  } finally {
    holder.stdin.end();
    await ended;
  }
}
