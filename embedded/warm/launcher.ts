import { execFile } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { copyFile, mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

import { buildOwn } from "../go.ts";
import { CACHE } from "../paths.ts";
import { PlatformError } from "../platform-error.ts";

/** Where the pool listens; only this folder's owner can get there, for whoever asks tells it his environment. */
export const SOCKET = join(CACHE, "warm", "pool");

const SOURCES = join(import.meta.dirname, "launcher");
const BUILDS = join(CACHE, "plugins-build");

/**
 * Puts a program in place that takes over a waiting process of a kind, or becomes the command where none waits.
 *
 * @param command starts a new process; the program's arguments follow
 * @param socket where the pool listens
 */
export async function placeLauncher(
  file: string,
  kind: string,
  command: readonly string[],
  socket: string = SOCKET,
): Promise<void> {
  const built = await buildLauncher();
  if (built === undefined) {
    await place(file, async (unfinished) =>
      writeFile(unfinished, `#!/bin/sh\nexec ${command.map(quoted).join(" ")} "$@"\n`, {
        mode: 0o755,
      }),
    );
    return;
  }
  await place(`${file}.json`, async (unfinished) =>
    writeFile(unfinished, JSON.stringify({ socket, kind, command })),
  );
  await place(file, async (unfinished) => copyFile(built, unfinished));
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** The launcher for the sources that are there; undefined without Go, where every process is started anew. */
async function buildLauncher(): Promise<string | undefined> {
  const sources = await Promise.all(
    ["go.mod", "main.go"].map((name) => readFile(join(SOURCES, name))),
  );
  const hash = createHash("sha256").update(Buffer.concat(sources)).digest("hex").slice(0, 16);
  const target = join(BUILDS, `launcher-${hash}`);
  if (existsSync(target)) return target;
  const version = await promisify(execFile)("go", ["version"]).catch(() => undefined);
  if (version === undefined) return undefined;
  await mkdir(BUILDS, { recursive: true });
  await place(target, async (unfinished) => {
    await buildOwn(SOURCES, ".", unfinished).catch((cause: Error) => {
      throw new PlatformError(
        `Launcher of plugins: its Go build must succeed, got "${cause.message}". Mend embedded/warm/launcher and start again.`,
        { cause },
      );
    });
  });
  return target;
}

/** Makes a file under another name first: whoever looks finds all of it or none. */
async function place(file: string, make: (unfinished: string) => Promise<unknown>): Promise<void> {
  const unfinished = `${file}.${randomUUID()}`;
  await make(unfinished);
  await rename(unfinished, file);
}
