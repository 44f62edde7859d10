import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { ensureAuthority, ensureCertificate } from "../../../embedded/machines/authority.ts";
import { k3sCommand, kubeconfigCommand, postgresqlCommand } from "../../../model/prepared-host.ts";
import type { HostPlan } from "../../../model/prepared-host.ts";
import { scramSalt, scramVerifier } from "../../../model/scram.ts";
import { startArtefactServer } from "../../support/artefact-server.ts";
import type { ArtefactServer } from "../../support/artefact-server.ts";
import { bareHost } from "../../support/bare-host.ts";
import type { BareHost, HostRun } from "../../support/bare-host.ts";
import { until } from "../../support/platform.ts";
import { freePort } from "../../support/sshd.ts";

const ADDRESS = "127.0.0.1";
const PASSWORD = "a password that never reaches the host";

/** Stands in for K3s: knows its version, and is ready once it has written what K3s writes. */
const k3s = (version: string): string => `#!/bin/sh
# ${version}
case "$1" in
  --version) echo "k3s version ${version} (stand-in)" ;;
  server)
    umask 077
    printf 'clusters:\\n- cluster:\\n    server: https://127.0.0.1:6443\\n' >/etc/rancher/k3s/k3s.yaml
    mkdir -p /var/lib/rancher/k3s/server/db
    exec sleep infinity ;;
  kubectl) [ -e /etc/rancher/k3s/k3s.yaml ] ;;
esac
`;

let host: BareHost;
let server: ArtefactServer;
let plan: HostPlan;
/** The authority's certificate, and what the server is given. */
let trusted: string;
let pems: string;

beforeAll(async () => {
  [host, server] = await Promise.all([bareHost(), startArtefactServer(ADDRESS)]);
  const folder = mkdtempSync(join(tmpdir(), "postgresql-"));
  const pair = (name: string) => ({
    certificateFile: join(folder, `${name}.crt`),
    keyFile: join(folder, `${name}.key`),
  });
  await ensureAuthority(pair("ca"), "Authority of a test");
  await ensureCertificate(pair("ca"), pair("server"), {
    ...{ commonName: "PostgreSQL of a test", usage: "server", addresses: [ADDRESS] },
  });
  trusted = readFileSync(pair("ca").certificateFile, "utf8");
  pems =
    readFileSync(pair("server").certificateFile, "utf8") +
    readFileSync(pair("server").keyFile, "utf8");
  rmSync(folder, { recursive: true });
  for (const program of ["k3s", "postgresql"]) {
    const path = join(import.meta.dirname, "../../../components/host", `${program}.sh`);
    await host.run(
      `install -d /usr/local/lib/fluxbilling
cat >/usr/local/lib/fluxbilling/${program} && chmod 0755 /usr/local/lib/fluxbilling/${program}`,
      readFileSync(path, "utf8"),
    );
  }
  await host.run("cat >>/etc/ssl/certs/ca-certificates.crt", server.authority);
  // Debian's mirror is nobody here: what is installed is what there is.
  await host.run("rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /var/lib/apt/lists/*");
  const { stdout: version } = await host.run("dpkg-query -W -f '${Version}' postgresql-15");
  const { url, sha256 } = server.serve("k3s-5", k3s("v1.33.5+k3s1"));
  plan = {
    address: ADDRESS,
    folders: ["/var/lib/rancher", "/var/lib/postgresql"],
    k3s: { version: "v1.33.5+k3s1", url, digest: `sha256:${sha256}`, kubeconfigGeneration: 1 },
    cluster: { apiPort: 6443, podRange: "10.42.0.0/16", volumesFolder: "/var/lib/rancher/volumes" },
    postgresql: { version, port: await freePort(), adminUser: "admin", maxConnections: 50 },
  };
});

afterAll(async () => {
  await Promise.all([host.remove(), server.stop()]);
});

