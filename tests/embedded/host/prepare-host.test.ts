import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { ensureAuthority, ensureCertificate } from "../../../embedded/machines/authority.ts";
import { installHostProgram } from "../../../components/host-program.ts";
import { CLUSTER_FOLDERS } from "../../../model/encrypted-storage.ts";
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
    mkdir -p /var/lib/rancher/k3s/server/db /var/lib/rancher/k3s/server/cred
    encryption=/var/lib/rancher/k3s/server/cred/encryption-config.json
    [ -e "$encryption" ] ||
      printf '{"resources":[{"resources":["secrets"],"providers":[{"%s":{"keys":[]}},{"identity":{}}]}]}' \\
        "$(sed -n 's/^secrets-encryption-provider: //p' /etc/rancher/k3s/config.yaml)" >"$encryption"
    echo $$ >/run/k3s.ready
    exec sleep infinity ;;
  certificate)
    if kill -0 "$(cat /run/k3s.pid)" 2>/dev/null; then echo "K3s must be stopped" >&2; exit 1; fi
    echo "$2" >>/run/k3s.certificate ;;
  kubectl) [ "$(cat /run/k3s.ready)" = "$(cat /run/k3s.pid)" ] ;;
esac
`;

/** Of Debian's packages nothing can be read. */
const BROKEN_MIRROR = "echo 'deb http://127.0.0.1:1/ bookworm main' >/etc/apt/sources.list";
/** Holds apt's lists as another apt-get would, for longer than one try. */
const HOLD_LISTS = `perl -e '
  use Fcntl;
  open(my $lock, ">>", "/var/lib/apt/lists/lock") or die;
  my $whole = pack("s s x4 q q i x4", F_WRLCK, 0, 0, 0, 0);
  fcntl($lock, F_SETLK, $whole) or die;
  open(my $held, ">", "/run/lists.held") or die;
  sleep 7;'`;

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
  for (const program of ["k3s", "postgresql"] as const) {
    expect(await host.run(installHostProgram(program))).toMatchObject({ status: 0, stderr: "" });
  }
  await host.run("cat >>/etc/ssl/certs/ca-certificates.crt", server.authority);
  // Debian's mirror is nobody here: what is installed is what there is.
  await host.run("rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /var/lib/apt/lists/*");
  const { stdout: version } = await host.run("dpkg-query -W -f '${Version}' postgresql-15");
  const { url, sha256 } = server.serve("k3s-5", k3s("v1.33.5+k3s1"));
  plan = {
    address: ADDRESS,
    folders: CLUSTER_FOLDERS,
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
        "find /usr/local/bin /etc/rancher /var/lib/rancher /etc/systemd/system/k3s.service -type f ! -name systemctl -newer /run 2>/dev/null",
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

  it.each(["k3s", "k3s-agent"])(
    "refuses a host on which another has installed K3s: %s",
    async (name) => {
      const unit = `/etc/systemd/system/${name}.service`;
      await host.run(`echo '[Unit]' >${unit}`);
      const refused = await install();
      await host.run(`rm ${unit}`);
      expect(refused.stderr).toBe(
        `Host: this host must be bare or prepared by FluxBilling, got "${unit}" of another K3s. Adopt that one as it is, by docs/runbooks/own-clusters.md, or take it away with its own k3s-uninstall.sh.\n`,
      );
    },
  );

  it("refuses an address that the host does not have", async () => {
    const refused = await host.run(k3sCommand({ ...plan, address: "203.0.113.9" }));
    expect(refused.stderr).toMatch(
      /^Host: one of this host's own addresses must be 203\.0\.113\.9, got 127\.0\.0\.1 [^\n]+\. Correct the location's address, or give this host that address\.\n$/,
    );
  });

  it("refuses a disk that a reboot would leave away, until /etc/fstab has it", async () => {
    await host.run("mkdir -p /var/lib/rancher && mount -t tmpfs tmpfs /var/lib/rancher");
    const digest = `sha256:${"0".repeat(64)}`;
    const refused = await install({ digest });
    await host.run("echo 'tmpfs /var/lib/rancher tmpfs defaults 0 0' >>/etc/fstab");
    const known = await install({ digest });
    await host.run("umount /var/lib/rancher; sed -i '$d' /etc/fstab");
    expect(refused.stderr).toBe(
      'Host: what is mounted at "/var/lib/rancher" must be in /etc/fstab, got no line for it. Write it there, and its disk into /etc/crypttab, so that nothing starts in an empty folder after a reboot.\n',
    );
    expect(known.stderr).toMatch(/ must be sha256:0+, got /);
  });

  it("tells why Debian does not give what is missing", async () => {
    await host.run(`mv /usr/bin/curl /usr/bin/curl.away; ${BROKEN_MIRROR}`);
    const refused = await install();
    await host.run("mv /usr/bin/curl.away /usr/bin/curl; rm /etc/apt/sources.list");
    expect(refused.stderr).toMatch(
      /^Host: curl must be there or come from Debian, got E: .*failed to download.* Let this host reach its mirror, or install curl and ca-certificates\.\n$/,
    );
  });

  it("converges after having been killed while it fetched", async () => {
    server.hold(true);
    const before = server.asked.length;
    const cut = host.start(k3sCommand(plan));
    await until("the fetch", 10_000, () => Promise.resolve(server.asked.length > before));
    await host.run("fuser --kill -KILL /run/lock/fluxbilling-k3s");
    if (cut.exitCode === null && cut.signalCode === null) await once(cut, "exit");
    server.hold(false);
    expect(await install()).toEqual({ status: 0, stdout: "", stderr: "" });
    expect(await installed()).toBe(`${plan.k3s.digest.slice("sha256:".length)}`);
  });

  it("waits at boot for every folder with data and for what K3s writes to", async () => {
    expect(
      (await host.run("grep ^RequiresMountsFor= /etc/systemd/system/k3s.service")).stdout,
    ).toBe(
      `RequiresMountsFor=${[...CLUSTER_FOLDERS, "/var/lib/rancher/k3s", "/var/lib/rancher/volumes"].toSorted().join(" ")}\n`,
    );
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

  it("takes another range while no cluster was ever ready, and keeps nothing of that one", async () => {
    await host.run(
      "rm /usr/local/lib/fluxbilling/k3s.settled; touch /var/lib/rancher/k3s/server/db/of-the-first",
    );
    plan = { ...plan, cluster: { ...plan.cluster, podRange: "10.99.0.0/16" } };
    expect((await install()).stderr).toBe("");
    expect((await host.run("ls /var/lib/rancher/k3s/server/db")).stdout).toBe("");
    expect((await host.run("grep ^cluster-cidr /etc/rancher/k3s/config.yaml")).stdout).toBe(
      "cluster-cidr: 10.99.0.0/16\n",
    );
  });

  it("makes no new cluster where the disk of one is not there", async () => {
    const process = await pid();
    await host.run("mv /var/lib/rancher/k3s/server/db /root/db");
    const refused = await install();
    await host.run("mv /root/db /var/lib/rancher/k3s/server/db");
    expect(refused.stderr).toBe(
      "Host: the cluster must lie in /var/lib/rancher/k3s/server/db, where it was started last, got no such folder. Open its disk and mount it, or remove /usr/local/lib/fluxbilling/k3s.settled where the cluster is meant to be gone.\n",
    );
    expect(await pid()).toBe(process);
  });

  it("refuses a K3s that encrypts Secrets otherwise than it was told to", async () => {
    const file = "/var/lib/rancher/k3s/server/cred/encryption-config.json";
    await host.run(`sed -i s/secretbox/aescbc/ ${file}`);
    const running = await install();
    await host.run("rm /usr/local/lib/fluxbilling/k3s.settled");
    const started = await install();
    await host.run(`sed -i s/aescbc/secretbox/ ${file}`);
    expect(started).toEqual(running);
    expect(running.stderr).toBe(
      'Host: K3s must encrypt Secrets by "secretbox", got "aescbc". See docs/runbooks/prepare-host.md, "It refuses".\n',
    );
    expect((await install()).stderr).toBe("");
  });

  it("renews K3s's certificates where the generation is raised, with K3s stopped, and else never", async () => {
    expect((await host.run("ls /run/k3s.certificate")).status).not.toBe(0);
    const process = await pid();
    plan = { ...plan, k3s: { ...plan.k3s, kubeconfigGeneration: 2 } };
    expect((await install()).stderr).toBe("");
    expect(await pid()).not.toBe(process);
    expect((await install()).stderr).toBe("");
    expect((await host.run("cat /run/k3s.certificate")).stdout).toBe("rotate\n");
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

  it("refuses a cluster of somebody else's whose data lie elsewhere, before anything is installed", async () => {
    await host.run(
      "mkdir -p /etc/postgresql/14/other && echo \"data_directory = '/srv/data'\" >/etc/postgresql/14/other/postgresql.conf",
    );
    const refused = await install();
    await host.run("rm -r /etc/postgresql/14");
    expect(refused.stderr).toBe(
      'Host: this host must be bare or prepared by FluxBilling, got "/etc/postgresql/14/other/postgresql.conf" of another cluster. Adopt that one by docs/runbooks/own-clusters.md, or drop it with pg_dropcluster.\n',
    );
    expect(
      (await host.run("ls /etc/postgresql-common/createcluster.d/fluxbilling.conf")).status,
    ).not.toBe(0);
  });

  it("refuses an address that the host does not have", async () => {
    const refused = await host.run(
      postgresqlCommand({ ...plan, address: "203.0.113.9" }),
      secrets(),
    );
    expect(refused.stderr).toMatch(
      /^Host: one of this host's own addresses must be 203\.0\.113\.9, got 127\.0\.0\.1 /,
    );
  });

  it("refuses a mirror that cannot be read, of which apt alone would only warn", async () => {
    await host.run(BROKEN_MIRROR);
    const refused = await install(secrets(), { version: "15.1-0+deb12u9" });
    await host.run("rm /etc/apt/sources.list");
    expect(refused.stderr).toMatch(
      /^Host: Debian's lists of packages must be read, got E: .*failed to download.* Let this host reach its mirror\.\n$/,
    );
  });

  it("refuses a version that Debian does not have, before a server is made, however long the lists are held", async () => {
    const holds = host.start(HOLD_LISTS);
    await until(
      "the lists to be held",
      10_000,
      async () => (await host.run("ls /run/lists.held")).status === 0,
    );
    const refused = await install(secrets(), { version: "15.1-0+deb12u9" });
    if (holds.exitCode === null && holds.signalCode === null) await once(holds, "exit");
    expect(refused.stderr).toBe(
      "Host: postgresql-15 must be installed in version 15.1-0+deb12u9, got E: Version '15.1-0+deb12u9' for 'postgresql-15' was not found. Set fluxbilling:host.postgresql.version to one that apt-cache madison postgresql-15 shows.\n",
    );
    expect((await host.run("ls /var/lib/postgresql")).stdout).toBe("");
  });

  it("converges after having been killed while it made the cluster", async () => {
    const cut = host.start(postgresqlCommand(plan), secrets());
    await until("initdb", 20_000, async () => (await host.run("pgrep initdb")).stdout !== "");
    // Whoever holds the run's lock, initdb among them.
    await host.run("fuser --kill -KILL /run/lock/fluxbilling-postgresql");
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
      'grep -rlF --devices=skip "$(cat)" /etc /var/lib/postgresql /var/log /run /usr/local/lib/fluxbilling',
      PASSWORD,
    );
    // It has looked everywhere, and found nothing: another status tells of what it could not read.
    expect(found).toEqual({ status: 1, stdout: "", stderr: "" });
  });

  it("changes nothing and starts nothing when it is run again", async () => {
    const process = await pid();
    expect((await install()).stderr).toBe("");
    expect(await pid()).toBe(process);
  });

  it("lets the administrator in by its name, which no word of pg_hba.conf can be taken for", async () => {
    expect(
      (await host.run("grep scram /etc/postgresql/15/main/pg_hba.conf | head -n 1")).stdout,
    ).toBe('hostssl all      "admin"   all      scram-sha-256\n');
  });

  it("waits at boot for every folder with data, and is started again after a crash", async () => {
    const { stdout } = await host.run(
      "tail -n +2 /etc/systemd/system/postgresql@15-main.service.d/fluxbilling.conf",
    );
    expect(stdout).toBe(`[Unit]
Wants=network-online.target
After=network-online.target
RequiresMountsFor=${[...CLUSTER_FOLDERS, "/var/lib/postgresql/15/main"].toSorted().join(" ")}

[Service]
Restart=on-failure
RestartSec=5s
TasksMax=infinity
`);
  });

  it("refuses a server that goes by other settings, and takes it once they are gone", async () => {
    const alter = (what: string): Promise<HostRun> =>
      host.run(
        `runuser -u postgres -- psql -Xqp ${plan.postgresql.port} -c "alter system ${what}"`,
      );
    expect((await alter("set password_encryption = 'md5'")).stderr).toBe("");
    expect((await install()).stderr).toBe(
      "Host: password_encryption of the running PostgreSQL must be scram-sha-256, got md5. Take it out of /etc/postgresql/15/main/conf.d and, by ALTER SYSTEM RESET password_encryption, out of /var/lib/postgresql/15/main/postgresql.auto.conf, then have this program run again: docs/runbooks/prepare-host.md.\n",
    );
    await alter("reset password_encryption");
    expect((await install()).stderr).toBe("");
    await host.run(
      "echo \"ssl_min_protocol_version = 'TLSv1.2'\" >/etc/postgresql/15/main/conf.d/zz.conf && chmod 0644 /etc/postgresql/15/main/conf.d/zz.conf",
    );
    expect((await install()).stderr).toMatch(
      /^Host: ssl_min_protocol_version of the running PostgreSQL must be TLSv1\.3, got TLSv1\.2\. /,
    );
    await host.run("rm /etc/postgresql/15/main/conf.d/zz.conf");
    expect((await install()).stderr).toBe("");
  });

  it("makes no new cluster where the disk of one is not there", async () => {
    await host.run("mv /var/lib/postgresql/15/main /var/lib/postgresql/away");
    const refused = await install();
    await host.run("mv /var/lib/postgresql/away /var/lib/postgresql/15/main");
    expect(refused.stderr).toBe(
      "Host: the databases must lie in /var/lib/postgresql/15/main, where they were started last, got no such folder. Open their disk and mount it, or remove /usr/local/lib/fluxbilling/postgresql.settled where they are meant to be gone.\n",
    );
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
