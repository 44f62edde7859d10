import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse, stringify } from "yaml";

import { deploy, destroy, runOnStack } from "../../embedded/deploy.ts";
import { STATE } from "../../embedded/engine/engine.ts";
import {
  LOCAL_FLEET,
  type LocalStack,
  localStackOf,
  writeConfig,
} from "../../embedded/local-fleet.ts";
import { OPERATOR_ADDRESS } from "../../embedded/machines/layout.ts";
import {
  addGuest,
  type MachineFacts,
  type PlatformFacts,
  removeGuest,
  runOn,
} from "../../embedded/machines/platform.ts";
import { BIN, CACHE } from "../../embedded/paths.ts";
import { hostStackName } from "../../model/settings.ts";
import { type ArtefactServer, startArtefactServer } from "../support/artefact-server.ts";
import { SYSTEMCTL } from "../support/bare-host.ts";
import { formsInClear } from "../support/clear-text.ts";
import { killedRun } from "../support/killed-run.ts";
import { handshake, platform, until } from "../support/platform.ts";

const run = promisify(execFile);
const GUEST = "bare-1";
const K3S = readFileSync(join(import.meta.dirname, "../support/stand-ins/k3s.sh"), "utf8");

/**
 * A bare machine, prepared by the real engine over real SSH.
 *
 * Shows: that our programs refuse, converge and change nothing twice on a machine as Debian installs it; PostgreSQL
 * itself, Debian's package with our settings; that what we write for K3s asks an API server for TLS 1.3 and for
 * encrypted Secrets, and that its kubeconfig is of use.
 * Does not show K3s or systemd: no package registry has the first, and the machine does not run the second. For K3s
 * stands a program that starts the real API server with what is in K3s's settings, and is fetched, checked and started
 * as K3s is; for systemd one that starts the two units. The package is there before, so apt installs nothing.
 */
