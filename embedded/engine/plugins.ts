import { spawn } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import { existsSync, mkdirSync, realpathSync, rmSync, statSync, writeFileSync } from "node:fs";
import { lstat, mkdir, readdir, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join, relative } from "node:path";
import type { BuildResult } from "esbuild";

import { BIN, CACHE, ROOT } from "../paths.ts";
import { PlatformError } from "../platform-error.ts";
import { officialPulumi } from "../toolchain/official.ts";
import { placeLauncher } from "../warm/launcher.ts";

/** The project's own PULUMI_HOME: what is embedded must never reach the user's other projects. */
export const PULUMI_HOME = join(CACHE, "pulumi-home");

/** A link to the folder that holds the `pulumi` in use and, beside it, its Node language host. */
export const PULUMI_BIN = join(CACHE, "pulumi-bin");

/** Remembers that the official plugins were out of reach. Deleting it makes the next start try again. */
export const OFFICIAL_MEMORY_FILE = join(CACHE, "official-plugins.json");

/** Node's cache of compiled scripts, for the plugins and for what they start. */
export const COMPILE_CACHE = join(CACHE, "node-compile-cache");

/** The provider plugins that the program uses; each npm package `@pulumi/<name>` names its plugin's version. */
export const PROVIDERS = ["command", "kubernetes", "postgresql", "random", "tls"] as const;

const LANGUAGE_HOST = "pulumi-language-nodejs";
const SOURCES = join(import.meta.dirname, "..", "plugins");
const BUILDS = join(CACHE, "plugins-build");
/** Written last into an embedded plugin's folder; an official one has none. */
const BUILD_RECORD = "embedded.json";

/** All official plugins together may keep a start waiting this long to learn whether they can be had. */
const OFFICIAL_TRY_MS = 5_000;
/** Once one was had, the network is open, and the others may take as long as a download takes. */
const OFFICIAL_DOWNLOAD_MS = 180_000;

/**
 * The engine writes a debug log of every run, properties and all, encrypted and compressed: a third of its own processor
 * time, and tens of megabytes a day. Where its folder cannot be made it goes without; `--logtostderr -v=9` still tells.
 *
 * @param home a PULUMI_HOME of the project's own; logs that lie there already are removed
 */
export function keepNoDebugLogs(home: string): void {
  mkdirSync(home, { recursive: true });
  const folder = join(home, "logs");
  if (statSync(folder, { throwIfNoEntry: false })?.isFile() === true) return;
  rmSync(folder, { recursive: true, force: true });
  writeFileSync(folder, "A file in the place of a folder: no debug logs.\n");
}

/** A plugin as it stands ready for the engine. */
export interface InstalledPlugin {
  readonly name: string;
  readonly kind: "resource" | "language";
  /** Without a leading v. */
  readonly version: string;
  readonly origin: "official" | "embedded";
  /** The folder that the engine finds it in. */
  readonly folder: string;
}

/** What the embedded plugins among these are made of, for whoever starts them ahead: a script and its folder. */
export function startedAhead(
  plugins: readonly FoundPlugin[],
): readonly { readonly kind: string; readonly script: string }[] {
  return plugins.flatMap(({ name, kind, origin, folder }) =>
    origin !== "embedded" || folder === undefined
      ? []
      : [
          {
            kind: name,
            script: join(kind === "language" ? join(BUILDS, name) : folder, "start.mjs"),
          },
        ],
  );
}

/** What an embedded plugin was built from, kept beside it: another answer means another build. */
interface BuildRecord {
  /** Hash of each source file, by its path from the checkout's root. */
  readonly sources: { readonly [path: string]: string };
  /** Hash of all else that decides what comes out: builder, lock file, Node, the place. */
  readonly surroundings: string;
}

/**
 * Makes every plugin that the program needs ready for the engine, in the project's own PULUMI_HOME and at exactly the
 * versions that the npm packages name: the official plugin where it is installed or can be fetched, else the embedded
 * one, bundled anew when its sources have changed.
 *
 * May run in several processes at once: a plugin appears whole, by one rename, or not at all.
 *
 * @param names the provider plugins wanted
 * @param home the PULUMI_HOME to put them in
 * @throws PlatformError when a plugin's sources do not build
 */
