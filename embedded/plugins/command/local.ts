/** Runs one command on this machine. */
import { spawn } from "node:child_process";
import type { ChildProcess, SpawnOptions } from "node:child_process";

export interface LocalCommand {
  /** Program and arguments that the command's text is added to. @default /bin/sh -c */
  readonly interpreter: readonly string[];
  /** @default the plugin's working folder */
  readonly dir: string | undefined;
  /** Added to the plugin's own environment. */
  readonly environment: { readonly [name: string]: string };
  /** What the command reads; empty: nothing. */
  readonly stdin: string;
}

export interface LocalResult {
  readonly stdout: string;
  readonly stderr: string;
  /** Both, in the order of arrival: for the error of a failed command. */
  readonly output: string;
  /** Absent when the command ended well; else how it ended. */
  readonly failure?: string;
}

/** Runs the command to its end, or kills it when the signal says so. */
export async function runLocally(
  text: string,
  command: LocalCommand,
  signal: AbortSignal,
  onOutput: (stream: "stdout" | "stderr", text: string) => void,
): Promise<LocalResult> {
  const [program = "/bin/sh", ...args] =
    command.interpreter.length > 0 ? command.interpreter : ["/bin/sh", "-c"];
  const options: SpawnOptions = {
    ...(command.dir === undefined ? {} : { cwd: command.dir }),
    env: { ...process.env, ...command.environment },
    stdio: [command.stdin === "" ? "ignore" : "pipe", "pipe", "pipe"],
    signal,
    killSignal: "SIGKILL",
  };
  let child: ChildProcess;
  try {
    child = spawn(program, [...args, text], options);
  } catch (error) {
    // Some refusals (an environment that is too long) are thrown, others are events.
    const failure = error instanceof Error ? error.message : String(error);
    return { stdout: "", stderr: "", output: "", failure };
  }
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  const output: Buffer[] = [];
  const collect = (stream: "stdout" | "stderr", into: Buffer[]) => (chunk: Buffer) => {
    into.push(chunk);
    output.push(chunk);
    onOutput(stream, chunk.toString("utf8"));
  };
  child.stdout?.on("data", collect("stdout", stdout));
  child.stderr?.on("data", collect("stderr", stderr));
  // A command that does not read its input closes it early: that is no failure of the command.
  child.stdin?.on("error", () => {});
  child.stdin?.end(command.stdin);
  const failure = await new Promise<string | undefined>((resolve) => {
    child.once("error", (error) => resolve(signal.aborted ? "cancelled" : error.message));
    child.once("close", (code, killedBy) => {
      if (code === 0) resolve(undefined);
      else resolve(code === null ? `signal: ${killedBy ?? "unknown"}` : `exit status ${code}`);
    });
  });
  return {
    stdout: Buffer.concat(stdout).toString("utf8"),
    stderr: Buffer.concat(stderr).toString("utf8"),
    output: Buffer.concat(output).toString("utf8"),
    ...(failure === undefined ? {} : { failure }),
  };
}
