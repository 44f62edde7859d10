import { mkdtempSync, rmSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import {
  CONTROL_PLANE_DATABASE as DATABASE,
  appRoleOf,
  STATE_DATABASE,
} from "../../model/database.ts";
import type { PulumiOptions, PulumiRun } from "../../embedded/engine/engine.ts";
import { createStack, runPulumi } from "../../embedded/engine/engine.ts";
import { deploy, destroy } from "../../embedded/deploy.ts";
import { writeTenantStack } from "../../embedded/local-fleet.ts";
import type { MachineFacts } from "../../embedded/machines/platform.ts";
import { runOn, startMachine, stopMachine } from "../../embedded/machines/platform.ts";
import { kubectl, platform, query, until } from "../support/platform.ts";
import { pushImage, registryLogin } from "../support/registry.ts";

/** What the platform promises: a row on the master is on the standby within this time. */
const WITHIN_MS = 1_000;
/** A small stack of the engine's own tests. */
const STACK = "kept";
const FENCE = "/usr/local/lib/fluxbilling/fence";
const STANDBY = "/usr/local/lib/fluxbilling/standby";

interface Lag {
  readonly role: string;
  readonly streaming: boolean;
  readonly bytesBehind: number;
  readonly secondsBehind: number;
}

describe("the standby", () => {
  let master: MachineFacts;

  beforeAll(async () => {
    ({ master } = (await platform()).machines);
    await query(master, "create table probe (word text primary key)", [], DATABASE);
  });

  afterAll(() => query(master, "drop table probe", [], DATABASE));

  it("has a row of the master's control plane within a second", async () => {
    await query(master, "insert into probe values ('first')", [], DATABASE);
    await until("the row on the standby", WITHIN_MS, async () =>
      (await wordsOnStandby()).includes("first"),
    );
  });

  it("tells how far it is behind", async () => {
    await until(
      "the copy to have caught up",
      WITHIN_MS,
      async () => (await lag()).bytesBehind === 0,
    );
    expect(await lag()).toMatchObject({ role: "copy", streaming: true });
  });

  it("tells that it falls behind when it is held up, and by how much", async () => {
    await onStandby("runuser -u postgres -- psql -XAtqc 'select pg_wal_replay_pause()'");
    try {
      await query(master, "insert into probe values ('held')", [], DATABASE);
      await until("the lag to show", 5_000, async () => (await lag()).bytesBehind > 0);
    } finally {
      await onStandby("runuser -u postgres -- psql -XAtqc 'select pg_wal_replay_resume()'");
    }
    await until("the lag to go", 5_000, async () => (await lag()).bytesBehind === 0);
  });

  it("goes on streaming after a reboot of its machine", async () => {
    await stopMachine("standby", "crash");
    await query(master, "insert into probe values ('missed')", [], DATABASE);
    await startMachine("standby");
    await until("the missed row on the standby", 30_000, async () =>
      (await wordsOnStandby()).includes("missed"),
    );
  });

  it("is not promoted while the master takes writes", async () => {
    for (const word of ["", "--master-is-off"]) {
      const refused = await tried("standby", [STANDBY, "promote", word]);
      expect([refused.exitCode, refused.stderr]).toEqual([
        1,
        `Standby: the master must be fenced first, got one that takes writes at ${master.address}. Run ${FENCE} there, or cut its power.\n`,
      ]);
    }
    expect((await lag()).role).toBe("copy");
  });
});

describe("the copy of the backup store", () => {
  it("holds each dump of the store after the mirror's job, byte for byte", async () => {
    const { master, "nl-1": location } = (await platform()).machines;
    const tenant = await writeTenantStack({ name: "mirrored", location: "nl-1", plan: "lite" });
    await deploy(tenant, await platform());
    try {
      const before = await dumps("master");
      await runJob(location, "tenant-mirrored", "backup");
      // The dump and its manifest, beside what an earlier run left: a store outlives its tenants.
      expect((await dumps("master")).length).toBe(before.length + 2);
      await runJob(master, "fluxbilling-control-plane", "mirror-master");
      expect(await dumps("standby")).toEqual(await dumps("master"));
    } finally {
      await destroy(tenant, await platform());
    }
  });
});

describe("the copy of the image registry", () => {
  const COPY = "/var/lib/fluxbilling/registry/docker/registry/v2";

  it("has each image after the mirror's job, and follows a tag", async () => {
    const { master } = (await platform()).machines;
    const login = await registryLogin();
    const first = await pushImage(
      "mirrored/app",
      `first of ${String(Date.now())}`,
      login,
      "stable",
    );
    await runJob(master, "fluxbilling-control-plane", "registry-mirror");
    expect(await tagOnStandby()).toBe(first.digest);
    expect(await blobsOnStandby()).toEqual(expect.arrayContaining([...first.blobs]));

    const second = await pushImage(
      "mirrored/app",
      `second of ${String(Date.now())}`,
      login,
      "stable",
    );
    await runJob(master, "fluxbilling-control-plane", "registry-mirror");
    expect(await tagOnStandby()).toBe(second.digest);
    expect(await blobsOnStandby()).toEqual(
      expect.arrayContaining([...first.blobs, ...second.blobs]),
    );
  });

  it("takes keys of the authority alone, whose command lists and adds and does nothing else", async () => {
    const { stdout } = await runOn("standby", [
      "cat",
      "/var/lib/fluxbilling/fluximages/.ssh/authorized_keys",
    ]);
    expect(stdout).toMatch(/^cert-authority,restrict ssh-ed25519 [A-Za-z0-9+/=]+\n$/);
    const tried = await runOn("standby", [
      ...["runuser", "-u", "fluximages", "--", "env", "SSH_ORIGINAL_COMMAND=rm -rf /"],
      ...["/usr/local/lib/fluxbilling/receive", "-root", "/var/lib/fluxbilling/registry"],
      ...["-mirror", "images"],
    ]);
    expect([tried.exitCode, tried.stderr]).toEqual([
      1,
      'Store: command: must be list or take, got "rm -rf /"; call it with mirror-images.\n',
    ]);
  });

  async function tagOnStandby(): Promise<string> {
    return onStandby(`cat ${COPY}/repositories/mirrored/app/_manifests/tags/stable/current/link`);
  }

  /** The digests of what the blobs hold, whatever their names say. */
  async function blobsOnStandby(): Promise<string[]> {
    const sums = await onStandby(`find ${COPY}/blobs -name data -exec sha256sum {} +`);
    return sums
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => `sha256:${line.split(" ", 1)[0] ?? ""}`);
  }
});

