/**
 * The process of a program before its turn: it loads what the program will ask for, and then waits to be told what to
 * run. See `warm/pool.ts`.
 *
 * Arguments: the folder whose packages are meant, then what to load of them. What it is told are the arguments of Node for the
 * run: a script of that folder's SDK and what follows it.
 */
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { turn } from "../turn.ts";
import { readEnvironmentAnew } from "./sdk-environment.ts";

const [, , folder = "", ...packages] = process.argv;
const manifest = join(folder, "package.json");
const load = createRequire(manifest);

for (const name of packages) {
  // As the program will import it. One that cannot be loaded is the program's to complain about.
  await import(import.meta.resolve(name, pathToFileURL(manifest))).catch(() => undefined);
}
await turn();
readEnvironmentAnew(load);
const [, , ...run] = process.argv;
process.argv = [process.execPath, ...run];
load(run[0] ?? "");
