import { spawnSync } from "node:child_process";
import { describeFailure } from "../steps.ts";
import { PlatformError } from "../platform-error.ts";
import { MACHINES } from "./layout.ts";
import type { MachinePlan } from "./layout.ts";
import { machineProcess, onMachine } from "./machine.ts";
import {
  asOperator,
  destroyPlatform,
  platformFacts,
  startPlatform,
  stopPlatform,
} from "./platform.ts";

const USAGE =
  "Usage: node embedded/machines/main.ts up | down | destroy | status | shell <machine or operator> [command …]\n";

async function main([verb, name, ...rest]: readonly string[]): Promise<number> {
  const start = performance.now();
  const elapsed = (): string => `${((performance.now() - start) / 1000).toFixed(2).padStart(6)} s`;
  switch (verb) {
    case "up":
      await startPlatform({
        onProgress: (machine, step) => {
          process.stdout.write(`${elapsed()}  ${machine.padEnd(8)} ${step}\n`);
        },
      });
      process.stdout.write(`${elapsed()}  the platform runs\n`);
      return 0;
    case "down":
      await stopPlatform();
      process.stdout.write(`${elapsed()}  the platform is stopped\n`);
      return 0;
    case "destroy":
      await destroyPlatform();
      process.stdout.write(`${elapsed()}  the platform is gone with its data\n`);
      return 0;
    case "status": {
      const facts = await platformFacts();
      for (const machine of MACHINES) {
        const first = machineProcess(machine.name);
        process.stdout.write(
          `${machine.name.padEnd(8)} ${machine.address.padEnd(11)} ${first === undefined ? "stopped" : `pid ${String(first.pid)}`}\n`,
        );
      }
      return facts === undefined ? 1 : 0;
    }
    case "shell": {
      const command = rest.length === 0 ? ["bash", "-l"] : rest;
      const argv =
        name === "operator" ? asOperator(command) : onMachine(machineNamed(name).name, command);
      const [program = "", ...args] = argv;
      return spawnSync(program, args, { stdio: "inherit" }).status ?? 1;
    }
    case undefined:
    default:
      process.stderr.write(USAGE);
      return 2;
  }
}

function machineNamed(name: string | undefined): MachinePlan {
  const plan = MACHINES.find((machine) => machine.name === name);
  if (plan === undefined) {
    throw new PlatformError(
      `Machine "${name ?? ""}": must be one of operator, ${MACHINES.map((m) => m.name).join(", ")}.`,
    );
  }
  return plan;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof PlatformError)) throw error;
  process.stderr.write(`${describeFailure(error)}\n`);
  process.exitCode = 2;
}
