import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

import { identityOf, isAlive } from "../../../embedded/machines/process-identity.ts";
import { ROOT } from "../../../embedded/paths.ts";
import { placeLauncher } from "../../../embedded/warm/launcher.ts";
import type { PoolSettings } from "../../../embedded/warm/pool-protocol.ts";
import { until } from "../../support/platform.ts";

const EMBEDDED = join(ROOT, "embedded");

/** Tells what it is, and then does as the engine's plugins do: lives until it is told to end. */
const SCRIPT = `
import { turn } from ${JSON.stringify(pathToFileURL(join(EMBEDDED, "plugins", "turn.ts")).href)};
import { endWithEngine } from ${JSON.stringify(pathToFileURL(join(EMBEDDED, "plugins", "end-with-engine.ts")).href)};
const startedBeforeItsTurn = process.env.FLUX_WAITS !== undefined;
await turn();
endWithEngine(() => process.exit(7));
process.once("SIGINT", () => process.exit(5));
const { pid, argv, env } = process;
console.log(JSON.stringify({ pid, startedBeforeItsTurn, args: argv.slice(2), folder: process.cwd(), word: env.WORD, waits: env.FLUX_WAITS }));
console.error("said on stderr");
if (env.WORD === "leave") process.exit(3);
setInterval(() => undefined, 1000);
`;

interface Said {
  readonly pid: number;
  readonly startedBeforeItsTurn: boolean;
  readonly waits?: string;
}

interface Run {
  readonly launcher: ChildProcess;
  readonly said: Said;
  readonly end: Promise<number | null>;
  readonly errors: () => string;
}

describe("processes that wait", () => {
  let folder: string;
  let pool: ChildProcess | undefined;
  const left: ChildProcess[] = [];

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "pool-"));
    writeFileSync(join(folder, "plugin.mjs"), SCRIPT);
  });

  afterEach(async () => {
    for (const child of left.splice(0)) child.kill("SIGKILL");
    if (pool?.exitCode === null && pool.signalCode === null) {
      pool.kill("SIGTERM");
      await once(pool, "close");
    }
    pool = undefined;
    rmSync(folder, { recursive: true });
  });

  it("are taken over with arguments, environment, folder, output and exit code", async () => {
    await startPool();
    const run = await launch({ WORD: "leave" }, ["one", "two"]);
    expect(run.said).toMatchObject({
      ...{ startedBeforeItsTurn: true, args: ["one", "two"], folder, word: "leave" },
    });
    expect(run.said.waits).toBeUndefined();
    expect(await run.end).toBe(3);
    expect(run.errors()).toBe("said on stderr\n");
  });

  it("serve one run each, and others take their place", async () => {
    await startPool();
    const first = await launch({ WORD: "leave" });
    await first.end;
    await waiting();
    const second = await launch({ WORD: "leave" });
    expect(second.said.startedBeforeItsTurn).toBe(true);
    expect(second.said.pid).not.toBe(first.said.pid);
  });

  it("are not there for a second run at once, which starts its own", async () => {
    await startPool();
    const first = await launch({});
    const second = await launch({});
    expect([first, second].map(({ said }) => said.startedBeforeItsTurn)).toEqual([true, false]);
  });

  it("are not there where no pool is", async () => {
    expect((await launch({})).said.startedBeforeItsTurn).toBe(false);
  });

  it("are not taken once they are made of something else", async () => {
    await startPool();
    writeFileSync(join(folder, "plugin.mjs"), `${SCRIPT}\n`);
    expect((await launch({})).said.startedBeforeItsTurn).toBe(false);
  });

  it("are not taken by whoever has told Node something else", async () => {
    await startPool();
    const { said } = await launch({ NODE_OPTIONS: "--no-deprecation" });
    expect(said.startedBeforeItsTurn).toBe(false);
  });

  it("get the signals of whoever asked", async () => {
    await startPool();
    const run = await launch({});
    run.launcher.kill("SIGINT");
    expect(await run.end).toBe(5);
  });

  it("are killed with whoever asked", async () => {
    await startPool();
    const run = await launch({});
    const identity = identityOf(run.said.pid);
    run.launcher.kill("SIGKILL");
    await until("the process is gone", 5_000, () =>
      Promise.resolve(identity !== undefined && !isAlive(identity)),
    );
  });

  it("see to their own end once the engine is gone", async () => {
    await startPool();
    const run = await launch({});
    const identity = identityOf(run.said.pid);
    run.launcher.stdin?.end();
    await until("the process is gone", 5_000, () =>
      Promise.resolve(identity !== undefined && !isAlive(identity)),
    );
  });

  it("end with their pool, killed or not", async () => {
    for (const signal of ["SIGTERM", "SIGKILL"] as const) {
      await startPool();
      const identities = children().map((pid) => identityOf(pid));
      expect(identities).toHaveLength(1);
      pool?.kill(signal);
      await until("nothing waits any more", 5_000, () =>
        Promise.resolve(identities.every((one) => one !== undefined && !isAlive(one))),
      );
    }
  });

  async function startPool(): Promise<void> {
    const settings: PoolSettings = {
      socket: join(folder, "socket"),
      compileCache: join(folder, "compiled"),
      kinds: [
        {
          kind: "plugin",
          argv: [join(folder, "plugin.mjs")],
          count: 1,
          files: [join(folder, "plugin.mjs")],
          prefix: [],
        },
      ],
    };
    pool = spawn(process.execPath, [join(EMBEDDED, "warm", "pool.ts"), JSON.stringify(settings)], {
      env: { PATH: process.env["PATH"] },
      stdio: ["ignore", "pipe", "inherit"],
    });
    await waiting();
  }

  /** Until the pool has told that one waits. */
  async function waiting(): Promise<void> {
    const output = pool?.stdout;
    if (output === undefined || output === null) throw new Error("the pool must have an output");
    await once(output, "data");
  }

  function children(): readonly number[] {
    const { pid = 0 } = pool ?? {};
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8");
    return text.trim().split(" ").map(Number);
  }

  /** What the engine does: starts the launcher and reads its first line. */
  async function launch(env: NodeJS.ProcessEnv, args: readonly string[] = []): Promise<Run> {
    const file = join(folder, "launcher");
    await placeLauncher(
      file,
      "plugin",
      [process.execPath, join(folder, "plugin.mjs")],
      join(folder, "socket"),
    );
    const launcher = spawn(file, args, { cwd: folder, env: { PATH: process.env["PATH"], ...env } });
    left.push(launcher);
    let errors = "";
    launcher.stderr.on("data", (bytes: Buffer) => (errors += bytes.toString()));
    const end = once(launcher, "close").then(([code]) => code as number | null);
    const [line] = (await once(createInterface({ input: launcher.stdout }), "line")) as [string];
    return { launcher, said: JSON.parse(line) as Said, end, errors: () => errors };
  }
});
