import * as command from "@pulumi/command";
import * as postgresql from "@pulumi/postgresql";
import * as pulumi from "@pulumi/pulumi";
import * as random from "@pulumi/random";
import { REPLICA_ROLE } from "../model/database.ts";
import { scramSalt, scramVerifier } from "../model/scram.ts";
import type { Zone } from "../model/zone.ts";
import { remoteScript } from "./remote-script.ts";

/** What a standby needs to know. */
export interface StandbyArgs {
  readonly zone: Zone;
  /** Two letters. */
  readonly country: string;
  readonly address: string;
  /** How to reach the standby, its key pinned. */
  readonly connection: command.types.input.remote.ConnectionArgs;
  /** How to reach the master, its key pinned. */
  readonly masterConnection: command.types.input.remote.ConnectionArgs;
  /** The master's PostgreSQL. */
  readonly masterAddress: string;
  readonly masterPort: number;
  /** Certificate of the authority that signed the master's server, PEM. */
  readonly databaseCaCertificate: string;
}

/** Name of the replication slot on the master. */
const SLOT = "fluxbilling_standby";

/**
 * A host that holds a copy of the master's PostgreSQL, at most a moment old.
 *
 * Give it the master's providers with `opts.providers`. Holds: the copy is streamed over TLS 1.3 by a
 * login that may replicate and nothing else, from the standby's address alone; the master keeps at
 * most 4 GB of log for a standby that is away; the copy listens on no address until it is promoted,
 * which is an operator's act. A data folder that is not this copy is never touched.
 */
export class Standby extends pulumi.ComponentResource {
  constructor(name: string, args: StandbyArgs, opts?: pulumi.ComponentResourceOptions) {
    super("fluxbilling:fleet:Standby", name, { zone: args.zone, country: args.country }, opts);
    const child = { parent: this };
    const quiet = { logging: "none", addPreviousOutputInEnv: false } as const;
    const password = new random.RandomPassword(
      `${name}-password`,
      { length: 32, special: false },
      child,
    );
    const role = new postgresql.Role(
      `${name}-replica`,
      {
        name: REPLICA_ROLE,
        login: true,
        replication: true,
        // One for the copy, one for making it anew, and one that a lost connection still holds.
        connectionLimit: 3,
        password: pulumi.secret(
          password.result.apply((text) => scramVerifier(text, scramSalt(REPLICA_ROLE))),
        ),
      },
      child,
    );
    const allowed = new command.remote.Command(
      `${name}-allowed`,
      { ...quiet, connection: args.masterConnection, create: masterScript(args.address) },
      { ...child, dependsOn: [role] },
    );
    new command.remote.Command(
      `${name}-copy`,
      {
        ...quiet,
        connection: args.connection,
        create: standbyScript(args),
        // The first line is the password, the rest the certificate: neither is in the command.
        stdin: pulumi.interpolate`${password.result}\n${args.databaseCaCertificate}`,
      },
      { ...child, dependsOn: [allowed] },
    );
    this.registerOutputs({});
  }
}

/** Lets the standby in, and keeps log for it. */
function masterScript(standbyAddress: string): string {
  const rule = `hostssl replication ${REPLICA_ROLE} ${standbyAddress}/32 scram-sha-256`;
  return remoteScript(
    "cd /",
    `ask() { runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -c "$1"; }`,
    `rules=$(ask 'SHOW hba_file')`,
    // A rule of its own: no other rule speaks for replication, so its place in the file is free.
    `grep -qxF '${rule}' "$rules" || printf '%s\\n' '${rule}' >> "$rules"`,
    `ask "ALTER SYSTEM SET max_slot_wal_keep_size = '4GB'"`,
    "ask 'SELECT pg_reload_conf()' >/dev/null",
    `if [ -z "$(ask "SELECT 1 FROM pg_replication_slots WHERE slot_name = '${SLOT}'")" ]; then`,
    `  ask "SELECT pg_create_physical_replication_slot('${SLOT}')" >/dev/null`,
    "fi",
  );
}

