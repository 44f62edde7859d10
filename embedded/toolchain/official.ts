import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { access, mkdir, readFile, realpath, rename, rm, writeFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";

import { BIN, CACHE } from "../paths.ts";

const run = promisify(execFile);

const FOLDER = join(CACHE, "official");
const MEMORY_FILE = join(FOLDER, "pulumi.json");

/** One short try: a machine that reaches nothing must not wait for it. */
const TRY_MS = 3_000;
const DOWNLOAD_MS = 120_000;

/** An official Pulumi installation: the folder that holds `pulumi` and `pulumi-language-nodejs`. */
export interface OfficialPulumi {
  readonly folder: string;
  readonly version: string;
}

/**
 * An official Pulumi of at least the pinned version: the one on PATH, the one fetched earlier, or, once, a fetch of
 * the pinned release. The outcome of the fetch is remembered; remove `.cache/official` to try again.
 *
 * @param pinned such as "v3.259.0"
 * @returns undefined where none is to be had; the embedded build takes its place then
 */
export async function officialPulumi(pinned: string): Promise<OfficialPulumi | undefined> {
  for (const folder of (process.env["PATH"] ?? "").split(delimiter)) {
    if (folder === "" || (await isOwn(folder))) continue;
    const found = await installedIn(folder, pinned);
    if (found !== undefined) return found;
  }
  const fetched = join(FOLDER, "pulumi");
  const earlier = await installedIn(fetched, pinned);
  if (earlier !== undefined) return earlier;
  if (await exists(MEMORY_FILE)) return undefined;
  await mkdir(FOLDER, { recursive: true });
  const outcome = await fetchRelease(pinned, fetched).then(
    () => "fetched",
    (error: unknown) => (error instanceof Error ? error.message : String(error)),
  );
  await writeFile(MEMORY_FILE, JSON.stringify({ pinned, outcome, at: new Date().toISOString() }));
  return installedIn(fetched, pinned);
}

/** Whether a folder is the toolchain's own, by whatever link. */
async function isOwn(folder: string): Promise<boolean> {
  const [found, own] = await Promise.all(
    [folder, BIN].map((path) => realpath(path).catch(() => path)),
  );
  return found === own;
}

async function installedIn(folder: string, pinned: string): Promise<OfficialPulumi | undefined> {
  if (!(await exists(join(folder, "pulumi")))) return undefined;
  if (!(await exists(join(folder, "pulumi-language-nodejs")))) return undefined;
  const { stdout } = await run(join(folder, "pulumi"), ["version"], {
    env: { ...process.env, PULUMI_SKIP_UPDATE_CHECK: "true" },
  });
  const version = stdout.trim();
  return isAtLeast(version, pinned) ? { folder, version } : undefined;
}

function isAtLeast(version: string, pinned: string): boolean {
  const [major = 0, minor = 0, patch = 0] = numbersOf(version);
  const [wantedMajor = 0, wantedMinor = 0, wantedPatch = 0] = numbersOf(pinned);
  if (major !== wantedMajor) return false;
  return minor > wantedMinor || (minor === wantedMinor && patch >= wantedPatch);
}

function numbersOf(version: string): number[] {
  return version.replace(/^v/, "").split(".").map(Number);
}

/** Fetches the release, holds it against the release's own checksums, and unpacks it whole or not at all. */
async function fetchRelease(pinned: string, folder: string): Promise<void> {
  const architecture = process.arch === "arm64" ? "arm64" : "x64";
  const archive = `pulumi-${pinned}-linux-${architecture}.tar.gz`;
  const release = `https://github.com/pulumi/pulumi/releases/download/${pinned}`;
  const checksums = await fetchText(
    `${release}/pulumi-${pinned.replace(/^v/, "")}-checksums.txt`,
    TRY_MS,
  );
  const wanted = checksums
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .find(([, name]) => name === archive)?.[0];
  if (wanted === undefined) throw new Error(`the release names no checksum for ${archive}`);
  const response = await fetch(`${release}/${archive}`, {
    signal: AbortSignal.timeout(DOWNLOAD_MS),
  });
  if (!response.ok) throw new Error(`fetching ${archive} answered ${response.status}`);
  const bytes = Buffer.from(await response.arrayBuffer());
  const found = createHash("sha256").update(bytes).digest("hex");
  if (found !== wanted) throw new Error(`${archive} must have checksum ${wanted}, got ${found}`);
  const unfinished = `${folder}.unfinished`;
  await rm(unfinished, { recursive: true, force: true });
  await mkdir(unfinished, { recursive: true });
  const archiveFile = join(unfinished, archive);
  await writeFile(archiveFile, bytes);
  await run("tar", ["-xzf", archiveFile, "-C", unfinished, "--strip-components=1"]);
  await rm(archiveFile);
  await rm(folder, { recursive: true, force: true });
  await rename(unfinished, folder);
}

async function fetchText(url: string, withinMs: number): Promise<string> {
  const response = await fetch(url, { signal: AbortSignal.timeout(withinMs) });
  if (!response.ok) throw new Error(`${url} answered ${response.status}`);
  return response.text();
}

async function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}

/** What the one try to fetch brought, for `npm run doctor`; undefined before the first try. */
export async function officialTry(): Promise<string | undefined> {
  return readFile(MEMORY_FILE, "utf8").then(
    (text) => (JSON.parse(text) as { outcome: string }).outcome,
    () => undefined,
  );
}
