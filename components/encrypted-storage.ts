import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as command from "@pulumi/command";
import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { storageCheck, VOLUME_CLASS } from "../model/encrypted-storage.ts";

/** What a host's storage needs to know. */
export interface EncryptedStorageArgs {
  /** How to reach the host, its key pinned. */
  readonly connection: command.types.input.remote.ConnectionArgs;
  /** Folders that hold data: absolute paths of plain characters. */
  readonly folders: readonly string[];
  /** What the host is asked again for, by its change. @default only for other folders, or by another program */
  readonly askAgainFor?: readonly pulumi.Input<string>[];
  /** Where the host's cluster keeps the files of pods, below one of the folders. @default it has no cluster */
  readonly volumes?: { readonly provisioner: string; readonly folder: string };
  /** Labels of the cluster's class of volumes. @default none */
  readonly labels?: Readonly<Record<string, string>>;
}

/**
 * The storage of a host, proved to be encrypted (P4, W8, W9).
 *
 * Holds: the host itself has shown that every folder with data, whatever is mounted below one and every
 * PostgreSQL cluster lie on storage encrypted with AES-256; a host that cannot show it stops the deploy
 * before anything that depends on this is made. The cluster's class {@link VOLUME_CLASS} makes volumes in
 * such a folder only. What holds later is shown by the review, which asks again.
 */
export class EncryptedStorage extends pulumi.ComponentResource {
  /** By what each folder is encrypted, as the host told. */
  readonly ciphers: pulumi.Output<Readonly<Record<string, string>>>;

  constructor(name: string, args: EncryptedStorageArgs, opts?: pulumi.ComponentResourceOptions) {
    super(
      "fluxbilling:fleet:EncryptedStorage",
      name,
      { address: args.connection.host, folders: [...args.folders] },
      opts,
    );
    const check = new command.remote.Command(
      `${name}-check`,
      {
        connection: args.connection,
        logging: "none",
        addPreviousOutputInEnv: false,
        create: storageCheck(args.folders),
        ...(args.askAgainFor === undefined ? {} : { triggers: [...args.askAgainFor] }),
        stdin: readFileSync(join(import.meta.dirname, "host", "encrypted-storage.sh"), "utf8"),
      },
      { parent: this },
    );
    this.ciphers = check.stdout.apply(
      (told) => JSON.parse(told) as Readonly<Record<string, string>>,
    );
    if (args.volumes !== undefined) {
      const { provisioner, folder } = args.volumes;
      new k8s.storage.v1.StorageClass(
        `${name}-class`,
        {
          metadata: { name: VOLUME_CLASS, labels: args.labels ?? {} },
          provisioner,
          parameters: { nodePath: folder },
          reclaimPolicy: "Delete",
          // K3s's own provisioner makes no volume before it is told the node.
          volumeBindingMode: "WaitForFirstConsumer",
        },
        {
          parent: this,
          dependsOn: [check],
          // A class is what it was made as. Volumes that it has made stay when it is made anew.
          replaceOnChanges: ["provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"],
          deleteBeforeReplace: true,
        },
      );
    }
    this.registerOutputs({ ciphers: this.ciphers });
  }
}