/** Makes the copy where there is none, starts it, and waits until it streams. */
function standbyScript({ masterAddress, masterPort }: StandbyArgs): string {
  const home = "/var/lib/postgresql/fluxbilling";
  return remoteScript(
    "cd /",
    "umask 077",
    // A run that was cut off may still be copying.
    "exec 9>/run/lock/fluxbilling-standby",
    "flock 9",
    "IFS= read -r password",
    "version=$(ls /usr/lib/postgresql 2>/dev/null | sort -n | tail -n 1)",
    `if [ -z "$version" ]; then`,
    `  echo "Standby: PostgreSQL's programs must be installed, got none. Install the same version as the master's." >&2`,
    "  exit 1",
    "fi",
    "programs=/usr/lib/postgresql/$version/bin",
    "data=/var/lib/postgresql/$version/main",
    "settings=/etc/postgresql/$version/main",
    `if [ -e "$data" ] && [ ! -e "$data/standby.signal" ]; then`,
    `  echo "Standby \\"$data\\": must be a copy of the master or nothing, got another cluster. Move it away, or drop it with pg_dropcluster." >&2`,
    "  exit 1",
    "fi",
    'as() { runuser -u postgres -- "$@"; }',
    `install -d -m 0700 -o postgres -g postgres ${home}`,
    `install -d -m 0755 -o postgres -g postgres "/var/lib/postgresql/$version" "/etc/postgresql/$version" "$settings"`,
    `cat > ${home}/master.crt`,
    `printf '%s:%s:*:%s:%s\\n' ${masterAddress} ${masterPort} ${REPLICA_ROLE} "$password" > ${home}/password`,
    `chown postgres:postgres ${home}/master.crt ${home}/password`,
    `cat > "$settings/postgresql.conf" <<end`,
    "data_directory = '$data'",
    "hba_file = '$settings/pg_hba.conf'",
    "ident_file = '$settings/pg_ident.conf'",
    "external_pid_file = '/var/run/postgresql/$version-main.pid'",
    "cluster_name = '$version/main'",
    "listen_addresses = ''",
    "unix_socket_directories = '/var/run/postgresql'",
    // A copy must allow at least as many connections as the master does.
    "max_connections = 1000",
    "hot_standby = on",
    "end",
    `echo 'local all postgres peer' > "$settings/pg_hba.conf"`,
    `: > "$settings/pg_ident.conf"`,
    `echo auto > "$settings/start.conf"`,
    `chown postgres:postgres "$settings"/*`,
    `if [ ! -e "$data" ]; then`,
    `  rm -rf "$data.new"`,
    `  as "$programs/pg_basebackup" --pgdata "$data.new" --write-recovery-conf --wal-method stream --slot ${SLOT} --checkpoint fast \\`,
    `    --dbname 'host=${masterAddress} port=${masterPort} user=${REPLICA_ROLE} sslmode=verify-full sslrootcert=${home}/master.crt ssl_min_protocol_version=TLSv1.3 passfile=${home}/password application_name=${SLOT}'`,
    `  mv "$data.new" "$data"`,
    "fi",
    `install -d -m 2775 -o postgres -g postgres /var/run/postgresql`,
    // The server must hold neither this connection's output nor the lock.
    `if ! pg_ctlcluster "$version" main status >/dev/null && ! pg_ctlcluster "$version" main start </dev/null >/dev/null 2>&1 9>&-; then`,
    `  echo "Standby \\"$data\\": PostgreSQL must start, got a failure. Look into /var/log/postgresql on the standby." >&2`,
    "  exit 1",
    "fi",
    "for attempt in $(seq 60); do",
    `  if [ "$(as psql -XAtq -c 'SELECT status FROM pg_stat_wal_receiver' 2>/dev/null)" = streaming ]; then`,
    "    exit 0",
    "  fi",
    "  sleep 1",
    "done",
    `echo "Standby: must stream from ${masterAddress}:${masterPort} within a minute, got no stream. Look into /var/log/postgresql on the standby." >&2`,
    "exit 1",
  );
}
