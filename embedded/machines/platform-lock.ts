import { closeSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { CACHE } from "./layout.ts";
import { MachineError } from "./machine-error.ts";
import { formatIdentity, identityOf, isAlive, parseIdentity } from "./process-identity.ts";

const LOCK = join(CACHE, "platform.lock");
const WAIT_SECONDS = 180;

/** Runs `work` while no other process starts or stops the platform of this checkout. */
export async function withPlatformLock<T>(work: () => Promise<T>): Promise<T> {
  await mkdir(CACHE, { recursive: true });
  const end = performance.now() + WAIT_SECONDS * 1000;
  while (!take()) {
    const holder = parseIdentity(readHolder());
    if (holder !== undefined && !isAlive(holder)) {
      rmSync(LOCK, { force: true });
      continue;
    }
    if (performance.now() > end) {
      throw new MachineError(
        `Platform: only one process may start or stop it at a time, got ${readHolder().trim()} at it for ${String(WAIT_SECONDS)} s.`,
        { step: "take the platform lock", wayOut: `End that process, or remove ${LOCK}.` },
      );
    }
    await sleep(50);
  }
  try {
    return await work();
  } finally {
    rmSync(LOCK, { force: true });
  }
}

function take(): boolean {
  let file: number;
  try {
    file = openSync(LOCK, "wx", 0o600);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw cause;
  }
  const own = identityOf(process.pid);
  if (own !== undefined) writeSync(file, formatIdentity(own));
  closeSync(file);
  return true;
}

function readHolder(): string {
  try {
    return readFileSync(LOCK, "utf8");
  } catch {
    return "";
  }
}
