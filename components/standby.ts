import * as command from "@pulumi/command";
import * as postgresql from "@pulumi/postgresql";
import * as pulumi from "@pulumi/pulumi";
import * as random from "@pulumi/random";
import { REPLICA_ROLE } from "../model/database.ts";
import type { Zone } from "../model/zone.ts";
import { verifierOf } from "./database-parts.ts";
import { EncryptedStorage } from "./encrypted-storage.ts";
import { hostProgramPath, installHostProgram } from "./host-program.ts";
import { remoteScript } from "./remote-script.ts";

/** What a standby needs to know. */
export interface StandbyArgs {
  readonly zone: Zone;
  /** Zone of the master, whose data the standby holds. */
  readonly masterZone: Zone;
  /** Two letters. */
  readonly country: string;
  readonly address: string;
  /** How to reach the standby, its key pinned. */
  readonly connection: command.types.input.remote.ConnectionArgs;
  /** Folders that hold its data. */
  readonly encryptedFolders: readonly string[];
  /** How to reach the master, its key pinned. */
  readonly masterConnection: command.types.input.remote.ConnectionArgs;
  /** The master's PostgreSQL. */
  readonly masterAddress: string;
  readonly masterPort: number;
  /** Its administrator, who goes on being one after a promotion. */
  readonly masterAdmin: string;
  /** Certificate of the authority that signed the master's server, PEM. */
  readonly databaseCaCertificate: string;
}

/** Name of the replication slot on the master. */
const SLOT = "fluxbilling_standby";

/**
 * A host that holds a copy of the master's PostgreSQL, at most a moment old, and the two programs with
 * which an operator puts it in the master's place (docs/runbooks/promote-standby.md).
 *
 * Give it the master's providers with `opts.providers`. Holds: the copy is streamed over TLS 1.3 by a
 * login that may replicate and nothing else, from the standby's address alone; the master keeps at
 * most 4 GB of log for a standby that is away; the copy listens on no address until it is promoted,
 * which is an operator's act and refused while the master takes writes. A data folder that is not this
 * copy is never touched. What {@link EncryptedStorage} holds is proved before the first copy.
 */
export class Standby extends pulumi.ComponentResource {
  readonly storage: EncryptedStorage;

  constructor(name: string, args: StandbyArgs, opts?: pulumi.ComponentResourceOptions) {
    super(
      "fluxbilling:fleet:Standby",
      name,
      {
        zone: args.zone,
        masterZone: args.masterZone,
        country: args.country,
        address: args.address,
      },
      opts,
    );
    const child = { parent: this };
    this.storage = new EncryptedStorage(
      `${name}-storage`,
      { connection: args.connection, folders: args.encryptedFolders },
      child,
    );
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
        // One for the copy, one for making it anew, one that asks how far the master is, and one that
        // a lost connection still holds.
        connectionLimit: 4,
        password: verifierOf(password.result, REPLICA_ROLE),
      },
      child,
    );
    new command.remote.Command(
      `${name}-fence`,
      { ...quiet, connection: args.masterConnection, create: installHostProgram("fence") },
      child,
    );
    const program = new command.remote.Command(
      `${name}-program`,
      {
        ...quiet,
        connection: args.connection,
        create: installHostProgram("standby", {
          MASTER_ADDRESS: args.masterAddress,
          MASTER_PORT: args.masterPort,
          MASTER_ADMIN: args.masterAdmin,
          REPLICA_ROLE,
          SLOT,
        }),
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
        create: copyScript(args),
        // The first line is the password, the rest the certificate: neither is in the command.
        stdin: pulumi.interpolate`${password.result}\n${args.databaseCaCertificate}`,
      },
      { ...child, dependsOn: [allowed, program, this.storage] },
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

/** Tells the standby's program how to prove itself and its peer, and has it make the copy. */
function copyScript({ masterAddress, masterPort }: StandbyArgs): string {
  const home = "/var/lib/postgresql/fluxbilling";
  return remoteScript(
    "umask 077",
    "IFS= read -r password",
    `install -d -m 0700 -o postgres -g postgres ${home}`,
    `cat > ${home}/master.crt`,
    `printf '%s:%s:*:%s:%s\\n' ${masterAddress} ${masterPort} ${REPLICA_ROLE} "$password" > ${home}/password`,
    `chown postgres:postgres ${home}/master.crt ${home}/password`,
    `${hostProgramPath("standby")} copy`,
  );
}
