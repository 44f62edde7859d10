import { execFileSync } from "node:child_process";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import type { PulumiOptions, PulumiRun } from "../../../embedded/engine/engine.ts";
import {
  createStack,
  pulumiFailure,
  runPulumi,
  stackExport,
} from "../../../embedded/engine/engine.ts";
import { installPlugins, nodeProgram, PULUMI_HOME } from "../../../embedded/engine/plugins.ts";
import { policyPack } from "../../../embedded/engine/policy-pack.ts";
import { clearStaleLock, recoverStack } from "../../../embedded/engine/recovery.ts";
import { crash } from "./crashing-run.ts";

const PROGRAM = join(import.meta.dirname, "program");
const OBJECTS = join(import.meta.dirname, "objects");
const PACK = join(import.meta.dirname, "pack");
const STACK = "test";
/** A few seconds on a machine that has nothing else to do. */
const GRACE_MS = 10_000;
const KEY = "random:index/randomBytes:RandomBytes";
const COMMAND = "command:local:Command";

const folder = mkdtempSync(join(tmpdir(), "engine-test-"));

beforeAll(async () => {
  await installPlugins(["command", "random"]);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A new, empty stack of a project, with a state folder and settings of its own. */
async function newStack(name: string, cwd: string): Promise<PulumiOptions> {
  const options: PulumiOptions = {
    cwd,
    stateFolder: join(folder, name, "state"),
    stackConfigFile: join(folder, name, "settings.yaml"),
  };
  await mkdir(join(folder, name), { recursive: true });
  await createStack(STACK, options);
  return options;
}

async function succeed(args: readonly string[], options: PulumiOptions): Promise<PulumiRun> {
  const run = await runPulumi(args, options);
  if (run.exitCode !== 0) throw new Error(`${args.join(" ")}\n${run.stdout}${run.stderr}`);
  return run;
}

const up = (...more: readonly string[]): string[] => [
  "up",
  "--stack",
  STACK,
  "--yes",
  "--skip-preview",
  ...more,
];
const preview = (...more: readonly string[]): string[] => ["preview", "--stack", STACK, ...more];

/** The counts that the CLI closes with, such as "+ 2 created". */
function counts({ stdout }: PulumiRun): string[] {
  const lines = stdout.split("\n").map((line) => line.trim());
  const start = lines.lastIndexOf("Resources:") + 1;
  return lines.slice(start, lines.indexOf("", start));
}

async function recordedTypes(options: PulumiOptions): Promise<string[]> {
  const { deployment } = await stackExport(STACK, options);
  return (deployment.resources ?? []).map(({ type }) => type);
}

describe("the engine with the embedded plugins", () => {
  it("ends a run whose disk fills, with a whole record that the next run goes on from", async () => {
    const stateFolder = join(folder, "full", "state");
    await mkdir(stateFolder, { recursive: true });
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=320m", "tmpfs", stateFolder]);
    try {
      const options = await newStack("full", PROGRAM);
      const filler = join(stateFolder, "filler");
      const once = join(folder, "full", "once");
      const fill = `{ touch ${once}; fallocate -l 250M ${filler}; sleep 2; }`;
      const greeting = `[ -e ${once} ] || ${fill}; echo filled`;
      await succeed(["config", "set", "greeting", greeting, "--stack", STACK], options);
      const full = await runPulumi(up(), options);
      expect(full.exitCode).not.toBe(0);
      expect(pulumiFailure(STACK, full).message).toBe(
        'Stack "test": its state must be written to disk, got a full disk. ' +
          "Free some space under .cache and run it again.",
      );
      rmSync(filler);
      expect(await recordedTypes(options)).toContain(KEY);
      await recoverStack(STACK, options);
      await succeed(up(), options);
      expect(counts(await succeed(preview(), options))).toEqual(["4 unchanged"]);
    } finally {
      execFileSync("umount", [stateFolder]);
    }
  });

  it("creates a program's resources, finds nothing to do the second time, and removes them", async () => {
    const options = await newStack("life", PROGRAM);
    expect(counts(await succeed(preview(), options))).toEqual(["+ 4 to create"]);
    expect(counts(await succeed(up(), options))).toEqual(["+ 4 created"]);
    expect(counts(await succeed(up(), options))).toEqual(["4 unchanged"]);
    expect(counts(await succeed(preview("--expect-no-changes"), options))).toEqual(["4 unchanged"]);

    const outputs = await succeed(["stack", "output", "--json", "--stack", STACK], options);
    expect(JSON.parse(outputs.stdout)).toEqual({
      node: process.version,
      said: "hello",
      stack: STACK,
    });

    await succeed(["destroy", "--stack", STACK, "--yes", "--skip-preview"], options);
    expect(await recordedTypes(options)).toEqual([]);
    expect(readdirSync(PROGRAM).sort()).toEqual(["Pulumi.yaml", "index.ts", "package.json"]);
  });

  it("makes one salt for a stack, and a run writes no debug log and no attributes beside the record", async () => {
    const logs = join(PULUMI_HOME, "logs");
    rmSync(logs, { recursive: true, force: true });
    await mkdir(logs);
    const options = await newStack("lean", PROGRAM);
    const salt = /^encryptionsalt: (\S+)$/m;
    const settings = (): string => readFileSync(options.stackConfigFile ?? "", "utf8");
    const first = salt.exec(settings())?.[1];
    expect(first).toMatch(/^v1:/);
    await succeed(up(), options);
    expect(salt.exec(settings())?.[1]).toBe(first);
    expect(JSON.stringify(await stackExport(STACK, options))).toContain(first);
    expect(statSync(logs).isFile()).toBe(true);
    const written = readdirSync(options.stateFolder ?? "", { recursive: true }).map(String);
    expect(written.filter((file) => file.endsWith(`${STACK}.json`))).not.toEqual([]);
    expect(written.filter((file) => file.endsWith(".attrs"))).toEqual([]);
  });

  it("gives the program its secret settings in clear and shows them nowhere", async () => {
    const options = await newStack("secret", PROGRAM);
    const secret = "kingfisher-3141";
    await succeed(["config", "set", "--secret", "--stack", STACK, "secret", secret], options);
    const run = await succeed(up(), options);
    expect(`${run.stdout}${run.stderr}`).not.toContain(secret);
    expect(JSON.stringify(await stackExport(STACK, options))).not.toContain(secret);
    expect(readFileSync(options.stackConfigFile ?? "", "utf8")).not.toContain(secret);

    const outputs = await succeed(
      ["stack", "output", "secretLength", "--show-secrets", "--stack", STACK],
      options,
    );
    expect(outputs.stdout.trim()).toBe(String(secret.length));
  });

  it("sends the program's debug lines where it is asked for them", async () => {
    const options = await newStack("debug", PROGRAM);
    const registered = /Registering resource: t=random:index\/randomBytes/;
    const silent = await succeed(preview("--debug"), options);
    expect(silent.stderr + silent.stdout).not.toMatch(registered);
    const env = { ...options.env, PULUMI_OPTION_DEBUG: "true" };
    const told = await succeed(preview(), { ...options, env });
    expect(told.stderr + told.stdout).toMatch(registered);
  });

  it("fails a preview that violates a mandatory policy, and names the policy and the resource", async () => {
    const options = await newStack("policy", PROGRAM);
    const withPack = ["--policy-pack", policyPack(PACK)];
    await succeed(preview(...withPack), options);

    const run = await runPulumi(preview(...withPack, "-c", "lengthBytes=8"), options);
    expect(run.exitCode).toBe(1);
    expect(pulumiFailure(STACK, run).message).toBe(
      'Stack "test": its policies must hold, got 1 violated: keys-are-long: one-key: length must be at least 16, ' +
        "got 8. Mend the settings or the program and run it again.",
    );
    expect(run.stdout).not.toContain("can't run policy");
  });

  it("fails when the program does, and keeps what the program said", async () => {
    const options = await newStack("fails", PROGRAM);
    const run = await runPulumi(up("-c", "fails=true"), options);
    expect(run.exitCode).toBe(1);
    expect(run.stdout).toContain("The program fails because its settings say so.");
    expect(run.stdout).not.toContain("Program exited with non-zero exit code");
  });

  it("keeps the sentence of a program on a host, and not the command before it", () => {
    const stdout = `Diagnostics:
  command:remote:Command (nl-1-storage-check):
    error: Process exited with status 1: running "sh -s check /srv":
    cat: a warning before
    Encrypted storage: "/srv" must lie on storage encrypted with AES-256, got /dev/sda1 in clear. See the runbook.

  pulumi:pulumi:Stack (fluxbilling-test):
    error: update failed
`;
    expect(pulumiFailure(STACK, { exitCode: 1, stdout, stderr: "" }).message).toBe(
      'Encrypted storage: "/srv" must lie on storage encrypted with AES-256, got /dev/sda1 in clear. See the runbook.',
    );
  });

  it("refuses a wrong passphrase in one sentence and changes nothing", async () => {
    const options = await newStack("passphrase", PROGRAM);
    await succeed(up(), options);
    const before = await stackExport(STACK, options);

    const run = await runPulumi(up(), {
      ...options,
      env: { PULUMI_CONFIG_PASSPHRASE: "not the one" },
    });
    expect(run.exitCode).not.toBe(0);
    expect(pulumiFailure(STACK, run).message).toBe(
      'Stack "test": the passphrase must be the one its secrets were encrypted with, got another. ' +
        "Unset PULUMI_CONFIG_PASSPHRASE and PULUMI_CONFIG_PASSPHRASE_FILE, or set the right one.",
    );
    expect(await stackExport(STACK, options)).toEqual(before);
  });

  it("ends as Ctrl-C does when its signal aborts: what has begun is recorded, no lock stays", async () => {
    const options = await newStack("interrupted", PROGRAM);
    const abort = new AbortController();
    const begun = join(folder, "interrupted", "begun");
    const running = runPulumi(up("-c", `greeting=touch ${begun}; sleep 60`), {
      ...options,
      signal: abort.signal,
      onLine: (line) => {
        if (line.includes(`${COMMAND} one-said creating`)) abort.abort();
      },
    });
    expect((await running).exitCode).not.toBe(0);
    expect(clearStaleLock(STACK, options)).toBe(0);
    expect(counts(await succeed(up("-c", "greeting=echo now"), options))).toContain("+ 1 created");
  });
});

describe("recoverStack", () => {
  it("leaves a stack alone that was not interrupted", async () => {
    const options = await newStack("whole", PROGRAM);
    expect(await recoverStack(STACK, options)).toEqual({
      locks: 0,
      adopted: [],
      forgotten: [],
      refreshed: [],
    });
  });

  it("lets a run that was killed while it created go on, after all its processes have ended", async () => {
    const options = await newStack("killed", PROGRAM);
    const begun = join(folder, "killed", "begun");
    const { run, survivors } = await crash(
      up("--policy-pack", policyPack(PACK), "-c", `greeting=touch ${begun}; sleep 300`),
      options,
      () => existsSync(begun),
      GRACE_MS,
    );
    expect(run.exitCode).toBe(137);
    expect(survivors).toEqual([]);
    const busy = await runPulumi(up(), options);
    expect(pulumiFailure(STACK, busy).message).toBe(
      'Stack "test": one run at a time may change it, got 1 more at work. Wait for its end and try again.',
    );

    expect(await recoverStack(STACK, options)).toEqual({
      locks: 1,
      adopted: [],
      forgotten: [`urn:pulumi:${STACK}::engine-test::engine-test:pair:Pair$${COMMAND}::one-said`],
      refreshed: [],
    });
    expect(counts(await succeed(up("-c", "greeting=echo hello"), options))).toEqual([
      "+ 1 created",
      "3 unchanged",
    ]);
    const types = await recordedTypes(options);
    expect(types.filter((type) => type === KEY || type === COMMAND)).toEqual([KEY, COMMAND]);
    expect((await stackExport(STACK, options)).deployment.pending_operations).toBeUndefined();
  });

  it("lets a run that was killed while it updated go on", async () => {
    const options = await newStack("updating", PROGRAM);
    await succeed(up(), options);
    const begun = join(folder, "updating", "begun");
    const { survivors } = await crash(
      up("-c", `greeting=touch ${begun}; sleep 300`),
      options,
      () => existsSync(begun),
      GRACE_MS,
    );
    expect(survivors).toEqual([]);
    const urn = `urn:pulumi:${STACK}::engine-test::engine-test:pair:Pair$${COMMAND}::one-said`;
    expect(await recoverStack(STACK, options)).toEqual({
      locks: 1,
      adopted: [],
      forgotten: [],
      refreshed: [urn],
    });
    expect(counts(await succeed(up("-c", "greeting=echo again"), options))).toEqual([
      "~ 1 updated",
      "3 unchanged",
    ]);
  });
});

describe("recoverStack on objects outside the record", () => {
  const urn = `urn:pulumi:${STACK}::objects-test::kubernetes:core/v1:ConfigMap::one`;
  const home = join(folder, "home");

  beforeAll(async () => {
    const plugin = join(home, "plugins", "resource-kubernetes-v0.0.1");
    await mkdir(plugin, { recursive: true });
    const launcher = join(plugin, "pulumi-resource-kubernetes");
    await writeFile(
      launcher,
      `#!/bin/sh\nexec '${nodeProgram()}' '${join(OBJECTS, "provider.ts")}' "$@"\n`,
    );
    await chmod(launcher, 0o755);
  });

  /** Kills an `up` while it creates the object, and gives the options for what follows. */
  async function killed(
    name: string,
    heldUp: "before" | "after",
  ): Promise<{ options: PulumiOptions; objectsFile: string }> {
    const objectsFile = join(folder, name, "objects");
    const env = { PULUMI_HOME: home, OBJECTS_FILE: objectsFile };
    const options = { ...(await newStack(name, OBJECTS)), env };
    let isCreating = false;
    await crash(
      up(),
      {
        ...options,
        env: { ...env, OBJECTS_HELD_UP: heldUp },
        onLine: (line) => (isCreating ||= line.includes("ConfigMap one creating")),
      },
      () => isCreating && (heldUp === "before" || existsSync(objectsFile)),
      GRACE_MS,
    );
    return { options, objectsFile };
  }

  it("takes over an object that was made before the kill: it is not made twice", async () => {
    const { options, objectsFile } = await killed("made", "after");
    expect(await recoverStack(STACK, options)).toEqual({
      locks: 1,
      adopted: [urn],
      forgotten: [],
      refreshed: [],
    });
    expect(counts(await succeed(up(), options))).toEqual(["2 unchanged"]);
    expect(readFileSync(objectsFile, "utf8")).toBe("objects/one\n");
  });

  it("makes an object that was not there at the kill: once", async () => {
    const { options, objectsFile } = await killed("unmade", "before");
    expect(await recoverStack(STACK, options)).toEqual({
      locks: 1,
      adopted: [urn],
      forgotten: [],
      refreshed: [],
    });
    expect(counts(await succeed(up(), options))).toEqual(["+ 1 created", "1 unchanged"]);
    expect(readFileSync(objectsFile, "utf8")).toBe("objects/one\n");
  });
});

describe("clearStaleLock", () => {
  const options: PulumiOptions = { cwd: PROGRAM, stateFolder: join(folder, "locks") };
  const locks = join(folder, "locks", ".pulumi", "locks", "organization", "engine-test", STACK);

  async function lock(name: string, content: string): Promise<string> {
    await mkdir(locks, { recursive: true });
    const file = join(locks, `${name}.json`);
    writeFileSync(file, content);
    return file;
  }

  it("removes a lock whose process number another program has now", async () => {
    const file = await lock(
      "reused",
      JSON.stringify({ pid: process.pid, hostname: hostname(), timestamp: "2026-01-01T00:00:00Z" }),
    );
    expect(clearStaleLock(STACK, options)).toBe(1);
    expect(existsSync(file)).toBe(false);
  });

  it("leaves a lock of another host, and one that it cannot read", async () => {
    const other = await lock(
      "other",
      JSON.stringify({ pid: 1, hostname: "another-host", timestamp: "2026-01-01T00:00:00Z" }),
    );
    const torn = await lock("torn", '{"pid":');
    expect(clearStaleLock(STACK, options)).toBe(0);
    expect([existsSync(other), existsSync(torn)]).toEqual([true, true]);
  });
});
