import { createHmac, createHash, pbkdf2Sync, randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { chmod, chown, copyFile, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ensureCertificate } from "./authority.ts";
import type { KeyPair } from "./authority.ts";
import { mustRun } from "./command.ts";
import { dataFolder } from "./disk.ts";
import { CACHE, DOMAIN, LAN_CIDR } from "./layout.ts";
import type { MachinePlan } from "./layout.ts";
import { MachineError } from "./machine-error.ts";
import { writeSettings } from "./settings-file.ts";
import type { Service } from "./service.ts";

/** Debian 12's PostgreSQL. */
const VERSION = "15";
export const POSTGRES_PROGRAMS = `/usr/lib/postgresql/${VERSION}/bin`;
export const POSTGRES_PORT = 5432;
/** The superuser that may come from the LAN. */
export const ADMIN_USER = "admin";
/** Database and role of the cluster's datastore; only root of the machine itself gets in. */
export const DATASTORE = "kine";

/** A data folder fresh from initdb, copied to each machine: initdb takes longer than all else. */
const TEMPLATE = join(CACHE, `postgresql-template-${VERSION}-2`);

const CLIENT_RULES = `# Made when the machine was made; later lines may be changed by whoever runs the machine.
# Root of the machine itself needs no password.
local   all         postgres                    peer map=machine
local   all         ${ADMIN_USER}                       peer map=machine
local   ${DATASTORE}        ${DATASTORE}                        peer map=machine
# Everybody else comes over TLS 1.3 and proves a SCRAM password.
hostssl all         ${ADMIN_USER}     ${LAN_CIDR}      scram-sha-256
hostssl all         ${ADMIN_USER}     127.0.0.1/32      scram-sha-256
host    ${DATASTORE}        all       all               reject
hostssl samerole    all       all               scram-sha-256
host    all         all       all               reject
`;

const ROOT_MAY_BE = ["postgres", ADMIN_USER, DATASTORE];

function settings(machine: MachinePlan): string {
  return `listen_addresses = '${machine.address}, 127.0.0.1'
port = ${String(POSTGRES_PORT)}
max_connections = 300
unix_socket_directories = '/var/run/postgresql'
ssl = on
ssl_cert_file = '/etc/postgresql/${VERSION}/main/server.crt'
ssl_key_file = '/etc/postgresql/${VERSION}/main/server.key'
ssl_min_protocol_version = 'TLSv1.3'
password_encryption = 'scram-sha-256'
# A failing statement may hold a password: it is not written to the log.
log_min_error_statement = panic
shared_buffers = 64MB
min_wal_size = 64MB
max_wal_size = 512MB
jit = off
# A machine here loses power only together with the computer it runs on; a write that has reached
# that computer's page cache outlives everything that can happen to the machine itself.
fsync = off
full_page_writes = off
`;
}

/** What a machine's PostgreSQL needs. */
export interface PreparedPostgres {
  readonly service: Service;
  readonly adminPasswordFile: string;
}

/**
 * Makes the folders that Debian's PostgreSQL packages expect, empty, on a machine without server of its own. What is
 * set up there later is started at each boot, as Debian does it: every cluster whose start.conf says auto.
 */
export async function preparePostgresPrograms(data: string): Promise<Service> {
  await makeFolders(data);
  return {
    name: "postgresql-clusters",
    run: `install -d -m 2775 -o postgres -g postgres /run/postgresql
for start in /etc/postgresql/*/*/start.conf; do
  [ -e "$start" ] && grep -qx auto "$start" || continue
  cluster=$(dirname "$start")
  pg_ctlcluster "$(basename "$(dirname "$cluster")")" "$(basename "$cluster")" start
done
exec sleep infinity`,
  };
}

async function makeFolders(data: string): Promise<void> {
  const owner = postgresOwner();
  await mkdir(join(data, "postgresql"), { recursive: true });
  await chown(join(data, "postgresql"), owner.user, owner.group);
  await mkdir(join(data, "etc-postgresql"), { recursive: true });
}

/** Makes a machine's database cluster, certificate and settings, as far as they are not there. */
export async function preparePostgres(
  machine: MachinePlan,
  folder: string,
  authority: KeyPair,
): Promise<PreparedPostgres> {
  const data = dataFolder(machine.name);
  const owner = postgresOwner();
  await makeFolders(data);
  const adminPasswordFile = join(folder, "postgres-admin-password");
  if (!existsSync(adminPasswordFile)) {
    await writeFile(adminPasswordFile, `${randomBytes(24).toString("base64url")}\n`, {
      mode: 0o600,
    });
  }
  const cluster = join(data, "postgresql", VERSION, "main");
  if (!existsSync(cluster)) {
    const password = (await readFile(adminPasswordFile, "utf8")).trim();
    await makeCluster(machine, cluster, password);
  }

  const etc = join(data, "etc-postgresql", VERSION, "main");
  if (!existsSync(join(etc, "pg_hba.conf"))) {
    await mkdir(join(etc, "conf.d"), { recursive: true });
    await writeFile(
      join(etc, "pg_ident.conf"),
      `${ROOT_MAY_BE.map((role) => `machine root ${role}\n`).join("")}machine postgres postgres\n`,
    );
    await writeFile(
      join(etc, "postgresql.conf"),
      `data_directory = '/var/lib/postgresql/${VERSION}/main'
hba_file = '/etc/postgresql/${VERSION}/main/pg_hba.conf'
ident_file = '/etc/postgresql/${VERSION}/main/pg_ident.conf'
include_dir = 'conf.d'
`,
    );
    await writeFile(join(etc, "pg_hba.conf"), CLIENT_RULES);
  }
  await writeSettings(join(etc, "conf.d", "10-platform.conf"), settings(machine));

  const issued = {
    certificateFile: join(folder, "postgres.crt"),
    keyFile: join(folder, "postgres.key"),
  };
  await ensureCertificate(authority, issued, {
    commonName: machine.name,
    usage: "server",
    dnsNames: [machine.name, `${machine.name}.${DOMAIN}`, "localhost"],
    addresses: [machine.address, "127.0.0.1"],
  });
  await copyFile(issued.certificateFile, join(etc, "server.crt"));
  await copyFile(issued.keyFile, join(etc, "server.key"));
  await chown(join(etc, "server.key"), owner.user, owner.group);
  await chmod(join(etc, "server.key"), 0o600);
  return {
    adminPasswordFile,
    service: {
      name: "postgresql",
      // A smart shutdown (SIGTERM) would wait for every client to leave.
      stopSignal: "SIGINT",
      stopWithinMs: 12_000,
      run: `mkdir -p /var/run/postgresql
chown postgres:postgres /var/run/postgresql
cd /var/lib/postgresql
exec s6-setuidgid postgres ${POSTGRES_PROGRAMS}/postgres \\
  -c config_file=/etc/postgresql/${VERSION}/main/postgresql.conf`,
    },
  };
}

/** Makes the template that all machines' clusters are copied from, once. */
export async function ensurePostgresTemplate(): Promise<void> {
  if (existsSync(TEMPLATE)) return;
  const fresh = `${TEMPLATE}.new`;
  await rm(fresh, { recursive: true, force: true });
  await mkdir(fresh, { recursive: true });
  await asPostgres(
    "make the PostgreSQL template",
    fresh,
    `${POSTGRES_PROGRAMS}/initdb -D . --no-sync --no-instructions -U postgres \
      --auth=reject --locale=C.UTF-8 -E UTF8 --data-checksums
${POSTGRES_PROGRAMS}/postgres --single -D . -c fsync=off postgres`,
    `CREATE ROLE ${ADMIN_USER} SUPERUSER LOGIN
CREATE ROLE ${DATASTORE} LOGIN
CREATE DATABASE ${DATASTORE} OWNER ${DATASTORE}
REVOKE ALL ON DATABASE ${DATASTORE} FROM PUBLIC
`,
  );
  await rename(fresh, TEMPLATE);
}

async function makeCluster(machine: MachinePlan, cluster: string, password: string): Promise<void> {
  const fresh = `${cluster}.new`;
  await rm(fresh, { recursive: true, force: true });
  await mkdir(join(cluster, ".."), { recursive: true });
  const step = `make the databases of ${machine.name}`;
  await mustRun(step, ["cp", "-a", "--reflink=auto", TEMPLATE, fresh]);
  await asPostgres(
    step,
    fresh,
    `${POSTGRES_PROGRAMS}/postgres --single -D . -c fsync=off postgres`,
    `ALTER ROLE ${ADMIN_USER} PASSWORD '${scramVerifier(password)}'\n`,
  );
  await rename(fresh, cluster);
}

/**
 * Runs shell lines as user postgres with `folder` as working folder. The folder is shown at a place
 * that the user can reach, in a mount namespace that ends with the command: a checkout may lie below
 * a home that only root may enter.
 */
async function asPostgres(
  step: string,
  folder: string,
  script: string,
  stdin: string,
): Promise<void> {
  await mustRun(
    step,
    [
      ...["unshare", "--mount", "sh", "-euc"],
      `mount --bind "$1" /mnt
chown postgres:postgres /mnt
chmod 0700 /mnt
cd /mnt
exec setpriv --reuid=postgres --regid=postgres --init-groups sh -euc "$2"`,
      ...["sh", folder, script],
    ],
    { stdin },
  );
}

/** What PostgreSQL keeps of a password: RFC 5803. The password itself reaches no command or log. */
function scramVerifier(password: string): string {
  const iterations = 4096;
  const salt = randomBytes(16);
  const salted = pbkdf2Sync(password, salt, iterations, 32, "sha256");
  const clientKey = createHmac("sha256", salted).update("Client Key").digest();
  const storedKey = createHash("sha256").update(clientKey).digest("base64");
  const serverKey = createHmac("sha256", salted).update("Server Key").digest("base64");
  return `SCRAM-SHA-256$${String(iterations)}:${salt.toString("base64")}$${storedKey}:${serverKey}`;
}

function postgresOwner(): { readonly user: number; readonly group: number } {
  const line = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .find((entry) => entry.startsWith("postgres:"));
  const [, , user, group] = line?.split(":") ?? [];
  if (user === undefined || group === undefined) {
    throw new MachineError('User "postgres": must exist, got none.', {
      step: "prepare PostgreSQL",
      wayOut: `Install the Debian package postgresql-${VERSION}, then start again.`,
    });
  }
  return { user: Number(user), group: Number(group) };
}
