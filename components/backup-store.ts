import * as command from "@pulumi/command";
import * as pulumi from "@pulumi/pulumi";
import { RECEIVER_PATH } from "../model/backup-store.ts";
import type { Zone } from "../model/zone.ts";
import { EncryptedStorage } from "./encrypted-storage.ts";
import { remoteScript } from "./remote-script.ts";

/** What a backup store needs to know. */
export interface BackupStoreArgs {
  /** The store's name in the settings. */
  readonly storeName: string;
  readonly zone: Zone;
  /** How to reach the host, its key pinned. */
  readonly connection: command.types.input.remote.ConnectionArgs;
  /** User that takes in what is carried there and can do nothing else. */
  readonly user: string;
  /** Folder of all dumps, or of what else is kept. */
  readonly path: string;
  /** Public key of the authority that certifies tenants' keys: `ssh-ed25519 <base64>`. */
  readonly authorityPublicKey: string;
  /** File with the program that takes dumps in. */
  readonly receiverFile: string;
  /** SHA-256 of that file, hexadecimal: the store runs this program or none. */
  readonly receiverSha256: string;
}

/**
 * A place on a host that takes in what is carried to it, tenants' dumps or images, and gives nothing out.
 *
 * Holds: the user's only way in is a key that the authority certified, and such a key runs the one
 * command that its certificate names, without terminal or forwarding; neither the user's home nor
 * its list of keys can be changed by the user; what {@link EncryptedStorage} holds of the folder. Dumps
 * stay when the store is no longer managed.
 */
export class BackupStore extends pulumi.ComponentResource {
  constructor(name: string, args: BackupStoreArgs, opts?: pulumi.ComponentResourceOptions) {
    super(
      "fluxbilling:fleet:BackupStore",
      name,
      {
        store: args.storeName,
        zone: args.zone,
        address: args.connection.host,
        path: args.path,
      },
      opts,
    );
    const storage = new EncryptedStorage(
      `${name}-storage`,
      { connection: args.connection, folders: [args.path] },
      { parent: this },
    );
    const quiet = {
      connection: args.connection,
      logging: "none",
      addPreviousOutputInEnv: false,
    } as const;
    const prepared = new command.remote.Command(
      `${name}-host`,
      { ...quiet, create: prepareScript(args) },
      { parent: this, dependsOn: [storage] },
    );
    const copied = new command.remote.CopyToRemote(
      `${name}-receiver`,
      {
        connection: args.connection,
        source: new pulumi.asset.FileAsset(args.receiverFile),
        remotePath: `${RECEIVER_PATH}.new`,
      },
      { parent: this, dependsOn: [prepared] },
    );
    new command.remote.Command(
      `${name}-receiver-install`,
      { ...quiet, create: installScript(args.receiverSha256) },
      { parent: this, dependsOn: [copied] },
    );
    this.registerOutputs({});
  }
}

function prepareScript({ user, path, authorityPublicKey }: BackupStoreArgs): string {
  const home = `/var/lib/fluxbilling/${user}`;
  return remoteScript(
    `if ! id ${user} >/dev/null 2>&1; then`,
    `  useradd --system --user-group --no-create-home --home-dir ${home} --shell /bin/sh ${user}`,
    "fi",
    // No password opens the account, and unlike "!" this does not shut it to keys as well.
    `usermod --password '*' ${user}`,
    `install -d -m 0755 -o root -g root ${RECEIVER_PATH.slice(0, RECEIVER_PATH.lastIndexOf("/"))}`,
    `install -d -m 0755 -o root -g root ${home} ${home}/.ssh`,
    `install -d -m 0700 -o ${user} -g ${user} ${path}`,
    `printf '%s\\n' 'cert-authority,restrict ${authorityPublicKey}' > ${home}/.ssh/authorized_keys.new`,
    `chmod 0644 ${home}/.ssh/authorized_keys.new`,
    `mv -f ${home}/.ssh/authorized_keys.new ${home}/.ssh/authorized_keys`,
  );
}

function installScript(sha256: string): string {
  return remoteScript(
    // The file is gone once it is installed; a second run finds the same program in its place.
    `if [ -e ${RECEIVER_PATH}.new ]; then`,
    `  echo '${sha256}  ${RECEIVER_PATH}.new' | sha256sum --check --status`,
    `  chown root:root ${RECEIVER_PATH}.new`,
    `  chmod 0755 ${RECEIVER_PATH}.new`,
    // A rename: a dump that is coming in keeps the program that it began with.
    `  mv -f ${RECEIVER_PATH}.new ${RECEIVER_PATH}`,
    "fi",
    `echo '${sha256}  ${RECEIVER_PATH}' | sha256sum --check --status`,
  );
}
