import { spawn } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import {
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import type { Readable } from "node:stream";
import { stripVTControlCharacters } from "node:util";

import { BIN, CACHE, ROOT } from "../paths.ts";
import { PlatformError } from "../platform-error.ts";
import { COMPILE_CACHE, keepNoDebugLogs, nodeProgram, PULUMI_BIN, PULUMI_HOME } from "./plugins.ts";

/** Where the embedded platform's stacks are kept, unless a run names another place. */
export const STATE = join(CACHE, "state");

/** Encrypts the secrets in the stacks of STATE. Made once, readable by its owner only. */
export const PASSPHRASE_FILE = join(CACHE, "secrets", "pulumi-passphrase");

/** Addresses that the embedded plugins may touch besides loopback: the embedded machines. */
const EMBEDDED_ADDRESSES = "10.77.0.0/24";

/**
 * Room that a run must find where its state is kept, in MiB. The engine writes the whole record twice for each step
 * and tears it when the disk fills in between, the copy beside it too: so a run with little room is not begun.
 */
const STATE_ROOM_MIB = 256;
/** With less than this a run is ended as by Ctrl-C: what it has begun is finished and recorded in what is left. */
const STATE_ROOM_LEFT_MIB = 128;
const ROOM_POLL_MS = 200;

/** What a run of the CLI came to. */
export interface PulumiRun {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** How a run of the CLI is to go. */
export interface PulumiOptions {
  /** The folder of Pulumi.yaml. @default the checkout's root */
  readonly cwd?: string;
  /** The file with the stack's settings. @default Pulumi.<stack>.yaml beside Pulumi.yaml */
  readonly stackConfigFile?: string;
  /** Where stacks are kept. @default STATE */
  readonly stateFolder?: string;
  /** Puts the call into a namespace: given the program and its arguments, answers what to start instead. */
  readonly inOperatorNamespace?: (argv: readonly string[]) => readonly string[];
  /** Called with each line of output as it comes. */
  readonly onLine?: (line: string, stream: "stdout" | "stderr") => void;
  /** Added to the environment, over what pulumiEnvironment gives. */
  readonly env?: NodeJS.ProcessEnv;
  /** Ends the run as Ctrl-C does: what has begun is finished and recorded. */
  readonly signal?: AbortSignal;
}

/**
 * The environment in which `pulumi` runs against the embedded platform: its own home and state, no network, no
 * questions. Usable for a shell too (`npm run shell`).
 *
 * A passphrase that the user has set is kept: a stack made with another one is then refused, not re-encrypted.
 *
 * @param stateFolder where stacks are kept
 */
export function pulumiEnvironment(stateFolder: string = STATE): NodeJS.ProcessEnv {
  mkdirSync(stateFolder, { recursive: true });
  keepNoDebugLogs(PULUMI_HOME);
  const path = [PULUMI_BIN, BIN, dirname(nodeProgram()), process.env["PATH"] ?? ""];
  const hasPassphrase =
    process.env["PULUMI_CONFIG_PASSPHRASE"] !== undefined ||
    process.env["PULUMI_CONFIG_PASSPHRASE_FILE"] !== undefined;
  return {
    ...process.env,
    PATH: path.join(delimiter),
    PULUMI_HOME,
    // No file of attributes beside each: the engine looks at none, and a kill can tear one.
    PULUMI_BACKEND_URL: `file://${stateFolder}?metadata=skip`,
    ...(hasPassphrase ? {} : { PULUMI_CONFIG_PASSPHRASE_FILE: passphraseFile() }),
    PULUMI_SKIP_UPDATE_CHECK: "true",
    PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION: "true",
    ...(process.stdout.isTTY ? {} : { NO_COLOR: "1" }),
    NODE_COMPILE_CACHE: COMPILE_CACHE,
    FLUX_EMBEDDED_ADDRESSES: EMBEDDED_ADDRESSES,
  };
}

/** Of two processes that make the file at once, the first one's content is kept. */
function passphraseFile(): string {
  if (existsSync(PASSPHRASE_FILE)) return PASSPHRASE_FILE;
  mkdirSync(dirname(PASSPHRASE_FILE), { recursive: true, mode: 0o700 });
  const unfinished = `${PASSPHRASE_FILE}.${randomUUID()}`;
  writeFileSync(unfinished, randomBytes(32).toString("base64url"), { mode: 0o600 });
  try {
    linkSync(unfinished, PASSPHRASE_FILE);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  } finally {
    rmSync(unfinished);
  }
  return PASSPHRASE_FILE;
}

/**
 * Runs `pulumi` to its end, without questions, and tells what it printed. A failed run is an answer, not an error:
 * `pulumiFailure` says it in one sentence.
 *
 * @throws PlatformError when the CLI cannot be started, or there is no room to record what it would do
 */
export async function runPulumi(
  args: readonly string[],
  options: PulumiOptions = {},
): Promise<PulumiRun> {
  const env = { ...pulumiEnvironment(options.stateFolder), ...options.env };
  assertRoomForState(options.stateFolder ?? STATE);
  const call = [
    join(PULUMI_BIN, "pulumi"),
    ...args,
    "--non-interactive",
    ...(options.stackConfigFile !== undefined && takesSettings(args)
      ? ["--config-file", options.stackConfigFile]
      : []),
  ];
  const [program = "", ...rest] = options.inOperatorNamespace?.(call) ?? call;
  return new Promise((resolve, reject) => {
    const child = spawn(program, rest, {
      cwd: options.cwd ?? ROOT,
      env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    const interrupt = (): void => void child.kill("SIGINT");
    options.signal?.addEventListener("abort", interrupt, { once: true });
    const outOfRoom = setInterval(() => {
      if (freeMib(options.stateFolder ?? STATE) >= STATE_ROOM_LEFT_MIB) return;
      clearInterval(outOfRoom);
      told.stderr += "The run was ended early: no space left on device\n";
      interrupt();
    }, ROOM_POLL_MS);
    const told = { stdout: "", stderr: "" };
    const listen = (stream: Readable, name: "stdout" | "stderr"): void => {
      let rest = "";
      stream.setEncoding("utf8").on("data", (text: string) => {
        told[name] += text;
        const lines = `${rest}${text}`.split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) options.onLine?.(line, name);
      });
      stream.on("end", () => {
        if (rest !== "") options.onLine?.(rest, name);
      });
    };
    listen(child.stdout, "stdout");
    listen(child.stderr, "stderr");
    child.once("error", (cause) => {
      clearInterval(outOfRoom);
      reject(
        new PlatformError(
          `Program "${program}": must start, got ${cause.message}. Run npm start, which makes it.`,
          { cause },
        ),
      );
    });
    child.once("close", (code, signal) => {
      clearInterval(outOfRoom);
      options.signal?.removeEventListener("abort", interrupt);
      // As a shell counts them: 128 and the signal's number, of which 9 is the one that matters.
      resolve({ exitCode: code ?? (signal === "SIGKILL" ? 137 : 128), ...told });
    });
  });
}

const WITH_SETTINGS = new Set([
  ...["up", "update", "preview", "pre", "refresh", "destroy", "down", "config", "import", "watch"],
]);

/** Whether a command of Pulumi takes a file with the stack's settings; the others refuse to be told of one. */
export function takesSettings([command = ""]: readonly string[]): boolean {
  return WITH_SETTINGS.has(command);
}

function assertRoomForState(folder: string): void {
  const mib = freeMib(folder);
  if (mib >= STATE_ROOM_MIB) return;
  throw new PlatformError(
    `State folder "${folder}": its disk must have ${STATE_ROOM_MIB} MiB free, got ${mib.toFixed(0)} MiB. ` +
      "Free some space there and run it again; nothing was begun.",
  );
}

function freeMib(folder: string): number {
  const { bavail, bsize } = statfsSync(folder);
  return (bavail * bsize) / 2 ** 20;
}

/** What is known of the CLI's own words: a rule, and the way out of it. */
const KNOWN_FAILURES: readonly {
  readonly words: RegExp;
  readonly sentence: (subject: string, match: RegExpExecArray) => string;
}[] = [
  {
    words: /incorrect passphrase/,
    sentence: (subject) =>
      `${subject}: the passphrase must be the one its secrets were encrypted with, got another. ` +
      "Unset PULUMI_CONFIG_PASSPHRASE and PULUMI_CONFIG_PASSPHRASE_FILE, or set the right one.",
  },
  {
    words: /passphrase must be set/,
    sentence: (subject) =>
      `${subject}: a passphrase must be set, got none. Set PULUMI_CONFIG_PASSPHRASE_FILE to its file.`,
  },
  {
    words: /currently locked by (\d+) lock/,
    sentence: (subject, match) =>
      `${subject}: one run at a time may change it, got ${match[1]} more at work. Wait for its end and try again.`,
  },
  {
    words: /no space left on device|disk quota exceeded/i,
    sentence: (subject) =>
      `${subject}: its state must be written to disk, got a full disk. Free some space under .cache and run it again.`,
  },
  {
    words: /no stack named '([^']+)' found/,
    sentence: (subject, match) =>
      `${subject}: must exist, got none of that name (${match[1]}). Create it with npm start.`,
  },
  {
    words: /[Cc]ould not (?:load|find) plugin (?:for )?(\S+)|no resource plugin '([^']+)'/,
    sentence: (subject, match) =>
      `${subject}: its plugins must be installed, got none for ${match[1] ?? match[2]}. Run npm start, which installs them.`,
  },
];