describe("k3s.sh", () => {
  const install = (k3s: Partial<HostPlan["k3s"]> = {}): Promise<HostRun> =>
    host.run(k3sCommand({ ...plan, k3s: { ...plan.k3s, ...k3s } }));
  const files = async (): Promise<string> =>
    (
      await host.run(
        "find /usr/local/bin /etc/rancher /var/lib/rancher /etc/systemd/system/k3s.service -type f ! -name systemctl -newer /run 2>/dev/null || true",
      )
    ).stdout;

  it("refuses a file of another checksum in one sentence, and leaves nothing of it", async () => {
    const digest = `sha256:${"0".repeat(64)}`;
    expect(await install({ digest })).toEqual({
      status: 1,
      stdout: "",
      stderr: `Host: "${plan.k3s.url}" must be ${digest}, got ${plan.k3s.digest}. Nothing was installed: compare both with what the release itself tells.\n`,
    });
    expect(await files()).toBe("");
  });

  it("refuses a release that calls itself otherwise", async () => {
    const refused = await install({ version: "v1.33.6+k3s1" });
    expect([refused.status, refused.stderr]).toEqual([
      1,
      `Host: "${plan.k3s.url}" must be K3s v1.33.6+k3s1, got v1.33.5+k3s1. Correct fluxbilling:host.k3s.\n`,
    ]);
    expect(await files()).toBe("");
  });

  it("says what keeps a file from being fetched", async () => {
    const url = plan.k3s.url.replace("k3s-5", "gone");
    expect((await install({ url })).stderr).toMatch(
      /^Host: "\S+\/gone" must be fetched over TLS, got curl: \(22\) The requested URL returned error: 404\. Correct its address, or let this host reach it\.\n$/,
    );
  });

  it("refuses a host that does not run systemd", async () => {
    await host.run("mv /run/systemd/system /run/systemd/away");
    const refused = await install();
    await host.run("mv /run/systemd/away /run/systemd/system");
    expect(refused.stderr).toBe(
      "Host: this host must run systemd, got none. Use Debian 12 as it is installed, or adopt a K3s that runs: docs/runbooks/own-clusters.md.\n",
    );
  });

  it("refuses a host on which another has installed K3s", async () => {
    await host.run("echo '[Unit]' >/etc/systemd/system/k3s.service");
    const refused = await install();
    await host.run("rm /etc/systemd/system/k3s.service");
    expect(refused.stderr).toMatch(
      /^Host: this host must be bare or prepared by FluxBilling, got /,
    );
  });

  it("converges after having been killed while it fetched", async () => {
    server.hold(true);
    const before = server.asked.length;
    const cut = host.start(k3sCommand(plan));
    await until("the fetch", 10_000, () => Promise.resolve(server.asked.length > before));
    await host.run("fuser --kill -KILL /run/lock/fluxbilling-k3s || true");
    if (cut.exitCode === null && cut.signalCode === null) await once(cut, "exit");
    server.hold(false);
    expect(await install()).toEqual({ status: 0, stdout: "", stderr: "" });
    expect(await installed()).toBe(`${plan.k3s.digest.slice("sha256:".length)}`);
  });

  it("has set what own-clusters.md asks for, before K3s was first started", async () => {
    const { stdout } = await host.run("tail -n +2 /etc/rancher/k3s/config.yaml");
    expect(stdout).toBe(`node-ip: 127.0.0.1
tls-san:
  - 127.0.0.1
https-listen-port: 6443
cluster-cidr: 10.42.0.0/16
flannel-backend: wireguard-native
secrets-encryption: true
secrets-encryption-provider: secretbox
default-local-storage-path: /var/lib/rancher/volumes
write-kubeconfig-mode: "0600"
kube-apiserver-arg:
  - tls-min-version=VersionTLS13
kubelet-arg:
  - tls-min-version=VersionTLS13
`);
    const modes = await host.run(
      "stat -c '%a %n' /etc/rancher/k3s/config.yaml /usr/local/bin/k3s /etc/systemd/system/k3s.service",
    );
    expect(modes.stdout).toBe(
      "600 /etc/rancher/k3s/config.yaml\n755 /usr/local/bin/k3s\n644 /etc/systemd/system/k3s.service\n",
    );
  });

  it("changes nothing and starts nothing when it is run again", async () => {
    const asked = server.asked.length;
    const process = await pid();
    expect((await install()).status).toBe(0);
    expect([server.asked.length, await pid()]).toEqual([asked, process]);
  });

  it("starts again what was cut off between a change and its start", async () => {
    const process = await pid();
    await host.run("rm /usr/local/lib/fluxbilling/k3s.settled");
    expect((await install()).status).toBe(0);
    expect(await pid()).not.toBe(process);
  });

  it("takes a later release, and does not go back", async () => {
    const { url, sha256 } = server.serve("k3s-10", k3s("v1.33.10+k3s1"));
    const later = { version: "v1.33.10+k3s1", url, digest: `sha256:${sha256}` };
    const process = await pid();
    expect((await install(later)).stderr).toBe("");
    expect(await installed()).toBe(sha256);
    expect(await pid()).not.toBe(process);
    expect((await install()).stderr).toBe(
      "Host: the version must not be below v1.33.10+k3s1, which runs here, got v1.33.5+k3s1. Set fluxbilling:host.k3s to that release or a later one: Kubernetes does not go back.\n",
    );
    plan = { ...plan, k3s: { ...plan.k3s, ...later } };
  });

  it("keeps a cluster's addresses of pods", async () => {
    const cluster = { ...plan.cluster, podRange: "10.99.0.0/16" };
    expect((await host.run(k3sCommand({ ...plan, cluster }))).stderr).toBe(
      "Host: the addresses of pods must stay 10.42.0.0/16, got 10.99.0.0/16. Set kubernetes.podRange of the location back: a cluster keeps its range for life.\n",
    );
  });

  it("brings images beside K3s, and takes those away that are named no more", async () => {
    const archive = server.serve("images.tar.zst", "images");
    const images = { url: archive.url, digest: `sha256:${archive.sha256}` };
    const list = "ls /var/lib/rancher/k3s/agent/images";
    expect((await install({ images })).stderr).toBe("");
    expect((await host.run(list)).stdout).toBe("fluxbilling-images.tar.zst\n");
    expect((await install()).stderr).toBe("");
    expect((await host.run(list)).stdout).toBe("");
  });

  it("tells the kubeconfig with the host's own address in it", async () => {
    const address = "198.51.100.41";
    expect(await host.run(kubeconfigCommand({ ...plan, address }))).toEqual({
      status: 0,
      stdout: "clusters:\n- cluster:\n    server: https://198.51.100.41:6443\n",
      stderr: "",
    });
  });

  const pid = async (): Promise<string> => (await host.run("cat /run/k3s.pid")).stdout;
  const installed = async (): Promise<string> =>
    (await host.run("sha256sum /usr/local/bin/k3s | cut -d ' ' -f 1")).stdout.trim();
});

