/** The commands behind `npm start`, `npm stop`, `npm test` and their like; `bootstrap.mjs` starts this file. */
import { dirname } from "node:path";

import { describeFailure } from "./steps.ts";

const COMMANDS: { readonly [name: string]: (args: readonly string[]) => Promise<number> } = {
  start: async () => (await import("./start.ts")).start(),
  stop: async () => (await import("./stop.ts")).stop(),
  doctor: async () => (await import("./doctor.ts")).doctor(),
  test: async (args) => (await import("./test.ts")).test(args),
  bench: async (args) => (await import("./bench/bench.ts")).bench(args),
  review: async (args) => (await import("./review.ts")).review(args),
  shell: async (args) => (await import("./look-inside.ts")).shell(args),
  kubectl: async (args) => (await import("./look-inside.ts")).kubectl(args),
  psql: async (args) => (await import("./look-inside.ts")).psql(args),
  pulumi: async (args) => (await import("./look-inside.ts")).pulumi(args),
};

const [name = "", ...args] = process.argv.slice(2);
const command = COMMANDS[name];
if (command === undefined) {
  process.stderr.write(
    `Command "${name}": must be one of ${Object.keys(COMMANDS).join(", ")}. Run npm start.\n`,
  );
  process.exit(2);
}

// What is started from here uses this Node too, whatever else is installed.
process.env["PATH"] = `${dirname(process.execPath)}:${process.env["PATH"] ?? ""}`;

try {
  process.exitCode = await command(args);
} catch (error) {
  process.stderr.write(`\n${describeFailure(error)}\n`);
  process.exitCode = 1;
}
