import { execFile, spawn } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { chmod, chown, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import ssh2 from "ssh2";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { ageRecipient, makeAgeIdentity } from "../../../embedded/age-key.ts";
import { buildImages } from "../../../embedded/images/build-images.ts";
import { sshAuthority } from "../../../model/ssh-certificate.ts";
import { type Postgres, startPostgres } from "../../support/postgres.ts";
import { type Sshd, startSshd } from "../../support/sshd.ts";
import { openImage } from "./image-root.ts";

const run = promisify(execFile);

const USER = 65532;
const PASSWORD = "canary'pass:word\\with-all";
const FILE_NAME = /^\d{8}T\d{6}Z-[0-9a-f]{8}\.(dump\.gz\.age|json)$/;

let folder = "";
let root = "";
let postgres: Postgres;
let sshd: Sshd;
let store = "";
const backupKey = makeAgeIdentity();
let clientKey = { private: "", public: "" };

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "backup-"));
  // The image's own files and nothing else: a library that it lacks fails here as it would in a pod.
  const [image] = await buildImages({ names: ["backup"] });
  if (image === undefined) throw new Error("the image must be made");
  ({ root } = await openImage(image.tarFile, folder));
  for (const path of ["proc", "dev", "run/secrets/database", "run/secrets/store"]) {
    await mkdir(join(root, path), { recursive: true });
  }
  postgres = await startPostgres();
  sshd = await startSshd();
  const quoted = PASSWORD.replaceAll("'", "''");
  await postgres.query(
    `CREATE ROLE acme_backup LOGIN BYPASSRLS IN ROLE pg_read_all_data PASSWORD '${quoted}'`,
  );
  await postgres.query(
    `CREATE ROLE acme_blind LOGIN IN ROLE pg_read_all_data PASSWORD '${quoted}'`,
  );
  await postgres.query("CREATE DATABASE acme");
  await postgres.query(
    `CREATE TABLE records (id int PRIMARY KEY, body text);
     INSERT INTO records SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, 20000) n;
     ALTER TABLE records ENABLE ROW LEVEL SECURITY;
     ALTER TABLE records FORCE ROW LEVEL SECURITY;
     CREATE POLICY nobody ON records USING (false)`,
    "acme",
  );
  clientKey = ssh2.utils.generateKeyPairSync("ed25519");
  await putSecret("database/password", PASSWORD);
  await putSecret("database/ca.crt", await readFile(postgres.certificate, "utf8"));
  await putSecret("store/id_ed25519", clientKey.private);
});

afterAll(async () => {
  await sshd.stop();
  await postgres.stop();
  await rm(folder, { recursive: true, force: true });
});

beforeEach(async () => {
  store = await mkdtemp(join(folder, "store-"));
  await authorize(`command="${receiver("acme")}",restrict ${clientKey.public}`);
});

/** What the platform installs on the store, as its forced command. */
function receiver(tenant: string): string {
  return `${join(root, "receive")} -root ${store} -keep-days 7 -tenant ${tenant}`;
}

async function authorize(line: string): Promise<void> {
  await writeFile(join(sshd.folder, "authorized_keys"), `${line}\n`);
}

async function putSecret(name: string, content: string): Promise<void> {
  const file = join(root, "run/secrets", name);
  await writeFile(file, content, { mode: 0o400 });
  await chown(file, USER, USER);
  await chmod(file, 0o400);
}

function environment(change: { readonly [name: string]: string } = {}): NodeJS.ProcessEnv {
  return {
    TENANT: "acme",
    DATABASE_HOST: postgres.host,
    DATABASE_PORT: String(postgres.port),
    DATABASE_NAME: "acme",
    DATABASE_USER: "acme_backup",
    RECIPIENTS: ageRecipient(backupKey),
    STORE_HOST: sshd.host,
    STORE_PORT: String(sshd.port),
    STORE_USER: sshd.user,
    STORE_HOST_KEY: sshd.hostKey,
    ...change,
  };
}

