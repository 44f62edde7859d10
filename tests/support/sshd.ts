/** A real sshd on a free loopback port, with its own keys and configuration in a temporary folder. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

const run = promisify(execFile);
const START_TIMEOUT_MS = 10_000;

export interface Sshd {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  /** The line to pin: of the second of the host's two keys. */
  readonly hostKey: string;
  /** What its user signs in with. */
  readonly privateKey: string;
  /** Where file transfers start, and where tests may write. */
  readonly folder: string;
  log(): Promise<string>;
  stop(): Promise<void>;
}

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

/** A key pair in files of OpenSSH's own making: one in 256 that ssh2 makes is one that OpenSSH cannot read. */
async function generateKey(
  file: string,
  type: "ecdsa" | "ed25519",
): Promise<{ readonly private: string; readonly public: string }> {
  await run("ssh-keygen", ["-q", "-t", type, "-N", "", "-C", "", "-f", file]);
  return {
    private: await readFile(file, "utf8"),
    public: (await readFile(`${file}.pub`, "utf8")).trim(),
  };
}

async function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("data", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
    socket.once("close", () => resolve(false));
  });
}

/**
 * Starts the Debian package's sshd as root, in a mount namespace of its own: it insists on a folder in /run.
 *
 * @param acceptEnv names of variables that clients may set.
 */
export async function startSshd(acceptEnv: readonly string[] = []): Promise<Sshd> {
  const folder = await mkdtemp(join(tmpdir(), "embedded-sshd-"));
  const port = await freePort();
  const [, second, client] = await Promise.all([
    generateKey(join(folder, "host_first"), "ecdsa"),
    generateKey(join(folder, "host_second"), "ed25519"),
    generateKey(join(folder, "client"), "ed25519"),
  ]);
  const write = (name: string, text: string) =>
    writeFile(join(folder, name), `${text.trimEnd()}\n`, { mode: 0o600 });
  await write("authorized_keys", client.public);
  await write(
    "sshd_config",
    [
      `ListenAddress 127.0.0.1:${port}`,
      `HostKey ${join(folder, "host_first")}`,
      `HostKey ${join(folder, "host_second")}`,
      `AuthorizedKeysFile ${join(folder, "authorized_keys")}`,
      `PidFile ${join(folder, "pid")}`,
      "PermitRootLogin prohibit-password",
      "PasswordAuthentication no",
      "StrictModes no",
      "UsePAM no",
      "MaxStartups 100",
      `Subsystem sftp internal-sftp -d ${folder}`,
      ...acceptEnv.map((name) => `AcceptEnv ${name}`),
    ].join("\n"),
  );
  const process = spawn(
    "unshare",
    [
      "--mount",
      "sh",
      "-c",
      'mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && exec /usr/sbin/sshd -D -E "$1/log" -f "$1/sshd_config"',
      "sh",
      folder,
    ],
    { stdio: "ignore" },
  );
  const log = () => readFile(join(folder, "log"), "utf8").catch(() => "");
  const stop = async () => {
    if (process.exitCode === null && process.signalCode === null) {
      const ended = once(process, "exit");
      process.kill("SIGTERM");
      await ended;
    }
    await rm(folder, { recursive: true, force: true });
  };
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (!(await answers(port))) {
    if (process.exitCode !== null || Date.now() > deadline) {
      const said = await log();
      await stop();
      throw new Error(`sshd: must answer on port ${port}, got nothing. It said: ${said}`);
    }
    await sleep(20);
  }
  return {
    host: "127.0.0.1",
    port,
    user: "root",
    hostKey: second.public,
    privateKey: client.private,
    folder,
    log,
    stop,
  };
}
