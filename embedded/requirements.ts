import { execFile } from "node:child_process";
import { statfs } from "node:fs/promises";
import { promisify } from "node:util";

import { ROOT } from "./paths.ts";
import { PlatformError } from "./platform-error.ts";

const run = promisify(execFile);

const ELSEWHERE =
  "to use clusters and databases of your own instead, follow docs/runbooks/own-clusters.md";

/** Oldest Go that builds the pinned modules. */
const GO_MINOR = 26;

/** What a cold build and a running platform take, measured, and room to breathe. */
const FREE_COLD_GIB = 20;
const FREE_WARM_GIB = 3;

/**
 * Refuses a machine on which the platform cannot run, before anything is made.
 *
 * @param isToolchainBuilt whether Go and the room for a cold build are still needed
 * @throws PlatformError with the way out
 */
export async function assertMachineCanHost(isToolchainBuilt: boolean): Promise<void> {
  if (process.platform !== "linux") {
    throw new PlatformError(
      `Operating system: must be Linux, got ${process.platform}. Run in a Linux machine; ${ELSEWHERE}.`,
    );
  }
  const user = process.getuid?.();
  if (user !== 0) {
    throw new PlatformError(
      `User: must be root for network namespaces and mounts, got user id ${user}. ` +
        `Run with sudo; ${ELSEWHERE}.`,
    );
  }
  if (!isToolchainBuilt) await assertGo();
  await assertRoom(isToolchainBuilt ? FREE_WARM_GIB : FREE_COLD_GIB);
}

/** The installed Go's version, such as "1.26.8"; undefined where there is none. */
export async function goVersion(): Promise<string | undefined> {
  try {
    const { stdout } = await run("go", ["env", "GOVERSION"], {
      env: { ...process.env, GOTOOLCHAIN: "local" },
    });
    return stdout.trim().replace(/^go/, "");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

async function assertGo(): Promise<void> {
  const version = await goVersion();
  const [major = 0, minor = 0] = (version ?? "").split(".").map(Number);
  if (major > 1 || (major === 1 && minor >= GO_MINOR)) return;
  throw new PlatformError(
    `Go: must be version 1.${GO_MINOR} or later to build the toolchain, got ${version ?? "none"}. ` +
      `Install it and have it on PATH; ${ELSEWHERE}.`,
  );
}

async function assertRoom(neededGib: number): Promise<void> {
  const { bavail, bsize } = await statfs(ROOT);
  const freeGib = (bavail * bsize) / 2 ** 30;
  if (freeGib >= neededGib) return;
  throw new PlatformError(
    `Disk: must have ${neededGib} GiB free where the checkout lies, got ${freeGib.toFixed(1)} GiB. ` +
      "Free some room, or clone to a larger disk.",
  );
}