export async function installPlugins(
  names: readonly string[] = PROVIDERS,
  home: string = PULUMI_HOME,
): Promise<InstalledPlugin[]> {
  await Promise.all([
    mkdir(join(home, "plugins"), { recursive: true }),
    mkdir(BUILDS, { recursive: true }),
    mkdir(BIN, { recursive: true }),
  ]);
  await hideCacheFromOfficialHost();
  const host = await installLanguageHost();
  const plugins = await Promise.all(names.map((name) => providerPlugin(name, home)));

  const absent = [];
  for (const plugin of plugins) {
    if (!isOfficialInstalled(plugin) && !(await linkOfficial(plugin))) absent.push(plugin);
  }
  const embedded = new Set(await stillAbsent(absent));
  return [
    host,
    ...(await Promise.all(
      plugins.map(async (plugin): Promise<InstalledPlugin> => {
        if (embedded.has(plugin)) await installEmbedded(plugin);
        const { name, version, folder } = plugin;
        const origin = embedded.has(plugin) ? "embedded" : "official";
        return { name, kind: "resource", version, origin, folder };
      }),
    )),
  ];
}

/** A plugin as `npm run doctor` finds it; without a folder it is not there. */
export type FoundPlugin = Pick<InstalledPlugin, "name" | "kind" | "version"> & {
  readonly origin: InstalledPlugin["origin"] | "missing";
  readonly folder?: string;
};

/** The language host and the provider plugins, as they are. Reads only. */
export async function installedPlugins(
  names: readonly string[] = PROVIDERS,
  home: string = PULUMI_HOME,
): Promise<FoundPlugin[]> {
  const version = await packageVersion("pulumi");
  const hosts = existsSync(PULUMI_BIN) ? realpathSync(PULUMI_BIN) : undefined;
  const host =
    hosts === undefined || !existsSync(join(hosts, LANGUAGE_HOST))
      ? ({ origin: "missing" } as const)
      : ({ origin: hosts === realpathSync(BIN) ? "embedded" : "official", folder: hosts } as const);
  return [
    { name: "nodejs", kind: "language", version, ...host },
    ...(await Promise.all(
      names.map(async (name): Promise<FoundPlugin> => {
        const plugin = await providerPlugin(name, home);
        const found = { name, kind: "resource", version: plugin.version } as const;
        if (!existsSync(join(plugin.folder, `pulumi-resource-${name}`))) {
          return { ...found, origin: "missing" };
        }
        const origin = isOfficialInstalled(plugin) ? "official" : "embedded";
        return { ...found, origin, folder: plugin.folder };
      }),
    )),
  ];
}

async function providerPlugin(name: string, home: string): Promise<Plugin> {
  const version = await packageVersion(name);
  const folder = join(home, "plugins", `resource-${name}-v${version}`);
  return { name, version, folder, home };
}

/** A provider plugin and its place below a PULUMI_HOME. */
interface Plugin {
  readonly name: string;
  readonly version: string;
  readonly folder: string;
  readonly home: string;
}

async function packageVersion(name: string): Promise<string> {
  const file = join(ROOT, "node_modules", "@pulumi", name, "package.json");
  const { version, pulumi } = JSON.parse(await readFile(file, "utf8")) as {
    version: string;
    pulumi?: { version?: string };
  };
  return pulumi?.version ?? version;
}

/**
 * The official host reads every folder below the program, and would spend seconds in `.cache`; it leaves out a folder
 * that looks like a policy pack.
 */
async function hideCacheFromOfficialHost(): Promise<void> {
  const marker = join(CACHE, "PulumiPolicy.yaml");
  if (!existsSync(marker)) {
    await writeFile(marker, "# No pack: keeps the official language host out of this folder.\n");
  }
}

