import { execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { createWriteStream, existsSync, readdirSync, renameSync } from "node:fs";
import { cp, mkdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join, relative } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

import { GO_BUILD, WORKSHOP, workshopEnvironment } from "../go.ts";
import { BIN, CACHE, ROOT } from "../paths.ts";
import { PlatformError } from "../platform-error.ts";
import type { Progress } from "../steps.ts";
import { type Tool, TOOLS } from "./tools.ts";

/** Two at once: linking uses one core, and the largest build peaks at 3.4 GiB. */
const BUILDS_AT_ONCE = 2;

/** Go resumes by its own build cache, so an interrupted build goes on where it was. */
const ENVIRONMENT = workshopEnvironment();

/** A tool, its version as the pin names it, and whether its binary is there for exactly that pin. */
export interface ToolState {
  readonly tool: Tool;
  readonly version: string;
  readonly isBuilt: boolean;
}

/** What is built and what is missing. Reads only. */
export async function toolchainState(tools: readonly Tool[] = TOOLS): Promise<ToolState[]> {
  return Promise.all(
    tools.map(async (tool) => {
      const { version, key } = await pin(tool);
      return { tool, version, isBuilt: (await builtKey(tool)) === key };
    }),
  );
}

/**
 * Builds what is missing into `.cache/bin`, two at a time.
 *
 * @throws PlatformError naming the tool, the log and the way out when a build fails
 */
export async function buildToolchain(
  progress: Progress,
  tools: readonly Tool[] = TOOLS,
): Promise<ToolState[]> {
  const missing = (await toolchainState(tools)).filter((state) => !state.isBuilt);
  const waiting = [...missing];
  const compiling = new Map<string, number>();
  let done = 0;
  const show = (): void => {
    const now = [...compiling].map(([name, packages]) => `${name} (${packages} packages)`);
    progress([`${done} of ${missing.length} built`, ...now].join(", "));
  };
  const worker = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const name = next.tool.binary;
      compiling.set(name, 0);
      show();
      await build(next.tool, (packages) => {
        compiling.set(name, packages);
        show();
      });
      compiling.delete(name);
      done += 1;
      show();
    }
  };
  await Promise.all(Array.from({ length: BUILDS_AT_ONCE }, worker));
  progress(missing.length === 0 ? "all there" : `${done} built`);
  return toolchainState(tools);
}

/** Removes Go's caches, in the background: they are many small files, and nothing waits for their end. */
export function clearWorkshop(): void {
  // Out of the way first: a build that begins meanwhile must not use what is going.
  if (existsSync(WORKSHOP)) renameSync(WORKSHOP, `${WORKSHOP}.${process.pid}`);
  const old = readdirSync(CACHE)
    .filter((name) => name.startsWith(`${basename(WORKSHOP)}.`))
    .map((name) => join(CACHE, name));
  if (old.length === 0) return;
  spawn("rm", ["-rf", ...old], { detached: true, stdio: "ignore" }).unref();
}

async function build(tool: Tool, compiled: (packages: number) => void): Promise<void> {
  const { version, key } = await pin(tool);
  const target = join(BIN, tool.binary);
  const logFile = join(CACHE, "logs", `build-${tool.binary.replaceAll("/", "-")}.log`);
  await mkdir(dirname(target), { recursive: true });
  await mkdir(dirname(logFile), { recursive: true });
  const unfinished = `${target}.unfinished`;
  const flags = [...buildFlags(tool, version), ...(await mendedModule(tool))];
  const exitCode = await go(
    [...GO_BUILD, "-v", ...flags, "-o", unfinished, tool.command],
    join(import.meta.dirname, tool.module),
    logFile,
    compiled,
  );
  if (exitCode !== 0) {
    throw new PlatformError(
      `Tool "${tool.binary}": its Go build must succeed, got exit code ${exitCode}. ` +
        `Read ${relative(ROOT, logFile)}; a second start goes on where this one stopped.`,
      { logFile },
    );
  }
  await rename(unfinished, target);
  await writeFile(keyFile(tool), key);
}

/** Has Go build the tool from a copy of the module, with the tool's own file in it. */
async function mendedModule({ binary, module, instead }: Tool): Promise<string[]> {
  if (instead === undefined) return [];
  const folder = join(import.meta.dirname, module);
  const { stdout } = await promisify(execFile)("go", ["mod", "download", "-json", instead.module], {
    cwd: folder,
    env: ENVIRONMENT,
  });
  const { Dir: source } = JSON.parse(stdout) as { Dir: string };
  const copy = join(WORKSHOP, `${binary}-module`);
  await rm(copy, { recursive: true, force: true });
  await cp(source, copy, { recursive: true });
  await cp(join(folder, instead.by), join(copy, instead.file));
  const modFile = join(WORKSHOP, `${binary}.mod`);
  await cp(join(folder, "go.sum"), join(WORKSHOP, `${binary}.sum`));
  // A relative path, since it becomes part of the binary.
  const replace = `replace ${instead.module} => ${relative(folder, copy)}\n`;
  await writeFile(modFile, `${await readFile(join(folder, "go.mod"), "utf8")}\n${replace}`);
  return ["-modfile", modFile];
}

/** Runs Go and counts the packages it names on standard error, one a line, as it compiles them. */
async function go(
  args: readonly string[],
  folder: string,
  logFile: string,
  compiled: (packages: number) => void,
): Promise<number> {
  const child = spawn("go", args, {
    cwd: folder,
    env: ENVIRONMENT,
    stdio: ["ignore", "ignore", "pipe"],
  });
  const log = createWriteStream(logFile);
  let packages = 0;
  createInterface({ input: child.stderr }).on("line", (line) => {
    log.write(`${line}\n`);
    packages += 1;
    compiled(packages);
  });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => {
      log.end();
      resolve(code ?? 1);
    });
  });
}

function buildFlags(tool: Tool, version: string): string[] {
  const variables = Object.entries(tool.variables ?? {}).map(
    ([variable, value]) => `-X ${variable}=${value.replace("{version}", version)}`,
  );
  const flags = ["-ldflags", ["-s", "-w", ...variables].join(" ")];
  return tool.tags === undefined ? flags : ["-tags", tool.tags.join(","), ...flags];
}

/** The tool's version and the key of its build: all that decides what comes out. */
async function pin(tool: Tool): Promise<{ version: string; key: string }> {
  const folder = join(import.meta.dirname, tool.module);
  const [goMod, goSum, ...instead] = await Promise.all(
    ["go.mod", "go.sum", ...(tool.instead === undefined ? [] : [tool.instead.by])].map((file) =>
      readFile(join(folder, file), "utf8"),
    ),
  );
  if (goMod === undefined) throw new Error(`${tool.module} must have a go.mod`);
  const version = goMod
    .split("\n")
    .map((line) => line.trim().split(" "))
    .find(([path]) => path === tool.versionOf)?.[1];
  if (version === undefined) {
    throw new Error(`${tool.module}/go.mod must require ${tool.versionOf}`);
  }
  const key = createHash("sha256")
    .update(JSON.stringify([goMod, goSum, ...instead, tool, GO_BUILD, buildFlags(tool, version)]))
    .digest("hex");
  return { version, key };
}

function keyFile(tool: Tool): string {
  return join(BIN, `${tool.binary}.key`);
}

async function builtKey(tool: Tool): Promise<string | undefined> {
  try {
    await stat(join(BIN, tool.binary));
    return await readFile(keyFile(tool), "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
