import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { copyFile, link, mkdir, readFile, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { CACHE, CHECKOUT } from "../machines/layout.ts";
import { writeSettings } from "../machines/settings-file.ts";

/** Programs that machines run and that are made from this checkout's sources. */
const PROGRAMS = join(CACHE, "programs");
/** The enforcer, on the host. */
export const ENFORCER_FILE = join(PROGRAMS, "network-policy.mjs");
const SOURCES = join(CHECKOUT, "embedded", "network-policy");

/**
 * Makes the network policy enforcer one file, beside the Node that runs it.
 *
 * A machine then needs neither the sources nor `node_modules`, which a later `npm ci` would pull
 * away under a running one; and one file loads in a third of the time.
 */
export async function ensurePolicyEnforcer(): Promise<void> {
  await mkdir(PROGRAMS, { recursive: true });
  await ensureNode();
  const fingerprint = await sourcesFingerprint();
  const note = join(PROGRAMS, "network-policy.txt");
  if (
    existsSync(ENFORCER_FILE) &&
    existsSync(note) &&
    (await readFile(note, "utf8")) === fingerprint
  )
    return;
  const { build } = await import("esbuild");
  const fresh = `${ENFORCER_FILE}.new`;
  await build({
    entryPoints: [join(SOURCES, "main.ts")],
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
  await rename(fresh, ENFORCER_FILE);
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

async function sourcesFingerprint(): Promise<string> {
  const hash = createHash("sha256").update(await readFile(join(CHECKOUT, "package-lock.json")));
  const names = (await readdir(SOURCES)).filter((name) => name.endsWith(".ts")).sort();
  for (const name of names) hash.update(name).update(await readFile(join(SOURCES, name)));
  return hash.digest("hex");
}