/** Links the `pulumi` in use and puts the embedded language host beside it, unless it is an official one. */
async function installLanguageHost(): Promise<InstalledPlugin> {
  const version = await packageVersion("pulumi");
  const official = await officialPulumi(`v${version}`);
  if (official !== undefined && !(await isEmbeddedHost(official.folder))) {
    await rm(join(BIN, LANGUAGE_HOST), { force: true });
    await link(official.folder, PULUMI_BIN);
    return {
      name: "nodejs",
      kind: "language",
      version: official.version.replace(/^v/, ""),
      origin: "official",
      folder: official.folder,
    };
  }
  const folder = join(BUILDS, "nodejs");
  await buildInto(folder, "nodejs", {
    main: join(SOURCES, "nodejs", "main.ts"),
    "quick-start": join(SOURCES, "nodejs", "quick-start.ts"),
    ahead: join(SOURCES, "nodejs", "ahead.ts"),
    pack: join(SOURCES, "nodejs", "pack.ts"),
  });
  await placeLauncher(join(BIN, LANGUAGE_HOST), "nodejs", startOf(folder));
  for (const kind of ["program", "pack"]) {
    await placeLauncher(join(folder, kind), kind, [nodeProgram()]);
  }
  await link(BIN, PULUMI_BIN);
  return { name: "nodejs", kind: "language", version, origin: "embedded", folder: BIN };
}

/** What is found on PATH may be an embedded one: this checkout's by another name, or another checkout's. */
async function isEmbeddedHost(folder: string): Promise<boolean> {
  const host = join(folder, LANGUAGE_HOST);
  // A launcher has its settings beside it; without Go it is a script.
  const bytes = await readFile(host);
  return (await exists(`${host}.json`)) || bytes.subarray(0, 2).toString() === "#!";
}

/** Puts a link in place of whatever link was there, in one step. */
async function link(target: string, path: string): Promise<void> {
  if (existsSync(path) && realpathSync(path) === realpathSync(target)) return;
  const unfinished = `${path}.${randomUUID()}`;
  await symlink(target, unfinished);
  await rename(unfinished, path);
}

function isOfficialInstalled({ name, folder }: Plugin): boolean {
  return (
    existsSync(join(folder, `pulumi-resource-${name}`)) &&
    !existsSync(join(folder, BUILD_RECORD)) &&
    !existsSync(`${folder}.partial`)
  );
}

/**
 * Takes over an official plugin from the user's own PULUMI_HOME. The engine overlooks a linked folder, so the folder is
 * a real one and its files are links.
 */
async function linkOfficial(plugin: Plugin): Promise<boolean> {
  for (const home of [process.env["PULUMI_HOME"], join(homedir(), ".pulumi")]) {
    if (home === undefined || home === "" || home === plugin.home) continue;
    const source = join(home, "plugins", `resource-${plugin.name}-v${plugin.version}`);
    if (!existsSync(join(source, `pulumi-resource-${plugin.name}`))) continue;
    if (existsSync(`${source}.partial`)) continue;
    const unfinished = join(BUILDS, `${plugin.name}.${randomUUID()}`);
    await mkdir(unfinished);
    for (const entry of await readdir(source)) {
      await symlink(join(source, entry), join(unfinished, entry));
    }
    await putInPlace(unfinished, plugin.folder);
    return true;
  }
  return false;
}

/**
 * Tries once to fetch the official plugins, and remembers when they are out of reach.
 *
 * @returns those that could not be had
 */
async function stillAbsent(plugins: readonly Plugin[]): Promise<readonly Plugin[]> {
  const [first, ...others] = plugins;
  if (first === undefined) return plugins;
  const wanted = plugins.map(({ name, version }) => `${name}-${version}`);
  if (process.env["FLUX_RETRY_OFFICIAL"] !== "1") {
    const earlier = await rememberedNames();
    if (wanted.every((name) => earlier.includes(name))) return plugins;
  }

  const outcome = await fetchOfficial(first, OFFICIAL_TRY_MS);
  if (outcome !== undefined) {
    const outOfReach = [...new Set([...(await rememberedNames()), ...wanted])];
    const memory = { outOfReach, outcome, at: new Date().toISOString() };
    await writeFile(OFFICIAL_MEMORY_FILE, `${JSON.stringify(memory, undefined, 2)}\n`);
    return plugins;
  }
  const missed = [];
  for (const plugin of others) {
    if ((await fetchOfficial(plugin, OFFICIAL_DOWNLOAD_MS)) !== undefined) missed.push(plugin);
  }
  return missed;
}

