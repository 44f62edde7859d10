import type * as command from "@pulumi/command";
import type * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { IMAGES_MIRROR, mirrorCommand } from "../model/backup-store.ts";
import type { SshAuthority } from "../model/ssh-certificate.ts";
import type { Zone } from "../model/zone.ts";
import { BackupStore } from "./backup-store.ts";
import type { MirrorEnd } from "./mirror-job.ts";
import { addMirrorJob } from "./mirror-job.ts";
import { REGISTRY_CLAIM } from "./registry.ts";

/** What the mirror of the image registry needs to know. */
export interface RegistryMirrorArgs {
  readonly standbyZone: Zone;
  /** The control plane's namespace on the master. */
  readonly namespace: k8s.core.v1.Namespace;
  readonly labels: Readonly<Record<string, string>>;
  /** Image by digest. */
  readonly image: string;
  readonly target: MirrorEnd;
  /** How the program prepares the target, its key pinned. */
  readonly targetConnection: command.types.input.remote.ConnectionArgs;
  readonly authority: SshAuthority;
  readonly receiverFile: string;
  readonly receiverSha256: string;
}

/**
 * The copy of the image registry on the standby (claim F5): an hourly job on the master that reads the
 * registry's volume and carries what is new over SSH.
 *
 * Give it the master's providers with `opts.providers`. Holds: what {@link addMirrorJob} holds; the job's
 * key can list and add, and delete nothing; each blob has the digest that it is named by, no link comes
 * before its blob and no tag before its image, so that what a tag leads to is whole at every moment.
 */
export class RegistryMirror extends pulumi.ComponentResource {
  constructor(name: string, args: RegistryMirrorArgs, opts?: pulumi.ComponentResourceOptions) {
    super("fluxbilling:fleet:RegistryMirror", name, { standbyZone: args.standbyZone }, opts);
    const { user, path } = IMAGES_MIRROR;
    new BackupStore(
      `${name}-target`,
      {
        storeName: "images",
        zone: args.standbyZone,
        connection: args.targetConnection,
        user,
        path,
        authorityPublicKey: args.authority.publicKey,
        receiverFile: args.receiverFile,
        receiverSha256: args.receiverSha256,
      },
      { parent: this },
    );
    addMirrorJob(this, name, {
      objectName: "registry-mirror",
      // Not while the dumps are carried.
      minute: 47,
      program: "/mirror-images",
      namespace: args.namespace,
      labels: args.labels,
      image: args.image,
      authority: args.authority,
      ends: { target: { ...args.target, user, forceCommand: mirrorCommand(path, "images") } },
      reads: { claimName: REGISTRY_CLAIM, variable: "IMAGES_PATH" },
    });
    this.registerOutputs({});
  }
}