/**
 * A failed run as one sentence with its way out. What is not known keeps the CLI's own lines that begin with `error:`,
 * which name resources but no secrets.
 *
 * @param stack name of the stack the run was about
 */
export function pulumiFailure(stack: string, run: PulumiRun): PlatformError {
  const output = `${run.stderr}\n${run.stdout}`;
  const subject = `Stack "${stack}"`;
  for (const { words, sentence } of KNOWN_FAILURES) {
    const match = words.exec(output);
    if (match !== null) return new PlatformError(sentence(subject, match));
  }
  const violations = [
    ...output.matchAll(/\[mandatory\](?: \[severity: \w+\])?\s+(\S+)[^\n]*\n[^\n]*\n\s*([^\n]+)/g),
  ].map(([, policy, message]) => `${policy}: ${message}`);
  if (violations.length > 0) {
    return new PlatformError(
      `${subject}: its policies must hold, got ${violations.length} violated: ` +
        `${[...new Set(violations)].join(" ")} Mend the settings or the program and run it again.`,
    );
  }
  const plain = stripVTControlCharacters(output);
  const errors = plain
    .split("\n")
    .map((line) => line.trim())
    // Several reasons of one resource stand below its line, one each.
    .filter((line) => /^(error:|\* )/.test(line))
    .map((line) => line.replace(/^(error:|\*)\s*/, ""));
  // The program's own refusals are whole sentences already, with subject, rule, value and way out.
  const refusals = errors.filter((error) => /^[A-Z][A-Za-z ]* "[^"]+": .*\.$/.test(error));
  // So are those of our programs on hosts; they stand below the command, indented as far as it is.
  for (const [, words = ""] of plain.matchAll(
    /^ *error: Process exited with status \d+: running .*:\n((?: +\S.*\n)+)/gm,
  )) {
    const last = words.trim().split("\n").at(-1)?.trim() ?? "";
    if (/^[A-Z][A-Za-z ]*: .*\.$/.test(last)) refusals.push(last);
  }
  if (refusals.length > 0) return new PlatformError([...new Set(refusals)].join("\n"));
  const reason = [...new Set(errors)].join(" ") || `exit code ${run.exitCode}`;
  return new PlatformError(
    `${subject}: the run must succeed, got: ${reason} Mend that and run it again.`,
  );
}