async function rememberedNames(): Promise<readonly string[]> {
  const text = await readFile(OFFICIAL_MEMORY_FILE, "utf8").catch(() => "{}");
  return (JSON.parse(text) as { outOfReach?: readonly string[] }).outOfReach ?? [];
}

/**
 * Has the CLI fetch an official plugin into the project's PULUMI_HOME.
 *
 * @returns why it could not be had; undefined when it is there
 */
async function fetchOfficial(plugin: Plugin, withinMs: number): Promise<string | undefined> {
  const { folder } = plugin;
  const aside = join(BUILDS, `${plugin.name}.${randomUUID()}`);
  // The CLI takes any plugin of this version for installed, an embedded one too.
  const hadEmbedded = existsSync(folder);
  if (hadEmbedded) await rename(folder, aside);
  keepNoDebugLogs(plugin.home);
  const outcome = await new Promise<string | undefined>((resolve) => {
    const child = spawn(
      join(PULUMI_BIN, "pulumi"),
      ["plugin", "install", "resource", plugin.name, `v${plugin.version}`],
      {
        env: {
          ...process.env,
          PULUMI_HOME: plugin.home,
          PULUMI_SKIP_UPDATE_CHECK: "true",
          PULUMI_BACKEND_URL: `file://${BUILDS}`,
        },
        stdio: ["ignore", "ignore", "pipe"],
        timeout: withinMs,
        killSignal: "SIGKILL",
      },
    );
    let said = "";
    child.stderr.on("data", (bytes: Buffer) => (said += bytes.toString()));
    child.once("error", (error) => resolve(error.message));
    child.once("close", (code, signal) => {
      if (code === 0) resolve(undefined);
      else
        resolve(
          signal === null
            ? said.trim().split("\n").at(-1)
            : `no answer within ${withinMs / 1000} s`,
        );
    });
  });
  if (outcome === undefined && isOfficialInstalled(plugin)) {
    await rm(aside, { recursive: true, force: true });
    return undefined;
  }
  // What a killed download left would keep the embedded plugin from being seen.
  await rm(folder, { recursive: true, force: true });
  await rm(`${folder}.partial`, { force: true });
  if (hadEmbedded) await rename(aside, folder);
  return outcome ?? "the CLI installed nothing";
}

async function installEmbedded(plugin: Plugin): Promise<void> {
  await buildInto(
    plugin.folder,
    plugin.name,
    { main: join(SOURCES, plugin.name, "main.ts") },
    `pulumi-resource-${plugin.name}`,
  );
}

/**
 * Bundles a plugin into one script for each entry point, so that it starts without reading hundreds of files, and puts
 * the folder in place whole. Does nothing while the sources are those of the build that is there.
 *
 * @param launcher file name of the program that the engine starts, when the folder is to hold one
 */
async function buildInto(
  folder: string,
  name: string,
  entries: { readonly main: string; readonly [entry: string]: string },
  launcher?: string,
): Promise<void> {
  const surroundings = await surroundingsHash(folder);
  if (await isCurrent(folder, surroundings)) return;

  const unfinished = join(BUILDS, `${name}.${randomUUID()}`);
  try {
    const { metafile } = await bundle(name, entries, unfinished);
    await writeFile(join(unfinished, "start.mjs"), startScript());
    if (launcher !== undefined) {
      await placeLauncher(join(unfinished, launcher), name, startOf(folder));
    }
    const record: BuildRecord = {
      sources: await hashes(
        Object.keys(metafile.inputs).filter((path) => !path.includes("node_modules/")),
      ),
      surroundings,
    };
    await writeFile(join(unfinished, BUILD_RECORD), JSON.stringify(record, undefined, 2));
    await putInPlace(unfinished, folder);
  } finally {
    await rm(unfinished, { recursive: true, force: true });
  }
}