describe("a promotion", () => {
  const folder = mkdtempSync(join(tmpdir(), "state-test-"));
  let master: MachineFacts;
  let state: PulumiOptions;

  beforeAll(async () => {
    ({ master } = (await platform()).machines);
    state = await stateOnMaster(folder);
    await query(master, "create table promoted (word text primary key)", [], DATABASE);
  });

  // Back to where the other tests begin: the copy is thrown away, the master opened, a copy made anew.
  afterAll(async () => {
    await tried("master", [FENCE, "--undo-nobody-was-promoted"]);
    await until("the master to take writes again", 60_000, () =>
      query(master, "drop table if exists promoted", [], DATABASE).then(
        () => true,
        () => false,
      ),
    );
    await query(master, "drop table if exists state.pulumi_state", [], STATE_DATABASE);
    await onStandby("rm -f /etc/postgresql/15/main/server.crt /etc/postgresql/15/main/server.key");
    const rejoined = await tried("standby", [STANDBY, "rejoin", "--delete-this-copy"]);
    expect([rejoined.exitCode, rejoined.stderr]).toEqual([0, ""]);
    await untilClusterAnswers(master);
    expect((await lag()).streaming).toBe(true);
    rmSync(folder, { recursive: true });
  });

  it("shuts the old master, loses nothing, and takes writes over TLS 1.3", async () => {
    await query(master, "insert into promoted values ('before')", [], DATABASE);
    await moveToMaster(state, folder);
    const fenced = await tried("master", [FENCE]);
    expect([fenced.exitCode, fenced.stdout, fenced.stderr]).toEqual([
      0,
      "fenced: PostgreSQL is read-only\n",
      "",
    ]);
    const startedAt = performance.now();
    const promoted = await tried("standby", [STANDBY, "promote"]);
    const seconds = (performance.now() - startedAt) / 1000;
    expect(promoted.stderr).toBe("");
    expect(JSON.parse(promoted.stdout)).toMatchObject({ promoted: true, bytesLost: 0 });
    process.stdout.write(`promoted in ${seconds.toFixed(1)} s: ${promoted.stdout}`);

    // The old master: no write, no dump, and so after a reboot of its server.
    const write = (word: string): Promise<string> =>
      query(master, `insert into promoted values ('${word}')`, [], DATABASE).then(
        () => "written",
        (error: Error) => error.message,
      );
    expect(await write("split")).toBe("cannot execute INSERT in a read-only transaction");
    const keys = await runOn("master", ["sh", "-c", "ls -d /var/lib/fluxbilling/*/.ssh*"]);
    expect(keys.stdout).toBe("/var/lib/fluxbilling/fluxbackup/.ssh-fenced\n");

    // The new one: what was written before is there, and it can be written to from outside once it has a certificate.
    await onStandby(
      `cd /etc/postgresql/15/main && openssl req -x509 -newkey rsa:2048 -nodes -days 1 -keyout server.key -out server.crt -subj /CN=standby -addext subjectAltName=IP:10.77.0.11 2>/dev/null`,
    );
    const opened = await tried("standby", [STANDBY, "open"]);
    expect([opened.exitCode, opened.stderr]).toEqual([0, ""]);
    const { stdout: ca } = await runOn("standby", ["cat", "/etc/postgresql/15/main/server.crt"]);
    const { postgres } = master;
    if (postgres === undefined) throw new Error("the master must have a PostgreSQL");
    const client = new pg.Client({
      host: "10.77.0.11",
      port: 5432,
      user: postgres.adminUser,
      password: (await readFile(postgres.adminPasswordFile, "utf8")).trim(),
      database: DATABASE,
      ssl: { ca, minVersion: "TLSv1.3" },
    });
    await client.connect();
    try {
      await client.query("insert into promoted values ('after')");
      const { rows } = await client.query("select word from promoted order by word");
      expect(rows).toEqual([{ word: "after" }, { word: "before" }]);
    } finally {
      await client.end();
    }
    expect((await lagOf()).role).toBe("promoted");

    // What the stacks' state was on the old master it is on the new one, by the same address of the backend.
    await writeFile(join(folder, "ca.crt"), ca, { flag: "a" });
    const preview = await done(["preview", "--expect-no-changes"], state);
    expect(preview.stdout).toMatch(/4 unchanged/);
  });

  it("keeps the promoted copy while no master lives", async () => {
    const refused = await tried("standby", [STANDBY, "rejoin", "--delete-this-copy"]);
    expect([refused.exitCode, refused.stderr]).toEqual([
      1,
      `Standby: the master must live and take writes, got none at ${master.address}. This copy is the only one: keep it.\n`,
    ]);
  });
});