describe("postgresql.sh", () => {
  const secrets = (password = PASSWORD): string =>
    `${scramVerifier(password, scramSalt("admin"))}\n${pems}`;
  const install = (
    stdin = secrets(),
    changed: Partial<HostPlan["postgresql"]> = {},
  ): Promise<HostRun> =>
    host.run(postgresqlCommand({ ...plan, postgresql: { ...plan.postgresql, ...changed } }), stdin);
  /** What an answer to a login is: the row, or why there is none. */
  const login = async (options: pg.ClientConfig): Promise<unknown> => {
    const client = new pg.Client({
      ...{ host: ADDRESS, port: plan.postgresql.port, database: "postgres", user: "admin" },
      ...{ password: PASSWORD, ssl: { ca: trusted, minVersion: "TLSv1.3" } },
      ...options,
    });
    try {
      await client.connect();
      const { rows } = await client.query(
        "select current_user as who, version from pg_stat_ssl where pid = pg_backend_pid()",
      );
      return rows[0];
    } catch (error) {
      return (error as Error).message;
    } finally {
      await client.end();
    }
  };
  const pid = async (): Promise<string> =>
    (await host.run("head -n 1 /var/lib/postgresql/15/main/postmaster.pid")).stdout;

  it("refuses a password in place of its verifier, and does not repeat it", async () => {
    const refused = await install(`${PASSWORD}\n${pems}`);
    expect(refused).toEqual({
      status: 1,
      stdout: "",
      stderr:
        "Host: the first line of its input must be a SCRAM verifier, got something else. Deploy the host's stack, which gives it.\n",
    });
    expect((await host.run("ls /etc/postgresql")).stdout).toBe("");
  });

  it("refuses a version that Debian does not have, before a server is made", async () => {
    const refused = await install(secrets(), { version: "15.1-0+deb12u9" });
    expect(refused.stderr).toBe(
      "Host: postgresql-15 must be installed in version 15.1-0+deb12u9, got E: Version '15.1-0+deb12u9' for 'postgresql-15' was not found. Set fluxbilling:host.postgresql.version to one that apt-cache madison postgresql-15 shows.\n",
    );
    expect((await host.run("ls /var/lib/postgresql")).stdout).toBe("");
  });

  it("converges after having been killed while it made the cluster", async () => {
    const cut = host.start(postgresqlCommand(plan), secrets());
    await until(
      "initdb",
      20_000,
      async () => (await host.run("pgrep initdb || true")).stdout !== "",
    );
    await host.run(
      "fuser --kill -KILL /run/lock/fluxbilling-postgresql || true; pkill -KILL initdb || true",
    );
    if (cut.exitCode === null && cut.signalCode === null) await once(cut, "exit");
    // Half a cluster, or what initdb has taken back of it: never a whole one.
    expect(["", "main.new\n"]).toContain((await host.run("ls /var/lib/postgresql/15")).stdout);
    expect(await install()).toEqual({ status: 0, stdout: "", stderr: "" });
    expect((await host.run("ls /var/lib/postgresql/15")).stdout).toBe("main\n");
    expect((await host.run("apt-mark showhold")).stdout).toContain("postgresql-15\n");
  });

  it("lets the administrator in over TLS 1.3 and by the password, and nobody else", async () => {
    expect(await login({})).toEqual({ who: "admin", version: "TLSv1.3" });
    expect(await login({ password: "another" })).toBe(
      'password authentication failed for user "admin"',
    );
    expect(await login({ ssl: { ca: trusted, maxVersion: "TLSv1.2" } })).toMatch(
      /protocol version/,
    );
    expect(await login({ ssl: false })).toMatch(
      /^pg_hba\.conf rejects connection .* no encryption$/,
    );
    expect(await login({ user: "postgres" })).toBe(
      'password authentication failed for user "postgres"',
    );
  });

  it("keeps the key and the rules from others, and the password out of every file", async () => {
    const modes = await host.run(
      "cd /etc/postgresql/15/main && stat -c '%a %U %n' server.key pg_hba.conf",
    );
    expect(modes.stdout).toBe("600 postgres server.key\n640 postgres pg_hba.conf\n");
    const found = await host.run(
      'grep -rlF "$(cat)" /etc /var/lib/postgresql /var/log /run /usr/local/lib/fluxbilling || true',
      PASSWORD,
    );
    expect(found.stdout).toBe("");
  });

  it("changes nothing and starts nothing when it is run again", async () => {
    const process = await pid();
    expect((await install()).stderr).toBe("");
    expect(await pid()).toBe(process);
  });

  it("takes a new password without a start, and a new setting with one", async () => {
    const process = await pid();
    expect((await install(secrets("a second password"))).stderr).toBe("");
    expect(await login({ password: "a second password" })).toMatchObject({ who: "admin" });
    expect(await pid()).toBe(process);
    expect((await install(secrets(), { maxConnections: 60 })).stderr).toBe("");
    expect(await pid()).not.toBe(process);
    expect(await login({})).toMatchObject({ who: "admin" });
  });

  it("refuses another major version, and a cluster that it has not made", async () => {
    expect((await install(secrets(), { version: "16.1-1" })).stderr).toBe(
      'Host: this host must hold no cluster but /var/lib/postgresql/16/main, got "/var/lib/postgresql/15/main". Keep the major version that it has, move its data by pg_upgradecluster, or drop it with pg_dropcluster.\n',
    );
    await host.run("sed -i 1d /etc/postgresql/15/main/postgresql.conf");
    expect((await install()).stderr).toBe(
      'Host: this host must be bare or prepared by FluxBilling, got another cluster in "/var/lib/postgresql/15/main". Adopt that one by docs/runbooks/own-clusters.md, or drop it with pg_dropcluster.\n',
    );
  });
});