async function bundle(
  name: string,
  entries: { readonly [entry: string]: string },
  folder: string,
): Promise<BuildResult<{ metafile: true }>> {
  // Loaded here only: a start that finds all built does without the 50 ms.
  const { build } = await import("esbuild");
  try {
    return await build({
      entryPoints: entries,
      outdir: folder,
      absWorkingDir: ROOT,
      bundle: true,
      platform: "node",
      target: "node24",
      format: "esm",
      outExtension: { ".js": ".mjs" },
      metafile: true,
      logLevel: "silent",
      legalComments: "none",
      // Native helpers that their packages do without when they are not there, and a package that is one itself.
      external: ["cpu-features", "pg-native", "*.node", "@node-rs/bcrypt"],
      // What CommonJS packages expect and a module has not.
      banner: {
        js: 'import { createRequire as makeRequire } from "node:module"; const require = makeRequire(import.meta.url);',
      },
      define: { __dirname: "import.meta.dirname", __filename: "import.meta.filename" },
    });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new PlatformError(
      `Plugin "${name}": embedded/plugins/${name} must build, got: ${reason}. Mend it and start again.`,
      { cause },
    );
  }
}

/**
 * Starts a bundle with Node's compile cache, and writes that cache while the plugin lives: the engine may end it with a
 * signal, which would throw the cache away each time. A plugin that ends because its engine was killed takes with it
 * what it has started: the engine makes each plugin the leader of a process group. After an ordinary run the group is
 * left alone, for a command may leave a service behind. A killed engine shows in its end of stdin, closed, and only a
 * little later in the parent, another one.
 */
function startScript(): string {
  return `import module from "node:module";
const engine = process.ppid;
process.on("exit", () => {
  if (process.ppid === engine && !process.stdin.readableEnded) return;
  try {
    process.kill(-process.pid, "SIGKILL");
  } catch (error) {
    if (error.code !== "ESRCH") throw error;
  }
});
module.enableCompileCache(${JSON.stringify(COMPILE_CACHE)});
setTimeout(() => module.flushCompileCache(), 1000).unref();
await import("./main.mjs");
`;
}

/** Starts a bundle in a process of its own. */
function startOf(folder: string): readonly string[] {
  return [nodeProgram(), join(folder, "start.mjs")];
}

/** The project's own Node, from npm; the one that runs this where npm has none for the machine. */
export function nodeProgram(): string {
  const own = join(ROOT, "node_modules", ".bin", "node");
  return existsSync(own) ? realpathSync(own) : process.execPath;
}

async function isCurrent(folder: string, surroundings: string): Promise<boolean> {
  const text = await readFile(join(folder, BUILD_RECORD), "utf8").catch(() => undefined);
  if (text === undefined) return false;
  const record = JSON.parse(text) as BuildRecord;
  if (record.surroundings !== surroundings) return false;
  const found = await hashes(Object.keys(record.sources));
  return Object.entries(record.sources).every(([path, hash]) => found[path] === hash);
}

async function hashes(paths: readonly string[]): Promise<{ [path: string]: string }> {
  const found = await Promise.all(
    paths.map(async (path): Promise<[string, string]> => {
      const bytes = await readFile(join(ROOT, path)).catch(() => Buffer.from("missing"));
      return [path, createHash("sha256").update(bytes).digest("hex")];
    }),
  );
  return Object.fromEntries(found);
}

async function surroundingsHash(folder: string): Promise<string> {
  const builder = ["engine/plugins.ts", "warm/launcher.ts", "warm/launcher/main.go"].map((path) =>
    relative(ROOT, join(import.meta.dirname, "..", path)),
  );
  return createHash("sha256")
    .update(
      JSON.stringify([await hashes([...builder, "package-lock.json"]), nodeProgram(), folder]),
    )
    .digest("hex");
}

/** Replaces a folder by a finished one; of two processes that do so at once, the later one wins. */
async function putInPlace(finished: string, folder: string): Promise<void> {
  for (;;) {
    const old = `${finished}.old`;
    if (await exists(folder)) await rename(folder, old).catch(ignoreMissing);
    try {
      await rename(finished, folder);
      await rm(old, { recursive: true, force: true });
      return;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== "ENOTEMPTY" && code !== "EEXIST") throw error;
      await rm(old, { recursive: true, force: true });
    }
  }
}

async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}

function ignoreMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== "ENOENT") throw error;
}
