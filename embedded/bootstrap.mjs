// The first lines that run in a clean clone, under whatever Node is installed: plain JavaScript without a
// dependency. Installs the npm packages by the lockfile, the project's own Node among them, and hands over to it.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "..");
const CACHE = join(ROOT, ".cache");
const PACKAGES = join(ROOT, "node_modules");
const MARKER = join(PACKAGES, ".installed-for");
const NODE = join(PACKAGES, ".bin", "node");
/** Installed packages by what they were installed for: unpacking them takes half a minute, linking them two seconds. */
const INSTALLED = join(CACHE, "npm-packages");

function refuse(sentence) {
  process.stderr.write(`${sentence}\n`);
  process.exit(1);
}

/** A copy of a folder that shares its files where the file system can, and appears whole or not at all. */
function copyFolder(from, to) {
  const unfinished = `${to}.unfinished`;
  rmSync(unfinished, { recursive: true, force: true });
  for (const how of ["-al", "-a"]) {
    const copy = spawnSync("cp", [how, from, unfinished], { stdio: "ignore" });
    if (copy.status === 0) {
      rmSync(to, { recursive: true, force: true });
      renameSync(unfinished, to);
      return;
    }
    rmSync(unfinished, { recursive: true, force: true });
  }
  refuse(`npm packages: ${from} must be copied to ${to}. Look at the room that is left there.`);
}

function readOr(file, otherwise) {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return otherwise;
  }
}

function installPackages() {
  mkdirSync(join(CACHE, "logs"), { recursive: true });
  const logFile = join(CACHE, "logs", "npm-ci.log");
  const log = openSync(logFile, "w");
  rmSync(MARKER, { force: true });
  // No install script runs: what a package ships is what is used. Production and development alike, whatever
  // NODE_ENV says: the tests are part of the product.
  const npm = spawnSync(
    "npm",
    ["ci", "--ignore-scripts", "--include=dev", "--include=optional", "--no-audit", "--no-fund"],
    { cwd: ROOT, stdio: ["ignore", log, log] },
  );
  if (npm.status !== 0) {
    const found = npm.error?.message ?? `exit code ${npm.status}`;
    refuse(`npm packages: "npm ci" must succeed, got ${found}. Read ${logFile} and start again.`);
  }
}

const [major = 0] = process.versions.node.split(".").map(Number);
if (major < 20) {
  refuse(
    `Node: must be version 20 or later, got ${process.versions.node}. Install Node 20 or later.`,
  );
}

const lockfile = readFileSync(join(ROOT, "package-lock.json"));
const wanted = createHash("sha256").update(lockfile).digest("hex");
if (readOr(MARKER, "") !== wanted) {
  const startedAt = Date.now();
  process.stdout.write("  …  npm packages\n");
  const installed = join(INSTALLED, `${process.platform}-${process.arch}-${wanted.slice(0, 16)}`);
  if (existsSync(installed)) {
    copyFolder(installed, PACKAGES);
  } else {
    installPackages();
    // Of one lockfile only: what an earlier one named is not wanted again.
    rmSync(INSTALLED, { recursive: true, force: true });
    mkdirSync(INSTALLED);
    copyFolder(PACKAGES, installed);
  }
  writeFileSync(MARKER, wanted);
  const seconds = ((Date.now() - startedAt) / 1000).toFixed(1);
  process.stdout.write(`  ok ${"npm packages".padEnd(44)} ${`${seconds} s`.padStart(8)}\n`);
}

const probe = spawnSync(NODE, ["--version"], { encoding: "utf8" });
if (probe.status !== 0) {
  refuse(
    `Node: npm must ship one for this machine, got none for ${process.platform}-${process.arch}. ` +
      "Use Linux on x64 or arm64.",
  );
}

const child = spawnSync(NODE, [join(ROOT, "embedded", "main.ts"), ...process.argv.slice(2)], {
  stdio: "inherit",
});
process.exit(child.status ?? 1);
