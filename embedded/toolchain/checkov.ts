import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

import { CACHE } from "../paths.ts";
import { PlatformError } from "../platform-error.ts";
import type { Progress } from "../steps.ts";

const run = promisify(execFile);

const LOCK_FILE = join(import.meta.dirname, "checkov", "requirements.txt");
const FOLDER = join(CACHE, "checkov");
/** Written last: names the lock file, and the place and the Python, which an environment knows of itself. */
const MARKER = join(FOLDER, ".installed-for");
const PYTHON = "/usr/bin/python3";

/** The program, once {@link installCheckov} has run. */
export const CHECKOV = join(FOLDER, "bin", "checkov");

/** What it takes from the distribution, and why. */
export const CHECKOV_PACKAGES: { readonly [name: string]: string } = {
  "python3-venv": "checkov, for tests",
};

/**
 * Installs checkov by its lock file, every file of it checked against its hash. Needed by tests alone.
 *
 * @throws PlatformError with the command to run by hand when it cannot
 */
export async function installCheckov(progress: Progress): Promise<void> {
  const python = (await run(PYTHON, ["--version"])).stdout;
  const wanted = createHash("sha256")
    .update(`${FOLDER}\n${python}`)
    .update(await readFile(LOCK_FILE))
    .digest("hex");
  if ((await readFile(MARKER, "utf8").catch(() => "")) === wanted) {
    progress("all there");
    return;
  }
  const pip = [
    ...[
      "-m",
      "pip",
      "install",
      "--quiet",
      "--no-input",
      "--disable-pip-version-check",
      "--no-deps",
    ],
    ...["--require-hashes", "--only-binary", ":all:", "--requirement", LOCK_FILE],
  ];
  try {
    await rm(FOLDER, { recursive: true, force: true });
    await run(PYTHON, ["-m", "venv", FOLDER]);
    await run(join(FOLDER, "bin", "python3"), pip, { maxBuffer: 64 * 2 ** 20 });
  } catch (cause) {
    const said = (cause as { stderr?: string }).stderr?.trim().split("\n").at(-1) ?? "";
    throw new PlatformError(
      `checkov: must be installed by its lock file, got "${said}". ` +
        `Run "${PYTHON} -m venv ${FOLDER}" and its pip with ${LOCK_FILE} to see all of it, and start again.`,
      { cause },
    );
  }
  await writeFile(MARKER, wanted);
}
