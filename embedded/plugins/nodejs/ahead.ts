/**
 * The process of a program, or of a policy pack, before its turn: it loads the packages that those ask for, and then
 * waits to be told what to run. See `warm/pool.ts`.
 *
 * Arguments: the folder whose packages are meant, then the packages. What it is told are the arguments of Node for the
 * run: a script of that folder's SDK and what follows it.
 */
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { turn } from "../turn.ts";

interface SdkState {
  readonly LocalStore: new () => { settings: unknown; config: unknown };
  readonly getGlobalStore: () => { settings: unknown; config: unknown };
}

const [, , folder = "", ...packages] = process.argv;
const manifest = join(folder, "package.json");
const load = createRequire(manifest);

for (const name of packages) {
  // As the program will import it. One that cannot be loaded is the program's to complain about.
  await import(import.meta.resolve(name, pathToFileURL(manifest))).catch(() => undefined);
}
await turn();
// The SDK has read its environment when it was loaded; this is what it would read now.
const state = load("@pulumi/pulumi/runtime/state") as SdkState;
const { settings, config } = new state.LocalStore();
Object.assign(state.getGlobalStore(), { settings, config });
const [, , ...run] = process.argv;
process.argv = [process.execPath, ...run];
load(run[0] ?? "");
