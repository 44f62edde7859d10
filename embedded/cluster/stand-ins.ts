import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { copyFile, link, mkdir, readFile, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { CACHE, CHECKOUT } from "../machines/layout.ts";
import { writeSettings } from "../machines/settings-file.ts";

/** Programs that machines run and that are made from this checkout's sources. */
const PROGRAMS = join(CACHE, "programs");
const EMBEDDED = join(CHECKOUT, "embedded");
/** What both programs use beside their own folder and the libraries. */
const SHARED = ["addons/cluster-api.ts", "cluster/resource-mirror.ts", "platform-error.ts"];

/** What stands in for a part of K3s that cannot be had here; each has a folder of its name with a `main.ts`. */
export const STAND_INS = ["network-policy", "volumes"] as const;

/** A stand-in's program, on the host. */
export function standInFile(name: (typeof STAND_INS)[number]): string {
  return join(PROGRAMS, `${name}.mjs`);
}

/**
 * Makes each stand-in one file, beside the Node that runs it.
 *
 * A machine then needs neither the sources nor `node_modules`, which a later `npm ci` would pull
 * away under a running one; and one file loads in a third of the time.
 */
export async function ensureStandIns(): Promise<void> {
  await mkdir(PROGRAMS, { recursive: true });
  await Promise.all([ensureNode(), ...STAND_INS.map(ensureStandIn)]);
}

async function ensureStandIn(name: (typeof STAND_INS)[number]): Promise<void> {
  const file = standInFile(name);
  const fingerprint = await sourcesFingerprint(name);
  const note = join(PROGRAMS, `${name}.txt`);
  if (existsSync(file) && existsSync(note) && (await readFile(note, "utf8")) === fingerprint) {
    return;
  }
  const { build } = await import("esbuild");
  const fresh = `${file}.new`;
  await build({
    entryPoints: [join(EMBEDDED, name, "main.ts")],
    outfile: fresh,
    bundle: true,
    platform: "node",
    target: "node24",
    format: "esm",
    // Libraries that are CommonJS inside still ask for `require`.
    banner: {
      js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);',
    },
    logLevel: "silent",
  });
  await rename(fresh, file);
  await writeSettings(note, fingerprint);
}

async function ensureNode(): Promise<void> {
  const target = join(PROGRAMS, "node");
  const wanted = await stat(process.execPath);
  if (existsSync(target)) {
    const present = await stat(target);
    if (present.ino === wanted.ino) return;
    if (present.size === wanted.size && present.mtimeMs >= wanted.mtimeMs) return;
  }
  const fresh = `${target}.new`;
  await rm(fresh, { force: true });
  // Another file system takes no second name for a file, only a copy.
  await link(process.execPath, fresh).catch(async () => copyFile(process.execPath, fresh));
  await rename(fresh, target);
}

async function sourcesFingerprint(name: string): Promise<string> {
  const hash = createHash("sha256").update(await readFile(join(CHECKOUT, "package-lock.json")));
  const own = (await readdir(join(EMBEDDED, name))).filter((file) => file.endsWith(".ts")).sort();
  for (const file of [...own.map((file) => join(name, file)), ...SHARED]) {
    hash.update(file).update(await readFile(join(EMBEDDED, file)));
  }
  return hash.digest("hex");
}
