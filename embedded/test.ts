import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join, relative } from "node:path";

import { bringUp, prepare } from "./bring-up.ts";
import { installMissingPackages } from "./debian-packages.ts";
import { deploy } from "./deploy.ts";
import { writeFleetStack } from "./local-fleet.ts";
import { asOperator, platformFacts, stopPlatform } from "./machines/platform.ts";
import { CACHE, ROOT } from "./paths.ts";
import { PlatformError } from "./platform-error.ts";
import { Steps } from "./steps.ts";
import { CHECKOV_PACKAGES, installCheckov } from "./toolchain/checkov.ts";
import { CHECKERS, TOOLS } from "./toolchain/tools.ts";
import { keepWarm, letCool } from "./warm/warm-plugins.ts";

const BIN = join(ROOT, "node_modules", ".bin");
const RESULTS = join(CACHE, "test-results");

/** Where a command runs: as it is, or inside the operator's namespace. */
type Enter = (argv: readonly string[]) => readonly string[];

interface Tally {
  passed: number;
  /** A line for each: the level, the file, the test, and the first line of what it said. */
  readonly failures: string[];
}

/** The part of vitest's results that is read. */
interface Results {
  readonly numPassedTests: number;
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message?: string;
    readonly assertionResults: readonly {
      readonly status: string;
      readonly fullName: string;
      readonly failureMessages?: readonly string[];
    }[];
  }[];
}

/**
 * `npm test`: everything, with all that it needs. `npm run test:unit`: the level that needs only Node.
 *
 * A skipped test counts as a failed one. What failed is said once more at the end, where it is found in a long log. A
 * platform that ran before keeps running; one that was started for the tests is stopped after them.
 */
export async function test(args: readonly string[]): Promise<number> {
  const [level = "all"] = args;
  if (level !== "all" && level !== "unit") {
    throw new PlatformError(
      `Tests "${level}": must be all or unit. Run npm test or npm run test:unit.`,
    );
  }
  const here: Enter = (argv) => argv;
  const tally: Tally = { passed: 0, failures: [] };
  if (level === "all") {
    check("types", ["tsc"], tally);
    check("rules", ["eslint", "."], tally);
    check("format", ["prettier", "--check", "--log-level", "warn", "."], tally);
  }
  runLevel("unit", here, tally);
  if (level === "all") {
    const steps = new Steps();
    await prepare(steps, [...TOOLS, ...CHECKERS]);
    await steps.run("Debian packages for tests", (progress) =>
      installMissingPackages(progress, CHECKOV_PACKAGES),
    );
    await steps.run("checkov", installCheckov);
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
  const { passed, failures } = tally;
  for (const failure of failures) process.stdout.write(`failed: ${failure}\n`);
  process.stdout.write(`\n${passed} passed, ${failures.length} failed\n`);
  return failures.length === 0 ? 0 : 1;
}

function check(title: string, [command = "", ...args]: readonly string[], tally: Tally): void {
  const { status } = spawnSync(join(BIN, command), args, { cwd: ROOT, stdio: "inherit" });
  if (status === 0) tally.passed += 1;
  else tally.failures.push(title);
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
  const results = readResults(resultFile, project);
  const failed = failuresOf(results).map((failure) => `${project}: ${failure}`);
  tally.passed += results.numPassedTests;
  tally.failures.push(...failed);
  // An error outside every test is a failure that no test counts.
  if (failed.length === 0 && status !== 0)
    tally.failures.push(`${project}: vitest ended with ${status}`);
}

/** Each test that did not pass, and each file that failed by itself: it did not load, or what is done around its tests. */
function failuresOf({ testResults }: Results): string[] {
  return testResults.flatMap(({ name, status: outcome, message = "", assertionResults }) => {
    const file = relative(ROOT, name);
    const isByItself = !assertionResults.some(({ status }) => status === "failed");
    if (outcome !== "passed" && isByItself) return [`${file}: ${firstLine(message)}`];
    return assertionResults
      .filter(({ status }) => status !== "passed")
      .map(({ status, fullName, failureMessages = [] }) =>
        [file, fullName, failureMessages.map(firstLine).join(" ") || status].join(": "),
      );
  });
}

function firstLine(text: string): string {
  return text.split("\n", 1)[0] ?? "";
}

function readResults(file: string, project: string): Results {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as Results;
  } catch (cause) {
    throw new PlatformError(
      `Tests "${project}": must leave their results, got none. Read what vitest printed above.`,
      { cause },
    );
  }
}
