import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

import { CACHE } from "./paths.ts";

/** Go's module and build caches of the toolchain: 10 GiB while tools are built, and gone afterwards. */
export const WORKSHOP = join(CACHE, "toolchain-build");

/**
 * Arguments of every Go build: nothing of the checkout's place in the bytes; and nothing for debuggers, since what they
 * would be told is stripped in the end, and telling it takes a fifth of the compiler's time.
 */
export const GO_BUILD = ["build", "-trimpath", "-gcflags=all=-dwarf=false"] as const;

/**
 * The environment of every Go call: caches inside the checkout, the installed Go and no other, nothing of C.
 *
 * The compiler collects garbage late: it is a short-lived process, and spends a tenth of its time on it otherwise.
 *
 * @param path Go's own folder, modules among it
 * @param builds what is compiled already
 */
export function goEnvironment(
  path: string,
  builds: string = join(path, "build"),
): NodeJS.ProcessEnv {
  return {
    ...process.env,
    GOPATH: path,
    GOCACHE: builds,
    GOFLAGS: "-modcacherw",
    GOGC: "400",
    GOTOOLCHAIN: "local",
    GOWORK: "off",
    CGO_ENABLED: "0",
  };
}

/** What Go has compiled for the tools, the standard library among it. */
export function workshopEnvironment(): NodeJS.ProcessEnv {
  return goEnvironment(join(WORKSHOP, "go"), join(WORKSHOP, "go-build"));
}

/** For the checkout's own programs; right after the tools were built, the standard library is compiled already. */
export function ownEnvironment(): NodeJS.ProcessEnv {
  const compiled = join(WORKSHOP, "go-build");
  return goEnvironment(join(CACHE, "go"), existsSync(compiled) ? compiled : undefined);
}

/**
 * Builds one of the checkout's own programs; neither the checkout's state nor its place go into the bytes.
 *
 * @throws Error with the last line that Go said
 */
export async function buildOwn(folder: string, command: string, file: string): Promise<void> {
  const args = [...GO_BUILD, "-buildvcs=false", "-ldflags=-s -w", "-o", file, command];
  const options = { cwd: folder, env: ownEnvironment(), maxBuffer: 16 * 1024 * 1024 };
  await promisify(execFile)("go", args, options).catch((cause: unknown) => {
    const said = (cause as { stderr?: string }).stderr ?? "";
    throw new Error(said.trim().split("\n").at(-1) ?? "", { cause });
  });
}
