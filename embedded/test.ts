import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";

import { bringUp, prepare } from "./bring-up.ts";
import { deploy } from "./deploy.ts";
import { writeFleetStack } from "./local-fleet.ts";
import { asOperator, platformFacts, stopPlatform } from "./machines/platform.ts";
import { CACHE, ROOT } from "./paths.ts";
import { PlatformError } from "./platform-error.ts";
import { Steps } from "./steps.ts";
import { CHECKERS, TOOLS } from "./toolchain/tools.ts";
import { keepWarm, letCool } from "./warm/warm-plugins.ts";

const BIN = join(ROOT, "node_modules", ".bin");
const RESULTS = join(CACHE, "test-results");

/** Where a command runs: as it is, or inside the operator's namespace. */
type Enter = (argv: readonly string[]) => readonly string[];

interface Tally {
  passed: number;
  failed: number;
}

/**
 * `npm test`: everything, with all that it needs. `npm run test:unit`: the level that needs only Node.
 *
 * A skipped test counts as a failed one. A platform that ran before keeps running; one that was started for the tests
 * is stopped after them.
 */
export async function test(args: readonly string[]): Promise<number> {
  const [level = "all"] = args;
  if (level !== "all" && level !== "unit") {
    throw new PlatformError(
      `Tests "${level}": must be all or unit. Run npm test or npm run test:unit.`,
    );
  }
  const here: Enter = (argv) => argv;
  const tally: Tally = { passed: 0, failed: 0 };
  if (level === "all") {
    check("types", ["tsc"], tally);
    check("rules", ["eslint", "."], tally);
    check("format", ["prettier", "--check", "--log-level", "warn", "."], tally);
  }
  runLevel("unit", here, tally);
  if (level === "all") {
    const steps = new Steps();
    await prepare(steps, [...TOOLS, ...CHECKERS]);
    runLevel("embedded", here, tally);
    const ranBefore = (await platformFacts()) !== undefined;
    try {
      const { facts, images } = await bringUp(steps);
      await keepWarm(facts);
      const fleet = await writeFleetStack(facts, images);
      await steps.run("fleet", () => deploy(fleet, facts));
      runLevel("platform", (argv) => asOperator(argv, facts), tally);
      await letCool();
      runLevel("stop", here, tally);
    } finally {
      if (!ranBefore) {
        await letCool();
        await steps.run("machines and clusters stopped", () => stopPlatform());
      }
    }
  }
  process.stdout.write(`\n${tally.passed} passed, ${tally.failed} failed\n`);
  return tally.failed === 0 ? 0 : 1;
}

function check(title: string, [command = "", ...args]: readonly string[], tally: Tally): void {
  const { status } = spawnSync(join(BIN, command), args, { cwd: ROOT, stdio: "inherit" });
  tally[status === 0 ? "passed" : "failed"] += 1;
  process.stdout.write(`${title}: ${status === 0 ? "hold" : "do not hold"}\n`);
}

/** Runs one project of `vitest.config.ts` and adds its figures. */
function runLevel(project: string, enter: Enter, tally: Tally): void {
  mkdirSync(RESULTS, { recursive: true });
  const resultFile = join(RESULTS, `${project}.json`);
  rmSync(resultFile, { force: true });
  const [command = "", ...args] = enter([
    join(BIN, "vitest"),
    "run",
    ...["--project", project],
    ...["--reporter", "default", "--reporter", "json", `--outputFile.json=${resultFile}`],
  ]);
  const { status } = spawnSync(command, args, { cwd: ROOT, stdio: "inherit" });
  const result = readResult(resultFile, project);
  const failed = result.numTotalTests - result.numPassedTests;
  tally.passed += result.numPassedTests;
  // A file that does not load, or an error outside every test, is a failure that no test counts.
  tally.failed += failed === 0 && status !== 0 ? 1 : failed;
}

function readResult(
  file: string,
  project: string,
): { numTotalTests: number; numPassedTests: number } {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as {
      numTotalTests: number;
      numPassedTests: number;
    };
  } catch (cause) {
    throw new PlatformError(
      `Tests "${project}": must leave their results, got none. Read what vitest printed above.`,
      { cause },
    );
  }
}