describe("a promotion without an answer of the master", () => {
  let master: MachineFacts;

  beforeAll(async () => {
    ({ master } = (await platform()).machines);
    await query(master, "create table lost (word text primary key)", [], DATABASE);
  });

  // Back to where the other tests begin: the master lives, and the copy is made anew.
  afterAll(async () => {
    await startMachine("master");
    await until("the master to take writes again", 60_000, () =>
      query(master, "drop table if exists lost", [], DATABASE).then(
        () => true,
        () => false,
      ),
    );
    const rejoined = await tried("standby", [STANDBY, "rejoin", "--delete-this-copy"]);
    expect([rejoined.exitCode, rejoined.stderr]).toEqual([0, ""]);
    await untilClusterAnswers(master);
    expect((await lag()).streaming).toBe(true);
  });

  it("is made only by the word of who cut its power, and has every row that the master confirmed a moment before", async () => {
    await query(master, "insert into lost values ('confirmed')", [], DATABASE);
    await until(
      "the copy to have caught up",
      WITHIN_MS,
      async () => (await lag()).bytesBehind === 0,
    );
    await stopMachine("master", "crash");

    const refused = await tried("standby", [STANDBY, "promote"]);
    expect([refused.exitCode, refused.stderr]).toEqual([
      1,
      `Standby: the master must be known to be shut, got no answer from ${master.address}: a cut network looks the same. Cut its power, make sure of it, then say promote --master-is-off.\n`,
    ]);
    expect((await lagOf()).role).toBe("copy");

    const promoted = await tried("standby", [STANDBY, "promote", "--master-is-off"]);
    expect(promoted.stderr).toBe("");
    // What is lost nobody can tell; the last transaction that it has says since when.
    expect(JSON.parse(promoted.stdout)).toEqual({
      promoted: true,
      before: false,
      bytesLost: null,
      lastTransactionAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT/) as string,
    });
    const written = await onStandby(
      `runuser -u postgres -- psql -XAtq -d ${DATABASE} -c "insert into lost values ('after')" -c 'select word from lost order by word'`,
    );
    expect(written).toBe("after\nconfirmed\n");
  });
});

async function untilClusterAnswers(machine: MachineFacts): Promise<void> {
  await until("the cluster to answer", 120_000, () =>
    kubectl(machine, "get", "--raw", "/readyz").then(
      () => true,
      () => false,
    ),
  );
}

