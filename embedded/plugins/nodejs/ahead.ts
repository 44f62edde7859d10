/**
 * A program's process before its turn: loads the packages that the program will ask for, then waits to be told what
 * to run. The engine starts policy packs first and the program only then; loading meanwhile saves the program's start.
 *
 * Arguments: the program's folder, then the packages. What is sent by message is an `AheadRun`.
 */
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

/** What a process that was started ahead is to become. */
export interface AheadRun {
  /** The script and its arguments, as they would stand behind `node`. */
  readonly argv: readonly string[];
  readonly env: { readonly [name: string]: string | undefined };
}

interface SdkState {
  readonly LocalStore: new () => { settings: unknown; config: unknown };
  readonly getGlobalStore: () => { settings: unknown; config: unknown };
}

const [, , directory = "", ...packages] = process.argv;
const manifest = join(directory, "package.json");
const load = createRequire(manifest);

process.once("message", ({ argv, env }: AheadRun) => {
  process.disconnect();
  for (const name of Object.keys(process.env)) {
    if (env[name] === undefined) delete process.env[name];
  }
  Object.assign(process.env, env);
  // The SDK has read its environment when it was loaded; this is what it would read now.
  const state = load("@pulumi/pulumi/runtime/state") as SdkState;
  const { settings, config } = new state.LocalStore();
  Object.assign(state.getGlobalStore(), { settings, config });
  process.argv = [process.execPath, ...argv];
  load(argv[0] ?? "");
});

for (const name of packages) {
  // As the program will import it. One that cannot be loaded is the program's to complain about.
  await import(import.meta.resolve(name, pathToFileURL(manifest))).catch(() => undefined);
}
