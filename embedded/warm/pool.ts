/**
 * Keeps processes of the plugins, of programs and of policy packs that are started, have loaded all they are made of,
 * and wait for a run: starting them is half of what a preview of a tenant takes.
 *
 * A process serves one run and ends with it, as one that the engine starts itself: nothing of a run reaches the next.
 * While a run lasts none is started, so that the run has the machine for itself; one that finds none waiting starts its
 * own. Argument: the `PoolSettings` as JSON.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, readdirSync, readlinkSync, rmSync, statSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { setPriority } from "node:os";
import { isDeepStrictEqual } from "node:util";

import { type Turn, WAITS_VARIABLE } from "../plugins/turn.ts";
import { ALL, type PoolSettings, type WaitingKind } from "./pool-protocol.ts";

interface Request extends Turn {
  readonly kind: string;
  /** Tells network namespaces apart. */
  readonly network: string;
}

interface Waiting {
  readonly child: ChildProcess;
  readonly madeOf: string;
}

/** Kinds of what is answered; see `launcher/main.go`. */
const [TAKEN, STDOUT, STDERR, ENDED] = [0, 1, 2, 3];
/** In the place of a signal's number. */
const ENGINE_GONE = 0;
/** Nobody asks for this long: the run is over, and there is time to start others. */
const QUIET_MS = 400;
/** What a process may take to let go once its engine is gone. */
const GRACE_MS = 5_000;
/** Of Linux: gives way to all others. */
const LOWEST_PRIORITY = 19;
/** Node and the SDK read these when a process is started: whoever is given others than those that wait starts his own. */
const READ_EARLY =
  /^(NODE_(OPTIONS|PATH|DEBUG|EXTRA_CA_CERTS|V8_COVERAGE|ICU_DATA|PENDING_DEPRECATION)|TRACEPARENT|PULUMI_DEBUG_PROMISE_LEAKS|PULUMI_NODEJS_TYPESCRIPT|GRPC_.*|OTEL_.*|LD_.*)$/;

const settings = JSON.parse(process.argv[2] ?? "{}") as PoolSettings;
const network = readlinkSync("/proc/self/ns/net");
const waiting = new Map<string, Waiting[]>(settings.kinds.map(({ kind }) => [kind, []]));
/** What those were made of that could not come to wait. */
const broken = new Map<string, string>();
const asking = new Set<Socket>();
let running = 0;
let isStarting = false;
let quiet: NodeJS.Timeout | undefined;

const server = createServer((client) => {
  let text = "";
  const onData = (bytes: Buffer): void => {
    text += bytes.toString("latin1");
    const end = text.indexOf("\n");
    if (end === -1) return;
    client.off("data", onData);
    try {
      serve(client, JSON.parse(Buffer.from(text.slice(0, end), "latin1").toString()) as Request);
    } catch (error) {
      // Whoever asked starts his own; the others are not to lose theirs.
      process.stderr.write(`A request must be JSON that names a kind, got ${String(error)}.\n`);
      client.destroy();
    }
  };
  client.on("data", onData);
  client.on("error", () => client.destroy());
});

rmSync(settings.socket, { force: true });
server.listen(settings.socket, () => {
  chmodSync(settings.socket, 0o600);
  refillWhenQuiet();
});
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    rmSync(settings.socket, { force: true });
    for (const { child } of [...waiting.values()].flat()) child.kill("SIGKILL");
    process.exit(0);
  });
}

function serve(client: Socket, request: Request): void {
  refillWhenQuiet();
  if (request.kind === ALL) {
    asking.add(client);
    return;
  }
  const one = take(request);
  const kind = settings.kinds.find((known) => known.kind === request.kind);
  if (one?.pid === undefined || kind === undefined) {
    process.stdout.write(`${request.kind}: none waits that fits.\n`);
    client.end();
    return;
  }
  const answer = (type: number | undefined, content: Uint8Array): void => {
    const header = Buffer.alloc(5);
    header.writeUInt8(type ?? 0);
    header.writeUInt32BE(content.length, 1);
    if (client.writable) client.write(Buffer.concat([header, content]));
  };
  running += 1;
  giveWayNoLonger(one.pid);
  answer(TAKEN, Buffer.alloc(0));
  one.stdout?.on("data", (bytes: Buffer) => answer(STDOUT, bytes));
  one.stderr?.on("data", (bytes: Buffer) => answer(STDERR, bytes));
  const told: Turn = {
    arguments: request.arguments.slice(kind.prefix.length),
    environment: request.environment,
    folder: request.folder,
  };
  one.send(told);

  let isGone = false;
  client.on("data", (bytes: Buffer) => {
    for (const number of bytes) {
      if (number === ENGINE_GONE) isGone = true;
      else one.kill(number);
    }
  });
  client.once("close", () => {
    // Without a word: whoever asked was killed, and so is this. Where the engine is gone it sees to its own end.
    if (isGone) {
      one.stdin?.end();
      setTimeout(() => one.kill("SIGKILL"), GRACE_MS).unref();
    } else {
      one.kill("SIGKILL");
    }
  });
  // What it leaves behind may hold its output open: the run is over all the same.
  one.once("exit", () => {
    running -= 1;
    refillWhenQuiet();
  });
  one.once("close", (code) => {
    answer(ENDED, Buffer.of(code ?? 1));
    client.end();
  });
}

