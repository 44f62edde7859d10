import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { ROOT } from "../paths.ts";
import { PlatformError } from "../platform-error.ts";

/** The folder of the project's policy pack. */
export const POLICY_PACK = join(ROOT, "policies");

/**
 * Checks that the policy pack starts as it is written, without being compiled, and names its folder for
 * `--policy-pack`.
 *
 * Why it needs no build. The engine starts a pack with `run-policy-pack`, which puts ts-node before it, whatever the
 * options say; ts-node takes over every `require` of a `.ts` file and knows no `.ts` endings in imports. But
 * `run-policy-pack` also awaits what the pack's entry point exports, and ts-node has no part in `import()`: there Node
 * 24 strips the types itself. So the entry point is `main.cjs`, which imports `index.ts`, and the pack, its rules and
 * the `model/` they share with the program are the files that were reviewed, with the official language host as with
 * the embedded one. Packages are resolved upwards, from the checkout's root. Three things keep it that way:
 *
 * - `package.json` of the pack says `"type": "module"` and `"main": "main.cjs"`;
 * - `main.cjs` writes Node's compile cache, since the engine ends a pack with a signal, which would throw it away;
 * - `PulumiPolicy.yaml` says `typescript: false`, upon which the embedded host leaves out ts-node and the compiler
 *   (0.2 s of 0.6 s); the official host loads them in vain. A `tsconfig.json` in the folder would have the compiler
 *   loaded again to read it.
 *
 * @throws PlatformError when one of these does not hold
 */
export function policyPack(folder: string = POLICY_PACK): string {
  const entry = read(folder, "main.cjs");
  const { type, main } = JSON.parse(read(folder, "package.json")) as {
    type?: string;
    main?: string;
  };
  require(folder, "package.json", "main", main === "main.cjs", '"main.cjs"', main);
  require(folder, "package.json", "type", type === "module", '"module"', type);
  require(folder, "main.cjs", "content", entry.includes(
    'import("./index.ts")',
  ), 'import("./index.ts")', entry.trim());
  if (existsSync(join(folder, "tsconfig.json"))) {
    throw new PlatformError(
      `Policy pack "${folder}": must have no tsconfig.json of its own, got one. Remove it; the checkout's covers it.`,
    );
  }
  return folder;
}

function read(folder: string, file: string): string {
  try {
    return readFileSync(join(folder, file), "utf8");
  } catch (cause) {
    throw new PlatformError(
      `Policy pack "${folder}": must have a file ${file}, got none. Restore it from git.`,
      { cause },
    );
  }
}

function require(
  folder: string,
  file: string,
  what: string,
  holds: boolean,
  wanted: string,
  got: string | undefined,
): void {
  if (holds) return;
  throw new PlatformError(
    `Policy pack "${folder}": ${what} in ${file} must be ${wanted}, got ${got ?? "none"}. Restore it from git.`,
  );
}
