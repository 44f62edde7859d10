import { spawn } from "node:child_process";
import { MachineError } from "./machine-error.ts";

/** What a finished command left. */
export interface CommandResult {
  readonly stdout: string;
  readonly stderr: string;
  /** The exit code; 128 plus the signal's number cannot be told apart and is given as 137. */
  readonly exitCode: number;
}

/** How a command runs. */
export interface CommandOptions {
  /** What it reads at its standard input. @default nothing, closed at once */
  readonly stdin?: string | Uint8Array;
  /** The whole environment. @default the caller's */
  readonly env?: Readonly<Record<string, string>>;
  /** Seconds after which it is killed. @default 60 */
  readonly timeoutSeconds?: number;
}

/** Runs a command to its end, whatever its exit code. Throws when it cannot be started at all. */
export async function runCommand(
  argv: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const [program = "", ...args] = argv;
  const child = spawn(program, args, {
    stdio: ["pipe", "pipe", "pipe"],
    timeout: (options.timeoutSeconds ?? 60) * 1000,
    killSignal: "SIGKILL",
    ...(options.env === undefined ? {} : { env: options.env }),
  });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
  // A command that ends without reading its input breaks the pipe; its exit code tells enough.
  child.stdin.on("error", () => undefined);
  child.stdin.end(options.stdin ?? "");
  const exitCode = await new Promise<number>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => {
      resolve(code ?? 137);
    });
  });
  return {
    stdout: Buffer.concat(stdout).toString(),
    stderr: Buffer.concat(stderr).toString(),
    exitCode,
  };
}

/**
 * Runs a command that must succeed and returns its standard output.
 *
 * Throws a {@link MachineError} that names the step and the command, and quotes its last words.
 */
export async function mustRun(
  step: string,
  argv: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  const command = shown(argv);
  let result: CommandResult;
  try {
    result = await runCommand(argv, options);
  } catch (cause) {
    throw new MachineError(
      `Step "${step}": "${argv[0]}" must be startable, got ${reason(cause)}.`,
      {
        step,
        command,
        wayOut: "Install the Debian package that brings it, then start again.",
        cause,
      },
    );
  }
  if (result.exitCode !== 0) {
    const words = (result.stderr.trim() || result.stdout.trim()).split("\n").slice(-3).join(" | ");
    throw new MachineError(
      `Step "${step}": "${command}" must exit with 0, got ${String(result.exitCode)} (${words}).`,
      { step, command, wayOut: wayOutOf(words) },
    );
  }
  return result.stdout;
}

/** The advice that fits what a failed command or system call said. */
export function wayOutOf(words: string): string {
  if (/no space left|ENOSPC/i.test(words)) {
    return "Free some space on the disk of this checkout, then start again.";
  }
  if (/operation not permitted|permission denied|EPERM|EACCES/i.test(words)) {
    return "Run as root with the capabilities for namespaces and mounts, then start again.";
  }
  return "Stop the platform and start it again; if it persists, the log tells more.";
}

/** A command line short enough for a sentence: of a script only its beginning. */
function shown(argv: readonly string[]): string {
  const line = argv.join(" ").replaceAll(/\s+/g, " ");
  return line.length <= 160 ? line : `${line.slice(0, 160)}…`;
}

function reason(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
