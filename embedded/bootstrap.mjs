// The first lines that run in a clean clone, under whatever Node is installed: plain JavaScript without a
// dependency. Installs the npm packages by the lockfile, the project's own Node among them, and hands over to it.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "..");
const CACHE = join(ROOT, ".cache");
const MARKER = join(ROOT, "node_modules", ".installed-for");
const NODE = join(ROOT, "node_modules", ".bin", "node");

function refuse(sentence) {
  process.stderr.write(`${sentence}\n`);
  process.exit(1);
}

function readOr(file, otherwise) {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return otherwise;
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
  mkdirSync(join(CACHE, "logs"), { recursive: true });
  const logFile = join(CACHE, "logs", "npm-ci.log");
  const log = openSync(logFile, "w");
  process.stdout.write("  …  npm packages\n");
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
