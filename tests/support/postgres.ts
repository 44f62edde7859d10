/** A real PostgreSQL server on a free loopback port: TLS, SCRAM, its data in a temporary folder. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, chown, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import pg from "pg";
import { freePort } from "./sshd.ts";

const BINARIES = "/usr/lib/postgresql/15/bin";
const START_TIMEOUT_MS = 30_000;
const run = promisify(execFile);

export interface Postgres {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  /** Path of the certificate that signed the server's, which is for 127.0.0.1. */
  readonly certificate: string;
  /** Rows of one statement, as the superuser. */
  query(statement: string, database?: string): Promise<{ [column: string]: unknown }[]>;
  /** Tries to sign in over TLS, and runs one statement. */
  signIn(user: string, password: string, database: string, statement?: string): Promise<string>;
  /** The server's log. */
  log(): string;
  stop(): Promise<void>;
}

async function id(flag: "-u" | "-g"): Promise<number> {
  const { stdout } = await run("id", [flag, "postgres"]);
  return Number(stdout);
}

async function writeCertificate(folder: string): Promise<void> {
  await run("openssl", [
    ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"],
    ...["-subj", "/CN=test server", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "1"],
    ...["-keyout", join(folder, "server.key"), "-out", join(folder, "server.crt")],
  ]);
}

/** Starts the Debian package's server as the user postgres; needs root. */
export async function startPostgres(): Promise<Postgres> {
  const folder = await mkdtemp(join(tmpdir(), "embedded-postgres-"));
  const data = join(folder, "data");
  const password = "admin-password";
  const [uid, gid] = await Promise.all([id("-u"), id("-g")]);
  await writeFile(join(folder, "password"), password);
  await writeCertificate(folder);
  for (const path of ["", "password", "server.crt", "server.key"]) {
    await chown(join(folder, path), uid, gid);
  }
  await chmod(join(folder, "server.key"), 0o600);
  // Readable for the test's own user, who is not the server's.
  await chmod(folder, 0o755);
  await run(
    join(BINARIES, "initdb"),
    [
      ...["-D", data, "-U", "postgres", "--auth=scram-sha-256", "--no-sync", "--no-locale"],
      ...["-E", "UTF8", `--pwfile=${join(folder, "password")}`],
    ],
    { uid, gid },
  );
  const port = await freePort();
  const settings = {
    listen_addresses: "127.0.0.1",
    port: String(port),
    unix_socket_directories: folder,
    ssl: "on",
    ssl_min_protocol_version: "TLSv1.3",
    ssl_cert_file: join(folder, "server.crt"),
    ssl_key_file: join(folder, "server.key"),
    log_statement: "all",
    fsync: "off",
  };
  const server = spawn(
    join(BINARIES, "postgres"),
    ["-D", data, ...Object.entries(settings).flatMap(([key, value]) => ["-c", `${key}=${value}`])],
    { uid, gid, stdio: ["ignore", "ignore", "pipe"] },
  );
  let said = "";
  server.stderr.on("data", (chunk: Buffer) => (said += chunk.toString("utf8")));

  const certificate = join(folder, "server.crt");
  const connected = async <T>(
    user: string,
    secret: string,
    database: string,
    work: (client: pg.Client) => Promise<T>,
  ): Promise<T> => {
    const ca = await readFile(certificate, "utf8");
    const ssl = { ca, host: "127.0.0.1" };
    const client = new pg.Client({
      ...{ host: "127.0.0.1", port, user, password: secret, database, ssl },
    });
    await client.connect();
    try {
      return await work(client);
    } finally {
      await client.end();
    }
  };
  const query = async (statement: string, database = "postgres") =>
    connected("postgres", password, database, async (client) => {
      const { rows } = await client.query(statement);
      return rows as { [column: string]: unknown }[];
    });
  const stop = async () => {
    if (server.exitCode === null && server.signalCode === null) {
      const ended = once(server, "exit");
      server.kill("SIGINT");
      await ended;
    }
    await rm(folder, { recursive: true, force: true });
  };

  const deadline = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    try {
      await query("SELECT 1");
      break;
    } catch (error) {
      if (server.exitCode !== null || Date.now() > deadline) {
        await stop();
        throw new Error(`postgres: must answer on port ${port}, got nothing. It said: ${said}`, {
          cause: error,
        });
      }
      await sleep(50);
    }
  }
  return {
    host: "127.0.0.1",
    port,
    user: "postgres",
    password,
    certificate,
    query,
    signIn: async (user, secret, database, statement = "SELECT 1") =>
      connected(user, secret, database, async (client) => {
        await client.query(statement);
        return "signed in";
      }).catch((error: unknown) => (error instanceof Error ? error.message : String(error))),
    log: () => said,
    stop,
  };
}