describe("a bare host", { timeout: 300_000 }, () => {
  let facts: PlatformFacts;
  let guest: MachineFacts;
  let artefacts: ArtefactServer;
  let folder: string;
  let stack: LocalStack;
  let packageVersion: string;
  /** What every run of the engine has printed. */
  let printed = "";
  /** What was seen of the password or the key in a process list while runs were at work. */
  const seenInProcesses: string[] = [];
  const password = randomBytes(24).toString("base64url");

  beforeAll(async () => {
    facts = await platform();
    folder = mkdtempSync(join(CACHE, "prepare-host-"));
    await removeGuest(GUEST);
    [guest, artefacts] = await Promise.all([
      addGuest(GUEST),
      startArtefactServer(OPERATOR_ADDRESS),
    ]);
    await onGuest("mkdir -p /run/systemd/system && cat >>/etc/ssl/certs/ca-certificates.crt", {
      stdin: artefacts.authority,
    });
    await onGuest("cat >/usr/local/bin/systemctl && chmod 0755 /usr/local/bin/systemctl", {
      stdin: readFileSync(SYSTEMCTL),
    });
    packageVersion = await onGuest("dpkg-query -W -f '${Version}' postgresql-15");
    writeFileSync(join(folder, "password"), `${password}\n`, { mode: 0o600 });
    writeFleet();
    stack = {
      ...localStackOf(hostStackName(LOCAL_FLEET, GUEST)),
      configFile: join(folder, "Pulumi.host.yaml"),
    };
    await writeStack("v1.33.5+k3s1");
  });

  afterAll(async () => {
    await destroy(stack, facts);
    await artefacts.stop();
    await removeGuest(GUEST);
    rmSync(folder, { recursive: true });
  });

  it("gets nothing while a folder with data lies in clear", async () => {
    await expect(up()).rejects.toThrow(
      /Encrypted storage: "\/var\/lib\/rancher" must lie on storage encrypted with AES-256, by dm-crypt or fscrypt, got .+ in clear\. See docs\/runbooks\/encrypted-storage\.md\./,
    );
    expect(
      await onGuest(
        "find /usr/local/lib/fluxbilling /etc/rancher /etc/postgresql -mindepth 1 2>/dev/null || true",
      ),
    ).toBe("");
    // As docs/runbooks/encrypted-storage.md has it, for what is not on the machine's encrypted disk as it is.
    await onGuest(`
      install -d -o root -g postgres -m 1775 /var/lib/fluxbilling/log/postgresql
      for folder in rancher:/var/lib/rancher log:/var/log; do
        mkdir -p "/var/lib/fluxbilling/\${folder%%:*}" "\${folder#*:}"
        mount --bind "/var/lib/fluxbilling/\${folder%%:*}" "\${folder#*:}"
      done
      for folder in rancher kubelet postgresql volumes fluxbilling; do
        echo "/dev/mapper/data /var/lib/$folder none bind 0 0" >>/etc/fstab
      done
      echo "/dev/mapper/data /var/log none bind 0 0" >>/etc/fstab`);
  });

  it("gets no K3s that is not the one of the checksum", async () => {
    const wrong = "0".repeat(64);
    const { url, sha256 } = await writeStack("v1.33.5+k3s1", wrong);
    await expect(up()).rejects.toThrow(
      `Host: "${url}" must be sha256:${wrong}, got sha256:${sha256}. Nothing was installed: compare both with what the release itself tells.`,
    );
    expect(
      await onGuest(
        "find /usr/local/bin /etc/rancher /var/lib/rancher /etc/systemd/system -type f -path '*k3s*' || true",
      ),
    ).toBe("");
  });

  it("is prepared by the next run after one that was killed in the middle", async () => {
    await writeStack("v1.33.5+k3s1");
    artefacts.hold(true);
    const before = artefacts.asked.length;
    const fetching = until("K3s to be fetched", 120_000, () =>
      Promise.resolve(artefacts.asked.length > before),
    );
    await killedRun("up", stack, facts, fetching);
    artefacts.hold(false);
    const watch = setInterval(() => seenInProcesses.push(...shownInProcesses()), 200);
    try {
      await up();
    } finally {
      clearInterval(watch);
    }
    expect(await onGuest("sha256sum /usr/local/bin/k3s | cut -d ' ' -f 1")).toBe(
      (await writeStack("v1.33.5+k3s1")).sha256,
    );
    expect(await onGuest("ls /var/lib/postgresql/15")).toBe("main");
  });

  it("is not touched by a further run", async () => {
    const before = await onGuest("cat /run/k3s.pid /run/systemctl.asked");
    expect(Object.keys(await up())).toEqual(["unchanged"]);
    expect(await onGuest("cat /run/k3s.pid /run/systemctl.asked")).toBe(before);
  });

  it("tells a kubeconfig with which its cluster answers, over TLS 1.3 alone", async () => {
    expect(await kubectl("get", "--raw", "/readyz")).toBe("ok");
    expect(await handshake(guest.address, "kubernetes", "TLSv1.3", 6443)).toBe("TLSv1.3");
    expect(await handshake(guest.address, "kubernetes", "TLSv1.2", 6443)).toBe(
      "ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION",
    );
    const asked = await runOnStack(["stack", "output"], stack, facts);
    expect(asked.stdout).toMatch(/kubeconfig +\[secret\]/);
  });

  it("has a cluster that encrypts Secrets before it keeps them", async () => {
    await kubectl("create", "secret", "generic", "canary", "--from-literal=word=canary");
    const kept = await onGuest(
      `runuser -u postgres -- psql -h /run/k3s-datastore -XAtqc "select encode(substr(value, 1, 21), 'escape') from kine where name = '/registry/secrets/default/canary'"`,
    );
    expect(kept).toBe("k8s:enc:secretbox:v1:");
  });

  it("has a PostgreSQL that proves itself by the authority that the stack tells, over TLS 1.3 alone", async () => {
    expect(await login({})).toEqual({ who: "admin", protocol: "TLSv1.3" });
    expect(await login({ ssl: { ca: await authority(), maxVersion: "TLSv1.2" } })).toMatch(
      /protocol version/,
    );
    expect(await login({ ssl: false })).toMatch(
      /^pg_hba\.conf rejects connection .* no encryption$/,
    );
    expect(await login({ ssl: { ca: artefacts.authority } })).toMatch(
      /unable to|self-signed|certificate/,
    );
    expect(await login({ password: "another" })).toBe(
      'password authentication failed for user "admin"',
    );
  });

  it("lets a role into its own database and into no other", async () => {
    const admin = await client({});
    try {
      for (const tenant of ["acme", "other"]) {
        await admin.query(`create role tenant_${tenant}`);
        await admin.query(
          `create role app_${tenant} login password 'of-its-own' in role tenant_${tenant}`,
        );
        await admin.query(`create database tenant_${tenant}`);
      }
    } finally {
      await admin.end();
    }
    const app = { user: "app_acme", password: "of-its-own" };
    expect(await login({ ...app, database: "tenant_acme" })).toMatchObject({ who: "app_acme" });
    expect(await login({ ...app, database: "tenant_other" })).toMatch(
      /^pg_hba\.conf rejects connection .* user "app_acme", database "tenant_other"/,
    );
  });

  it("takes a later K3s in place", async () => {
    const { sha256 } = await writeStack("v1.33.6+k3s1");
    // The proof of encryption is asked for anew, the rest is changed in place.
    expect(await up()).toMatchObject({ updated: 2, replaced: 1 });
    expect(await onGuest("sha256sum /usr/local/bin/k3s | cut -d ' ' -f 1")).toBe(sha256);
    expect(await kubectl("get", "secret", "canary", "-o", "name")).toBe("secret/canary\n");
  });

  it("renews K3s's certificates when its generation is raised, and tells the kubeconfig anew", async () => {
    const former = await kubeconfigCertificate();
    const { sha256 } = await writeStack("v1.33.6+k3s1", undefined, 2);
    expect(await up()).toMatchObject({ updated: 3, replaced: 1 });
    expect(await kubeconfigCertificate()).not.toBe(former);
    expect(await kubectl("get", "--raw", "/readyz")).toBe("ok");
    expect(await onGuest("sha256sum /usr/local/bin/k3s | cut -d ' ' -f 1")).toBe(sha256);
  });

  it("is asked for its encryption again by a run that changes it, and not changed while it lies in clear", async () => {
    await onGuest("umount --lazy /var/lib/rancher");
    try {
      await writeStack("v1.33.7+k3s1", undefined, 2);
      await expect(up()).rejects.toThrow(
        /Encrypted storage: "\/var\/lib\/rancher" must lie on storage encrypted with AES-256/,
      );
      expect(await onGuest("/usr/local/bin/k3s --version | cut -d ' ' -f 3")).toBe("v1.33.6+k3s1");
    } finally {
      await onGuest("mount --bind /var/lib/fluxbilling/rancher /var/lib/rancher");
    }
    await up();
    expect(await onGuest("/usr/local/bin/k3s --version | cut -d ' ' -f 3")).toBe("v1.33.7+k3s1");
  });

  it("holds no password, and shows it and the server's key in no log, state or process list", async () => {
    const exported = await runOnStack(["stack", "export", "--show-secrets"], stack, facts);
    const { resources } = (
      JSON.parse(exported.stdout) as {
        deployment: { resources: { urn: string; outputs?: { privateKeyPem?: unknown } }[] };
      }
    ).deployment;
    const key = resources.find(({ urn }) => urn.endsWith(`::${GUEST}-server-key`));
    const [, line = ""] = textOf(key?.outputs?.privateKeyPem).split("\n");
    // The search does find it where it belongs.
    expect(line.length).toBeGreaterThan(40);
    expect(await onGuest('grep -rlF "$(cat)" /etc || true', { stdin: line })).toBe(
      "/etc/postgresql/15/main/server.key",
    );
    const places =
      "/etc /root /run /usr/local /var/lib/fluxbilling /var/lib/postgresql /var/log /tmp";
    expect(
      await onGuest(`grep -rlF --devices=skip "$(cat)" ${places} 2>/dev/null || true`, {
        stdin: password,
      }),
    ).toBe("");
    expect(
      await onGuest(`grep -rlF --devices=skip "$(cat)" ${places} 2>/dev/null || true`, {
        stdin: line,
      }),
    ).toBe("/etc/postgresql/15/main/server.key");

    const recorded = Buffer.concat(
      readdirSync(STATE, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile() && entry.name.includes(stack.name))
        .map((entry) => readFileSync(join(entry.parentPath, entry.name))),
    );
    expect(recorded.includes(`${GUEST}-server-key`)).toBe(true);
    for (const secret of [password, line].map((text) => Buffer.from(text))) {
      expect(formsInClear(secret, recorded)).toEqual([]);
      expect(formsInClear(secret, printed)).toEqual([]);
    }
    expect(printed).toContain(`${GUEST}-postgresql`);
    expect(seenInProcesses).toEqual([]);
  });

  /** The fleet with one location more, which it has not adopted. */
  function writeFleet(): void {
    const { config } = parse(readFileSync(localStackOf(LOCAL_FLEET).configFile, "utf8")) as {
      config: { "fluxbilling:fleet": { locations: Record<string, Record<string, unknown>> } };
    };
    const { locations } = config["fluxbilling:fleet"];
    const like = locations["nl-1"] ?? {};
    const encrypted = like["encryptedFolders"] as readonly string[];
    locations[GUEST] = {
      ...like,
      address: guest.address,
      ssh: { ...(like["ssh"] as object), hostKey: guest.ssh.hostKey },
      encryptedFolders: [...encrypted, "/var/lib/rancher"],
      kubernetes: {
        kubeconfig: { file: join(folder, "kubeconfig") },
        volumes: { folder: "/var/lib/rancher/volumes" },
        podRange: "10.84.0.0/20",
      },
      postgres: {
        adminUser: "admin",
        adminPassword: { file: join(folder, "password") },
        caFile: join(folder, "postgres-ca.crt"),
      },
    };
    writeFileSync(join(folder, "Pulumi.fleet.yaml"), stringify({ config }));
  }

  /** The host's stack with this release of the stand-in; tells what is served. */
  async function writeStack(
    version: string,
    sha256?: string,
    kubeconfigGeneration = 1,
  ): Promise<{ url: string; sha256: string }> {
    const served = artefacts.serve(version.replace("+", "-"), K3S.replace("@VERSION@", version));
    await writeConfig(stack.configFile, {
      "fluxbilling:fleetFile": join(folder, "Pulumi.fleet.yaml"),
      "fluxbilling:host": {
        location: GUEST,
        k3s: {
          ...{ version, ...served, kubeconfigGeneration },
          ...(sha256 === undefined ? {} : { sha256 }),
        },
        postgresql: { version: packageVersion },
      },
    });
    return served;
  }

  async function up(): ReturnType<typeof deploy> {
    return deploy(stack, facts, { onLine: (line) => void (printed += `${line}\n`) });
  }

  async function onGuest(
    script: string,
    options: { readonly stdin?: string | Uint8Array } = {},
  ): Promise<string> {
    const { exitCode, stdout, stderr } = await runOn(GUEST, ["sh", "-euc", script], options);
    if (exitCode !== 0) throw new Error(`${script}: must end well, got ${exitCode}: ${stderr}`);
    return stdout.trim();
  }

  async function output(name: string): Promise<string> {
    const { exitCode, stdout } = await runOnStack(
      ["stack", "output", name, "--show-secrets"],
      stack,
      facts,
    );
    expect(exitCode).toBe(0);
    return stdout;
  }

  async function kubectl(...args: string[]): Promise<string> {
    const file = join(folder, "kubeconfig");
    writeFileSync(file, await output("kubeconfig"), { mode: 0o600 });
    return (await run(join(BIN, "kubectl"), ["--kubeconfig", file, ...args])).stdout;
  }

  async function kubeconfigCertificate(): Promise<string | undefined> {
    return /client-certificate-data: (\S+)/.exec(await output("kubeconfig"))?.[1];
  }

  async function authority(): Promise<string> {
    return output("postgresCa");
  }

  async function client(options: pg.ClientConfig): Promise<pg.Client> {
    const made = new pg.Client({
      ...{ host: guest.address, port: 5432, database: "postgres", user: "admin", password },
      ssl: { ca: await authority(), minVersion: "TLSv1.3" },
      ...options,
    });
    await made.connect();
    return made;
  }

  /** Who is in and how, or why nobody is. */
  async function login(options: pg.ClientConfig): Promise<unknown> {
    try {
      const made = await client(options);
      const { rows } = await made.query(
        "select current_user as who, version as protocol from pg_stat_ssl where pid = pg_backend_pid()",
      );
      await made.end();
      return rows[0];
    } catch (error) {
      return (error as Error).message;
    }
  }

  /** Processes of this computer, the guest's among them, whose arguments or environment show the password. */
  function shownInProcesses(): string[] {
    return readdirSync("/proc")
      .filter((pid) => /^\d+$/.test(pid))
      .filter((pid) =>
        ["cmdline", "environ"].some((file) => {
          try {
            const text = readFileSync(`/proc/${pid}/${file}`);
            return (
              /BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}/.test(text.toString("latin1")) ||
              formsInClear(Buffer.from(password), text).length > 0
            );
          } catch {
            // It has ended meanwhile.
            return false;
          }
        }),
      );
  }
});

/** An exported property as text, whether the engine writes it as a secret with its text in JSON or plainly. */
function textOf(value: unknown): string {
  if (typeof value === "object" && value !== null && "plaintext" in value) {
    return JSON.parse(String(value.plaintext)) as string;
  }
  return String(value);
}
