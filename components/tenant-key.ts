import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { createHmac } from "node:crypto";
import { deriveTenantKey } from "../model/settings-key.ts";
import type { KeyPurpose, RootKey } from "../model/settings-key.ts";
import type { TenantName } from "../model/tenant-name.ts";
import type { TenantSecrets } from "./tenant-secrets.ts";

/** What a tenant's keys and secrets need to know. */
export interface TenantKeyArgs {
  readonly tenant: TenantName;
  readonly namespace: k8s.core.v1.Namespace;
  readonly namespaceName: string;
  readonly labels: Readonly<Record<string, string>>;
  /** The root, for the time of this run; only what is derived from it goes anywhere. */
  readonly rootKey: RootKey;
  /** Version of the key that encrypts. */
  readonly keyGeneration: number;
  /** Oldest version that can still decrypt. */
  readonly oldestKeyGeneration: number;
  readonly secrets: TenantSecrets;
  /** Version of the random secrets; the version before it stays in the Secret as the previous one. */
  readonly secretGeneration: number;
  /** What the application signs in elsewhere with: content of files, by their names. */
  readonly credentials: Readonly<Record<string, string>>;
}

/** The random secrets of the tenant contract; each is current and, after a rotation, previous. */
const CONTRACT_SECRETS = ["session", "token", "webhook"] as const;

/** Purposes beside the settings: what searchable encrypted attributes ask for. */
const ATTRIBUTE_PURPOSES: readonly KeyPurpose[] = [
  "attributes-primary",
  "attributes-deterministic",
  "attributes-salt",
];

/**
 * The keys that only one tenant's pods can read.
 *
 * Holds: every key is derived for this tenant, purpose and version alone; the root is in no
 * resource; each Secret is immutable, lies in the tenant's namespace, and is secret in the state.
 */
export class TenantKey extends pulumi.ComponentResource {
  /**
   * Name of the Secret with one file per key: `settings-<version>` for each version of the ring, 32
   * bytes each, `active` with the version that encrypts, and one file per further purpose.
   */
  public readonly keySecretName: string;
  /** Name of the Secret with `session`, `token`, `webhook`, and after a rotation `<name>-previous`. */
  public readonly contractSecretName: string;
  /** Name of the Secret with the credentials; `undefined`, and no Secret, where there are none. */
  public readonly credentialsSecretName: string | undefined;

  constructor(name: string, args: TenantKeyArgs, opts?: pulumi.ComponentResourceOptions) {
    super("fluxbilling:tenant:TenantKey", name, {}, opts);
    // Deleted by itself, unlike what lies in the namespace otherwise: an immutable Secret must be gone before what
    // it is made of is, or a tenant that is made again meets its former one.
    const placed = { parent: this, dependsOn: [args.namespace] };
    const metadata = (objectName: string): k8s.types.input.meta.v1.ObjectMeta => ({
      name: objectName,
      namespace: args.namespaceName,
      labels: args.labels,
    });

    // Versions are in the names, so that a rotation adds a Secret and rolls the pods onto it before
    // the former one goes; and a node remembers what an immutable Secret of a name has held.
    this.keySecretName = `keys-${args.oldestKeyGeneration}-${args.keyGeneration}`;
    this.contractSecretName = `contract-seed-${args.secretGeneration}`;
    new k8s.core.v1.Secret(
      `${name}-keys`,
      {
        metadata: metadata(this.keySecretName),
        immutable: true,
        data: pulumi.secret(keyring(args)),
      },
      placed,
    );

    const contract: Record<string, pulumi.Output<string>> = {};
    for (const kind of CONTRACT_SECRETS) {
      contract[kind] = args.secrets.of(kind, args.secretGeneration);
      if (args.secretGeneration > 1) {
        contract[`${kind}-previous`] = args.secrets.of(kind, args.secretGeneration - 1);
      }
    }
    new k8s.core.v1.Secret(
      `${name}-contract`,
      {
        metadata: metadata(this.contractSecretName),
        immutable: true,
        stringData: contract,
      },
      placed,
    );

    if (Object.keys(args.credentials).length > 0) {
      this.credentialsSecretName = `credentials-${contentName(args)}`;
      new k8s.core.v1.Secret(
        `${name}-credentials`,
        {
          metadata: metadata(this.credentialsSecretName),
          immutable: true,
          stringData: pulumi.secret(args.credentials),
        },
        placed,
      );
    }
    this.registerOutputs({});
  }
}

/**
 * Names credentials after what they are: who changes one where it is kept gets a Secret beside the former one, and
 * pods rolled onto it, without counting a generation up. By a key, so that no one can try passwords against the name.
 */
function contentName({ rootKey, tenant, credentials }: TenantKeyArgs): string {
  const files = Object.entries(credentials).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return createHmac("sha256", deriveTenantKey(rootKey, tenant, "secret-names", 1))
    .update(JSON.stringify(files))
    .digest("hex")
    .slice(0, 16);
}

/** The files of the key Secret, in base64. */
function keyring(args: TenantKeyArgs): Record<string, string> {
  const files: Record<string, string> = {
    active: Buffer.from(String(args.keyGeneration)).toString("base64"),
  };
  for (
    let generation = args.oldestKeyGeneration;
    generation <= args.keyGeneration;
    generation += 1
  ) {
    files[`settings-${generation}`] = derive(args, "settings", generation);
  }
  for (const purpose of ATTRIBUTE_PURPOSES) {
    files[purpose] = derive(args, purpose, 1);
  }
  return files;
}

function derive(args: TenantKeyArgs, purpose: KeyPurpose, generation: number): string {
  return deriveTenantKey(args.rootKey, args.tenant, purpose, generation).toString("base64");
}
