import type * as command from "@pulumi/command";
import type * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { mirrorCommand, mirrorPath } from "../model/backup-store.ts";
import type { SshAuthority } from "../model/ssh-certificate.ts";
import type { Zone } from "../model/zone.ts";
import { BackupStore } from "./backup-store.ts";
import type { MirrorEnd } from "./mirror-job.ts";
import { addMirrorJob } from "./mirror-job.ts";

/** What a mirror needs to know. */
export interface StoreMirrorArgs {
  /** The store's name in the settings. */
  readonly storeName: string;
  readonly zone: Zone;
  readonly standbyZone: Zone;
  /** The control plane's namespace on the master. */
  readonly namespace: k8s.core.v1.Namespace;
  readonly labels: Readonly<Record<string, string>>;
  /** Image by digest. */
  readonly image: string;
  readonly source: MirrorEnd;
  readonly target: MirrorEnd;
  /** How the program prepares the target, its key pinned. */
  readonly targetConnection: command.types.input.remote.ConnectionArgs;
  /** User of the store, on both hosts. */
  readonly user: string;
  /** Folder of all dumps on the source. */
  readonly path: string;
  readonly authority: SshAuthority;
  readonly receiverFile: string;
  readonly receiverSha256: string;
}

/**
 * The copy of a backup store on the standby: an hourly job on the master that carries dumps from one to
 * the other over SSH.
 *
 * Give it the master's providers with `opts.providers`. Holds: what {@link addMirrorJob} holds; the job's
 * key can read the one and add to the other; each store counts the days that it keeps dumps by itself, so
 * that a store that was emptied empties no copy; copies stay in the zone.
 */
export class StoreMirror extends pulumi.ComponentResource {
  constructor(name: string, args: StoreMirrorArgs, opts?: pulumi.ComponentResourceOptions) {
    super(
      "fluxbilling:fleet:StoreMirror",
      name,
      { store: args.storeName, zone: args.zone, standbyZone: args.standbyZone },
      opts,
    );
    const { user } = args;
    const targetPath = mirrorPath(args.storeName);
    new BackupStore(
      `${name}-target`,
      {
        storeName: args.storeName,
        zone: args.standbyZone,
        connection: args.targetConnection,
        user,
        path: targetPath,
        authorityPublicKey: args.authority.publicKey,
        receiverFile: args.receiverFile,
        receiverSha256: args.receiverSha256,
      },
      { parent: this },
    );
    addMirrorJob(this, name, {
      objectName: `mirror-${args.storeName}`,
      // Between two tenants' nights there is none; what is new since the last hour is little.
      minute: 17,
      program: "/mirror",
      namespace: args.namespace,
      labels: args.labels,
      image: args.image,
      authority: args.authority,
      ends: {
        source: { ...args.source, user, forceCommand: mirrorCommand(args.path, "source") },
        target: { ...args.target, user, forceCommand: mirrorCommand(targetPath, "target") },
      },
    });
    this.registerOutputs({});
  }
}