/** A stack whose state lies where docs/runbooks/state.md puts it: on the master, and on whoever takes its place. */
async function stateOnMaster(folder: string): Promise<PulumiOptions> {
  const { machines } = await platform();
  const { master, standby } = machines;
  const secret = JSON.parse(
    await kubectl(
      master,
      ...["get", "secret", "database-state-1", "-n", "fluxbilling-control-plane", "-o", "json"],
    ),
  ) as { data: { [file: string]: string } };
  const file = (name: string): string =>
    Buffer.from(secret.data[name] ?? "", "base64").toString("utf8");
  await writeFile(join(folder, "ca.crt"), file("ca.crt"));
  const login = appRoleOf(STATE_DATABASE);
  await writeFile(
    join(folder, "password"),
    `*:5432:${STATE_DATABASE}:${login}:${file("password")}\n`,
    { mode: 0o600 },
  );
  const options = `target_session_attrs=read-write&connect_timeout=5&sslmode=verify-full&sslrootcert=${folder}/ca.crt`;
  return {
    cwd: join(import.meta.dirname, "../embedded/engine/program"),
    stackConfigFile: join(folder, "settings.yaml"),
    env: {
      PGPASSFILE: join(folder, "password"),
      PULUMI_BACKEND_URL: `postgres://${login}@${master.address},${standby.address}/${STATE_DATABASE}?${options}`,
    },
  };
}

/** A stack comes to be before its master does; docs/runbooks/state.md moves it there. */
async function moveToMaster(onMaster: PulumiOptions, folder: string): Promise<void> {
  const before: PulumiOptions = { ...onMaster, env: {}, stateFolder: join(folder, "before") };
  const exported = join(folder, "stack.json");
  await createStack(STACK, before);
  await done(["up", "--yes"], before);
  await done(["stack", "export", "--file", exported], before);
  await createStack(STACK, onMaster);
  await done(["stack", "import", "--file", exported], onMaster);
}

async function done(args: readonly string[], options: PulumiOptions): Promise<PulumiRun> {
  const run = await runPulumi([...args, "--stack", STACK], options);
  expect([run.exitCode, run.stderr]).toEqual([0, ""]);
  return run;
}

async function lag(): Promise<Lag> {
  const { exitCode, stdout, stderr } = await tried("standby", [STANDBY, "lag"]);
  expect([exitCode, stderr]).toEqual([0, ""]);
  return JSON.parse(stdout) as Lag;
}

/** The same of a copy that follows nobody, for which the command fails. */
async function lagOf(): Promise<Lag> {
  const { exitCode, stdout } = await tried("standby", [STANDBY, "lag"]);
  expect(exitCode).toBe(1);
  return JSON.parse(stdout) as Lag;
}

/** Starts a CronJob by hand, with none of its own beside it, and waits for its good end. */
async function runJob(machine: MachineFacts, namespace: string, cronJob: string): Promise<void> {
  const job = `${cronJob}-by-hand`;
  const suspend = (isSuspended: boolean): Promise<string> =>
    kubectl(
      machine,
      ...["patch", "cronjob", cronJob, "-n", namespace],
      ...["-p", JSON.stringify({ spec: { suspend: isSuspended } })],
    );
  await suspend(true);
  try {
    await until("the job's own run to have ended", 60_000, async () => {
      const active = ["-o", "jsonpath={.status.active}"];
      return (await kubectl(machine, "get", "cronjob", cronJob, "-n", namespace, ...active)) === "";
    });
    await kubectl(machine, "create", "job", job, `--from=cronjob/${cronJob}`, "-n", namespace);
    await kubectl(
      machine,
      ...["wait", `job/${job}`, "-n", namespace, "--for=condition=Complete", "--timeout=60s"],
    );
  } finally {
    await kubectl(machine, "delete", "job", job, "-n", namespace, "--ignore-not-found");
    await suspend(false);
  }
}

/** Hash and name of every file of the store, or of the standby's copy of it. */
async function dumps(machine: "master" | "standby"): Promise<string[]> {
  const folder =
    machine === "master" ? "/var/lib/fluxbilling/backups" : "/var/lib/fluxbilling/mirror/master";
  const { stdout } = await runOn(machine, [
    ...["sh", "-c", `cd ${folder} && find . -type f | sort | xargs -r sha256sum`],
  ]);
  return stdout.split("\n").filter((line) => line !== "");
}

async function wordsOnStandby(): Promise<string> {
  return onStandby(`runuser -u postgres -- psql -XAtq -d ${DATABASE} -c 'select word from probe'`);
}

async function onStandby(script: string): Promise<string> {
  const { stdout } = await runOn("standby", ["sh", "-ec", script]);
  return stdout;
}

async function tried(
  machine: "master" | "standby",
  argv: readonly string[],
): ReturnType<typeof runOn> {
  return runOn(
    machine,
    argv.filter((word) => word !== ""),
    { timeoutSeconds: 120 },
  );
}