/** A resource as a stack's state records it. */
export interface ResourceState {
  readonly urn: string;
  readonly type: string;
  readonly custom?: boolean;
  readonly id?: string;
  readonly delete?: boolean;
  readonly pendingReplacement?: boolean;
  readonly inputs?: { readonly [property: string]: unknown };
  readonly outputs?: { readonly [property: string]: unknown };
  readonly [field: string]: unknown;
}

/** What an interrupted run had begun and not ended. */
export interface PendingOperation {
  readonly type: "creating" | "updating" | "deleting" | "reading" | "importing";
  readonly resource: ResourceState;
}

/** A stack's state as `pulumi stack export` gives it; secrets stay encrypted. */
export interface StackState {
  readonly version: number;
  readonly deployment: {
    readonly resources?: readonly ResourceState[];
    readonly pending_operations?: readonly PendingOperation[];
    readonly [field: string]: unknown;
  };
}

/**
 * Makes an empty stack. Made from a folder of its own, since `pulumi stack init` takes no file for the settings and would
 * write the salt of the passphrase into a Pulumi.<stack>.yaml beside Pulumi.yaml. The salt goes to where `stackConfigFile`
 * says: with none there the first run would make another, and a second key of the passphrase, which takes its time.
 *
 * @throws PlatformError when the stack exists or cannot be made
 */
export async function createStack(stack: string, options: PulumiOptions = {}): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "stack-"));
  try {
    const project = { name: projectName(options.cwd), runtime: "nodejs" };
    writeFileSync(join(folder, "Pulumi.yaml"), JSON.stringify(project));
    const run = await runPulumi(["stack", "init", stack, "--no-select"], {
      ...quiet(options),
      cwd: folder,
    });
    if (run.exitCode !== 0) throw pulumiFailure(stack, run);
    if (options.stackConfigFile !== undefined)
      keepSalt(join(folder, `Pulumi.${stack}.yaml`), options.stackConfigFile);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Adds the salt that the engine has written to settings that have none. */
function keepSalt(written: string, settings: string): void {
  const ofSalt = /^encryptionsalt:.*\n?/m;
  const earlier = existsSync(settings) ? readFileSync(settings, "utf8") : "";
  const salt = ofSalt.exec(readFileSync(written, "utf8"))?.[0];
  if (salt === undefined || ofSalt.test(earlier)) return;
  writeFileSync(`${settings}.new`, `${earlier.replace(/(?<=[^\n])$/, "\n")}${salt}`);
  renameSync(`${settings}.new`, settings);
}

/**
 * A stack's recorded state.
 *
 * @throws PlatformError when there is no such stack or its state cannot be read
 */
export async function stackExport(stack: string, options: PulumiOptions = {}): Promise<StackState> {
  const run = await runPulumi(["stack", "export", "--stack", stack], quiet(options));
  if (run.exitCode !== 0) throw pulumiFailure(stack, run);
  return JSON.parse(run.stdout) as StackState;
}

/** A state is no progress to show. */
export function quiet(options: PulumiOptions): PulumiOptions {
  return { ...options, onLine: () => undefined };
}

/** The project that a run is about, as its Pulumi.yaml names it. */
export function projectName(cwd: string = ROOT): string {
  const text = readFileSync(join(cwd, "Pulumi.yaml"), "utf8");
  const name = /^name:\s*["']?([^"'\s#]+)/m.exec(text)?.[1];
  if (name === undefined) throw new Error(`${join(cwd, "Pulumi.yaml")} must name its project`);
  return name;
}