/** Each thread by itself, as Linux has it: those that compile and collect garbage count as much. */
function giveWayNoLonger(pid: number): void {
  try {
    for (const thread of readdirSync(`/proc/${pid}/task`)) setPriority(Number(thread), 0);
  } catch (error) {
    // A thread has just ended, or all of it, which whoever asked will hear of. It is slower at worst.
    process.stderr.write(`${pid}: must give way no longer, got ${String(error)}\n`);
  }
}

/** A process that fits the request, which is then no longer there for others. */
function take(request: Request): ChildProcess | undefined {
  const kind = settings.kinds.find((known) => known.kind === request.kind);
  if (kind === undefined || request.network !== network) return undefined;
  if (!isDeepStrictEqual(readEarly(request.environment), readEarly(process.env))) return undefined;
  if (kind.prefix.some((argument, at) => request.arguments[at] !== argument)) return undefined;
  const those = waiting.get(kind.kind) ?? [];
  const now = madeOf(kind);
  for (const old of those.filter((one) => one.madeOf !== now)) old.child.kill("SIGKILL");
  waiting.set(
    kind.kind,
    those.filter((one) => one.madeOf === now),
  );
  return waiting.get(kind.kind)?.shift()?.child;
}

function readEarly(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(environment).filter(([name]) => READ_EARLY.test(name)));
}

function madeOf({ files }: WaitingKind): string {
  return files
    .map((file) => {
      const facts = statSync(file, { throwIfNoEntry: false });
      return `${facts?.ino ?? 0} ${facts?.mtimeMs ?? 0}`;
    })
    .join();
}

function refillWhenQuiet(): void {
  clearTimeout(quiet);
  quiet = setTimeout(refill, QUIET_MS);
}

/** Starts one that is missing, and the next when it waits. */
function refill(): void {
  if (running > 0 || isStarting) return;
  const kind = settings.kinds.find(
    (one) =>
      (waiting.get(one.kind)?.length ?? 0) < one.count &&
      !(broken.has(one.kind) && broken.get(one.kind) === madeOf(one)),
  );
  if (kind === undefined) {
    process.stdout.write("All that should wait do.\n");
    for (const client of asking) client.end();
    asking.clear();
    return;
  }
  isStarting = true;
  const child = spawn(process.execPath, kind.argv, {
    // The leader of its group, as the engine makes plugins.
    detached: true,
    stdio: ["pipe", "pipe", "pipe", "ipc"],
    env: {
      ...readEarly(process.env),
      PATH: process.env["PATH"],
      NODE_COMPILE_CACHE: settings.compileCache,
      [WAITS_VARIABLE]: "yes",
    },
  });
  if (child.pid !== undefined) setPriority(child.pid, LOWEST_PRIORITY);
  const started: Waiting = { child, madeOf: madeOf(kind) };
  let waits = false;
  child.once("message", () => {
    waits = true;
    isStarting = false;
    waiting.get(kind.kind)?.push(started);
    refill();
  });
  child.on("error", () => undefined);
  child.stderr?.on("data", (bytes: Buffer) => {
    if (!waits) process.stderr.write(bytes);
  });
  child.once("close", (code) => {
    const those = waiting.get(kind.kind) ?? [];
    waiting.set(
      kind.kind,
      those.filter((one) => one !== started),
    );
    if (waits) return;
    // Not tried again until it is made of something else: whoever asks starts his own.
    process.stderr.write(
      `${kind.kind}: must come to wait, got its end with ${code ?? "a signal"}\n`,
    );
    broken.set(kind.kind, started.madeOf);
    isStarting = false;
    refill();
  });
}
