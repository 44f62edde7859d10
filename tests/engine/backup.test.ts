import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { RESTORER_FILE } from "../../embedded/images/build-images.ts";
import { BACKUP_KEY_FILE } from "../../embedded/local-fleet.ts";
import { namespaceFile, serviceLog } from "../../embedded/machines/layout.ts";
import type { MachineFacts, PlatformFacts } from "../../embedded/machines/platform.ts";
import { kubectl, query } from "../support/platform.ts";
import {
  askAsOperator,
  neighbours,
  onMachine,
  secretOf,
  type TestTenant,
} from "../support/tenants.ts";

const STORE = "/var/lib/fluxbilling/backups";
const STORE_USER = "fluxbackup";
const JOB = "backup-by-hand";
const SCRATCH = "scratch_restore";

/** What the backup job prints of the dump that the store has safe. */
interface Manifest {
  readonly tenant: string;
  readonly database: string;
  readonly file: string;
  readonly sha256: string;
}

describe("a tenant's backup, started by hand", () => {
  let facts: PlatformFacts;
  let master: MachineFacts;
  let a: TestTenant;
  let b: TestTenant;
  let manifest: Manifest;
  /** What the master's sshd had logged before the job. */
  let logged: number;
  const subject = `subject-${randomUUID()}`;
  const folder = mkdtempSync(join(tmpdir(), "backup-"));

  beforeAll(async () => {
    ({ facts, a, b } = await neighbours());
    ({ master } = facts.machines);
    const added = await askAsOperator(a, {
      ...{ method: "POST", path: `/records?subject=${subject}`, body: '{"kept":true}' },
    });
    expect(added.status).toBe(200);
    const put = await askAsOperator(a, {
      ...{ method: "PUT", path: "/settings/kept", body: "a setting that is kept" },
    });
    expect(put.status).toBe(204);
    logged = sshLog().length;
    const inside = ["--namespace", a.namespace];
    await kubectl(a.location, "create", "job", JOB, "--from=cronjob/backup", ...inside);
    await kubectl(
      a.location,
      ...["wait", `job/${JOB}`, "--for=condition=Complete", "--timeout=90s", ...inside],
    );
    manifest = JSON.parse(await kubectl(a.location, "logs", `job/${JOB}`, ...inside)) as Manifest;
  });

  afterAll(async () => {
    rmSync(folder, { recursive: true });
    await query(a.location, `drop database if exists ${SCRATCH}`);
    await kubectl(a.location, "delete", "job", JOB, "--namespace", a.namespace);
  });

  it("lies on the master's store, whole, where nobody but the store's user reads it", async () => {
    expect([manifest.tenant, manifest.database]).toEqual([a.name, a.database]);
    const path = `${STORE}/${a.name}/${manifest.file}`;
    const [sum = ""] = (await onMachine(master, ["sha256sum", path])).split(" ");
    expect(sum).toBe(manifest.sha256);
    expect((await onMachine(master, ["stat", "-c", "%U %a", path])).trim()).toBe(
      `${STORE_USER} 400`,
    );
    const beside = path.replace(/\.dump\.gz\.age$/, ".json");
    expect(JSON.parse(await onMachine(master, ["cat", beside]))).toMatchObject(manifest);
  });

  it("came over SSH, from the tenant's location, by the tenant's certified key", () => {
    const accepted = sshLog()
      .slice(logged)
      .split("\n")
      .filter((line) => line.includes("Accepted publickey"));
    expect(accepted).toHaveLength(1);
    expect(accepted[0]).toContain(`for ${STORE_USER} from ${a.location.address} `);
    expect(accepted[0]).toContain(`ED25519-CERT`);
    expect(accepted[0]).toContain(`ID backup-${a.name} (serial 1)`);
  });

  it("restores into an empty database with the tenant's rows, its settings still sealed", async () => {
    await query(a.location, `create database ${SCRATCH} template template0`);
    const archive = await opened();
    await onMachine(
      a.location,
      [
        ...["sh", "-euc"],
        `base64 -d | pg_restore --username=admin --dbname=${SCRATCH} --exit-on-error --no-owner --no-acl`,
      ],
      archive.toString("base64"),
    );
    for (const statement of [
      "select * from app.records order by id",
      "select * from app.settings order by name",
    ]) {
      const rows = await query(a.location, statement, [], SCRATCH);
      expect(rows.length).toBeGreaterThan(0);
      expect(rows).toEqual(await query(a.location, statement, [], a.database));
    }
    expect(
      await query(
        a.location,
        "select body from app.records where subject = $1",
        [subject],
        SCRATCH,
      ),
    ).toEqual([{ body: { kept: true } }]);
    expect(
      await query(
        a.location,
        "select count(*)::int as clear from app.settings where position('setting that is kept'::bytea in value) > 0",
        [],
        SCRATCH,
      ),
    ).toEqual([{ clear: 0 }]);
  });

  describe("with the other tenant's key", () => {
    let before: string;

    beforeAll(async () => {
      before = await storeListing();
      for (const file of ["id_ed25519", "id_ed25519-cert.pub"]) {
        writeFileSync(join(folder, file), await secretOf(b, "store-1", file), { mode: 0o600 });
      }
      writeFileSync(join(folder, "known_hosts"), `${master.address} ${master.ssh.hostKey}\n`);
    });

    it("reaches the receiver, which takes nothing that is not a whole dump", async () => {
      expect(await ssh(["receive", b.name, dumpName()])).toEqual({
        exitCode: 2,
        stdout: "",
        stderr: "Store: a transfer must end with its manifest, got a cut one.",
      });
    });

    it("writes nothing into the tenant's folder", async () => {
      for (const file of [dumpName(), manifest.file]) {
        expect(await ssh(["receive", a.name, file])).toEqual({
          exitCode: 2,
          stdout: "",
          stderr: `Store: this key must be used for tenant "${b.name}", got "${a.name}".`,
        });
      }
      const escapes = [`../${a.name}/${dumpName()}`, `/${dumpName()}`, "x"];
      for (const file of escapes) {
        const refused = await ssh(["receive", b.name, file]);
        expect(refused.exitCode).toBe(2);
        expect(refused.stderr).toContain('the command must be "receive <tenant> <file name>"');
      }
    });

    it("reads nothing from it, and gets no shell", async () => {
      const path = `${STORE}/${a.name}/${manifest.file}`;
      for (const command of [["cat", path], ["ls", STORE], ["sh"], ["scp", "-f", path], []]) {
        const refused = await ssh(command);
        expect([refused.exitCode, refused.stdout]).toEqual([2, ""]);
        expect(refused.stderr).toContain('the command must be "receive <tenant> <file name>"');
      }
      const sftp = await ssh(["sftp"], { options: ["-s"] });
      expect([sftp.exitCode, sftp.stdout]).toEqual([2, ""]);
    });

    it("is no way on: no forwarding, no other user", async () => {
      const forwarded = await ssh([], { options: ["-W", `${master.address}:5432`] });
      expect(forwarded.exitCode).toBe(255);
      expect(forwarded.stderr).toBe("stdio forwarding failed");
      for (const user of ["root", "postgres"]) {
        const refused = await ssh(["true"], { user });
        expect(refused.exitCode).toBe(255);
        expect(refused.stderr).toContain("Permission denied");
      }
    });

    it("opens nothing from another address than the location's", async () => {
      for (const from of ["operator", "fi-1"] as const) {
        const refused = await ssh(["receive", b.name, dumpName()], { from });
        expect(refused.exitCode).toBe(255);
        expect(refused.stderr).toContain("Permission denied");
      }
    });

    it("has changed nothing on the store by all that", async () => {
      expect(before).toContain(manifest.file);
      expect(await storeListing()).toBe(before);
    });
  });

  /** The archive in the dump, opened as docs/runbooks/restore.md says: with the key that no machine has. */
  async function opened(): Promise<Buffer> {
    for (const file of [manifest.file, manifest.file.replace(/\.dump\.gz\.age$/, ".json")]) {
      const content = await onMachine(master, ["base64", `${STORE}/${a.name}/${file}`]);
      writeFileSync(join(folder, file), Buffer.from(content, "base64"), { mode: 0o600 });
    }
    const archive = join(folder, "archive.dump");
    await promisify(execFile)(RESTORER_FILE, [
      ...["-identity", BACKUP_KEY_FILE, "-dump", join(folder, manifest.file)],
      ...["-archive", archive],
    ]);
    return readFileSync(archive);
  }

  function sshLog(): string {
    return readFileSync(serviceLog("master", "sshd"), "utf8");
  }

  /** Every file of the store with its size and time; a folder that was made empty counts for nothing. */
  async function storeListing(): Promise<string> {
    const listing = await onMachine(master, [
      ...["find", STORE, "-type", "f", "-printf", "%p %s %T@\\n"],
    ]);
    return listing.split("\n").sort().join("\n");
  }

  /** Runs the official client with the key in the folder; from the other tenant's location unless told otherwise. */
  async function ssh(
    command: readonly string[],
    change: {
      readonly from?: "operator" | "nl-1" | "fi-1";
      readonly user?: string;
      readonly options?: readonly string[];
    } = {},
  ): Promise<{ readonly exitCode: number; readonly stdout: string; readonly stderr: string }> {
    const { from = "nl-1", user = STORE_USER, options = [] } = change;
    return new Promise((resolve) => {
      const child = execFile(
        "nsenter",
        [
          ...[
            `--net=${namespaceFile(from)}`,
            "--",
            "ssh",
            "-F",
            "none",
            "-T",
            "-o",
            "BatchMode=yes",
          ],
          ...["-i", join(folder, "id_ed25519"), "-o", "IdentitiesOnly=yes"],
          ...["-o", `UserKnownHostsFile=${join(folder, "known_hosts")}`],
          ...["-o", "StrictHostKeyChecking=yes", "-o", "LogLevel=ERROR"],
          ...[...options, `${user}@${master.address}`, ...command],
        ],
        { timeout: 20_000 },
        (error, stdout, stderr) => {
          const exitCode = error === null ? 0 : Number(error.code ?? -1);
          resolve({ exitCode, stdout, stderr: stderr.trim() });
        },
      );
      child.stdin?.end();
    });
  }
});

/** A name that a dump of this moment could have. */
function dumpName(): string {
  return `20260101T000000Z-${randomUUID().slice(0, 8)}.dump.gz.age`;
}