/** Starts the image's program much as a pod would: its own root, its own user, its own processes. */
function start(change: { readonly [name: string]: string } = {}) {
  const script =
    'mount -t proc proc "$1/proc"; mount --rbind /dev "$1/dev"; exec setpriv --no-new-privs chroot --userspec=65532:65532 "$1" /backup';
  const child = spawn(
    "unshare",
    [...["--mount", "--pid", "--fork"], ...["sh", "-ec", script, "sh", root]],
    {
      env: { PATH: process.env["PATH"], ...environment(change) },
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  const ended = once(child, "close").then(([code]) => ({
    code: code as number | null,
    stdout,
    stderr,
  }));
  return { child, ended };
}

/** Kills the first process of the namespace that `unshare` made, and everything in there with it. */
async function killPod(unsharePid: number | undefined): Promise<void> {
  const pid = String(unsharePid);
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8");
  process.kill(Number(children.trim()), "SIGKILL");
}

/** The archive inside a dump of the store, opened with the private backup key. */
async function opened(dumpName: string): Promise<string> {
  const identity = join(folder, "backup-key");
  const archive = join(folder, "opened.dump");
  await writeFile(identity, `${backupKey}\n`);
  await run(join(root, "restore"), [
    ...["-identity", identity],
    ...["-dump", join(store, "acme", dumpName)],
    ...["-archive", archive],
  ]);
  return archive;
}

async function storedFiles(): Promise<string[]> {
  const entries = await readdir(store, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => entry.name)
    .sort();
}

/** Processes of the image's pg_dump, seen from outside. */
async function pgDumps(): Promise<string[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const found: string[] = [];
  for (const pid of pids) {
    const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    if (!command.startsWith("/usr/lib/postgresql/15/bin/pg_dump\0")) continue;
    const inside = await readFile(`/proc/${pid}/environ`, "utf8").catch(() => "");
    if (inside.includes(`PGPORT=${postgres.port}\0`)) found.push(pid);
  }
  return found;
}

async function until<T>(look: () => Promise<T | undefined>, what: string): Promise<T> {
  for (let attempt = 0; attempt < 600; attempt += 1) {
    const found = await look();
    if (found !== undefined) return found;
    await sleep(50);
  }
  throw new Error(`${what} must happen within 30 s`);
}

/** Holds a lock on which pg_dump waits, until `release` is called. */
async function lockTable(): Promise<{ release: () => Promise<void> }> {
  const holding = postgres.query(
    "BEGIN; LOCK TABLE records IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(600)",
    "acme",
  );
  const ended = holding.catch(() => undefined);
  const isLocked = async (): Promise<true | undefined> =>
    (await postgres.query("SELECT FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted"))
      .length > 0
      ? true
      : undefined;
  await until(isLocked, "the lock");
  return {
    release: async () => {
      await postgres.query(
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()",
      );
      await ended;
    },
  };
}

describe("backup", () => {
  it("leaves a dump on the store that restores with every row, and says what it is", async () => {
    const { code, stdout, stderr } = await start().ended;
    expect([code, stderr]).toEqual([0, ""]);
    const files = await storedFiles();
    expect(files.map((name) => FILE_NAME.test(name))).toEqual([true, true]);
    const [dumpName = "", manifestName = ""] = files;
    const told = JSON.parse(stdout) as { [field: string]: unknown };
    const { receivedAt, ...kept } = JSON.parse(
      await readFile(join(store, "acme", manifestName), "utf8"),
    ) as { [field: string]: unknown };
    expect(kept).toEqual({ ...told, keepDays: 7 });
    const dump = await readFile(join(store, "acme", dumpName));
    const archive = await opened(dumpName);
    const { stdout: sum } = await run("sha256sum", [join(store, "acme", dumpName)]);
    const [server] = await postgres.query("SELECT current_setting('server_version') AS version");
    const { startedAt, finishedAt, pgDumpVersion, ...facts } = told;
    expect(facts).toEqual({
      formatVersion: 2,
      tenant: "acme",
      database: "acme",
      file: dumpName,
      sha256: sum.slice(0, 64),
      sizeBytes: dump.length,
      uncompressedSizeBytes: (await readFile(archive)).length,
      serverVersion: server?.["version"],
      recipients: [ageRecipient(backupKey)],
    });
    expect(String(pgDumpVersion)).toMatch(/^15\./);
    for (const time of [startedAt, finishedAt, receivedAt]) {
      expect(Math.abs(Date.now() - Date.parse(String(time)))).toBeLessThan(120_000);
    }

    await postgres.query("CREATE DATABASE restored");
    await run("pg_restore", ["--exit-on-error", "--no-owner", "--dbname=restored", archive], {
      env: {
        ...process.env,
        PGHOST: postgres.host,
        PGPORT: String(postgres.port),
        PGUSER: postgres.user,
        PGPASSWORD: postgres.password,
      },
    });
    const digest = "SELECT count(*), md5(string_agg(body, ',' ORDER BY id)) FROM records";
    expect(await postgres.query(digest, "restored")).toEqual(await postgres.query(digest, "acme"));
  });

  it("comes in with a certificate of the store's authority, which names the one command", async () => {
    const pem = generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" });
    const authority = sshAuthority(pem.toString(), "test");
    await authorize(`cert-authority,restrict ${authority.publicKey}`);
    const certificate = (tenant: string): string =>
      authority.certify({
        publicKey: clientKey.public,
        principal: sshd.user,
        forceCommand: receiver(tenant),
        sourceAddresses: ["127.0.0.1/32"],
        keyId: `backup-${tenant}`,
        serial: 1,
      });
    const withCertificate = { STORE_CERTIFICATE_FILE: "/run/secrets/store/id_ed25519-cert.pub" };
    await putSecret("store/id_ed25519-cert.pub", certificate("acme"));
    expect((await start(withCertificate).ended).code).toBe(0);
    expect(await storedFiles()).toHaveLength(2);

    await putSecret("store/id_ed25519-cert.pub", certificate("other"));
    const refused = await start(withCertificate).ended;
    expect([refused.code, refused.stderr]).toEqual([
      5,
      `Backup "acme": store "127.0.0.1": must do as asked, got "Store: this key must be used for tenant \\"other\\", got \\"acme\\".".\n`,
    ]);
    expect(await storedFiles()).toHaveLength(2);
  });

  it("sends nothing to a store that shows another host key", async () => {
    const stranger = ssh2.utils.generateKeyPairSync("ed25519").public;
    const { code, stdout, stderr } = await start({ STORE_HOST_KEY: stranger }).ended;
    expect([code, stdout]).toEqual([4, ""]);
    expect(stderr).toMatch(
      /^Backup "acme": store "127\.0\.0\.1:\d+": must show the pinned host key SHA256:\S+, got SHA256:\S+; if the store was made anew, pin its new key in STORE_HOST_KEY\.\n$/,
    );
    expect(await storedFiles()).toEqual([]);
  });

  it.each([
    [
      "a role that row-level security would hide rows from",
      { DATABASE_USER: "acme_blind" },
      /row-level security policy/,
    ],
    [
      "a role that is not there",
      { DATABASE_USER: "acme_nobody" },
      /password authentication failed/,
    ],
    ["a server that the certificate does not name", { DATABASE_HOST: "localhost" }, /certificate/],
  ])("stores nothing for %s", async (_case, change, said) => {
    const { code, stdout, stderr } = await start(change).ended;
    expect([code, stdout]).toEqual([3, ""]);
    expect(stderr).toMatch(said);
    expect(stderr).not.toContain("canary");
    expect(stderr.split("\n")).toHaveLength(2);
    expect(await storedFiles()).toEqual([]);
  });

  it("keeps the password out of arguments and environment while it runs", async () => {
    const lock = await lockTable();
    const { ended } = start();
    const [pid] = await until(async () => {
      const found = await pgDumps();
      return found.length > 0 ? found : undefined;
    }, "the dump");
    const shown = await Promise.all(
      ["cmdline", "environ"].map((name) => readFile(`/proc/${pid ?? ""}/${name}`, "utf8")),
    );
    const onDisk = await run("grep", ["-rlF", PASSWORD, join(root, "tmp"), store]).catch(
      (error: { code?: number }) => error.code,
    );
    await lock.release();
    expect(shown.filter((text) => text.includes("canary"))).toEqual([]);
    expect(onDisk).toBe(1);
    expect((await ended).code).toBe(0);
  });

  it("leaves nothing that counts when it is killed, and the next run clears up and succeeds", async () => {
    const lock = await lockTable();
    const { child, ended } = start();
    await until(async () => ((await pgDumps()).length > 0 ? true : undefined), "the dump");
    const during = await storedFiles();
    await killPod(child.pid);
    await ended;
    await lock.release();
    expect(during.filter((name) => FILE_NAME.test(name))).toEqual([]);
    await until(
      async () => ((await storedFiles()).length === 0 ? true : undefined),
      "the store clearing up",
    );
    expect((await start().ended).code).toBe(0);
    expect((await storedFiles()).map((name) => FILE_NAME.test(name))).toEqual([true, true]);
  });

  it("gives its key no shell, no other command and no forwarding", async () => {
    const keyFile = join(folder, "client-key");
    await writeFile(keyFile, clientKey.private, { mode: 0o600 });
    const options = [
      ...["-i", keyFile, "-p", String(sshd.port), "-o", "StrictHostKeyChecking=no"],
      ...["-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"],
    ];
    const tried = async (...rest: string[]): Promise<[number | undefined, string]> =>
      run("ssh", [...options, ...rest]).then(
        ({ stdout }) => [0, stdout],
        (error: { code?: number; stderr: string }) => [error.code, error.stderr.trim()],
      );
    const target = `${sshd.user}@${sshd.host}`;
    const refusal = (command: string): [number, string] => [
      2,
      `Store: the command must be "receive <tenant> <file name>", got ${JSON.stringify(command)}.`,
    ];
    expect(await tried(target, "id")).toEqual(refusal("id"));
    expect(await tried(target)).toEqual(refusal(""));
    // What a subsystem says on standard error does not come through SSH.
    expect(await tried("-s", target, "sftp")).toEqual([2, ""]);
    expect(await tried("-W", `${postgres.host}:${postgres.port}`, target)).toEqual([
      255,
      "stdio forwarding failed",
    ]);
    expect(await storedFiles()).toEqual([]);
  });

  it("never lets a second dump of the same name replace the first", async () => {
    await start().ended;
    const [dumpName = ""] = await storedFiles();
    const before = await readFile(join(store, "acme", dumpName));
    const { stderr } = await run(
      join(root, "receive"),
      ["-root", store, "-keep-days", "7", "-tenant", "acme"],
      {
        env: { SSH_ORIGINAL_COMMAND: `receive acme ${dumpName}` },
      },
    ).catch((error: { stderr: string }) => error);
    expect(stderr).toBe(
      `Store: "${dumpName}" must be a new name, got one that the store has already.\n`,
    );
    expect(await readFile(join(store, "acme", dumpName))).toEqual(before);
  });

  it("refuses a setting that is missing before it asks anybody", async () => {
    const { code, stderr } = await start({ STORE_KEY_FILE: "/nowhere" }).ended;
    expect([code, stderr]).toEqual([
      2,
      'Backup "acme": setting "STORE_KEY_FILE": must name a file with content, got "/nowhere"; mount the Secret there.\n',
    ]);
  });
});
