import * as pulumi from "@pulumi/pulumi";
import { LOCATION_LABEL, TENANT_LABEL, ZONE_LABEL } from "../model/labels.ts";
import { PLANS } from "../model/plan.ts";
import type { RootKey } from "../model/settings-key.ts";
import type { CertificateSettings, TenantSettings } from "../model/settings.ts";
import { tenantNames } from "../model/tenant-name.ts";
import type { Zone } from "../model/zone.ts";
import { TenantApp } from "./tenant-app.ts";
import type { IdentityProvider } from "./tenant-app.ts";
import { TenantBackup } from "./tenant-backup.ts";
import type { TenantBackupStore } from "./tenant-backup.ts";
import { TenantDatabase } from "./tenant-database.ts";
import { TenantIngress } from "./tenant-ingress.ts";
import { TenantKey } from "./tenant-key.ts";
import { tenantNamespace } from "./tenant-namespace.ts";
import { TenantNetwork } from "./tenant-network.ts";
import { TenantSecrets } from "./tenant-secrets.ts";
import type { Endpoint } from "./tenant-network.ts";
import { TenantReplay } from "./tenant-replay.ts";

/** What a tenant needs to know beside its own settings. */
export interface TenantArgs {
  /** The tenant's settings; its location is {@link TenantArgs.locationName}. */
  readonly settings: TenantSettings;
  readonly locationName: string;
  /** Zone of the location. */
  readonly locationZone: Zone;
  /** Name and zone of the store that holds the tenant's copies. */
  readonly storeName: string;
  readonly storeZone: Zone;
  readonly store: TenantBackupStore;
  /** The location's PostgreSQL. */
  readonly database: Endpoint;
  /** Certificate of the authority that signed the PostgreSQL server's, PEM. */
  readonly databaseCaCertificate: string;
  /** Name of the location's node. @default the tenant's volume waits for its first pod */
  readonly nodeName: string | undefined;
  /** Range of the location's pods, of which only the ingress reaches the tenant's. */
  readonly podRange: string;
  readonly certificates: CertificateSettings;
  /** Domain of all tenants. */
  readonly tenantDomain: string;
  /** Images by digest. */
  readonly images: { readonly tenantApp: string; readonly backup: string };
  /** Hosts of the registries that images may come from. */
  readonly imageRegistries: readonly string[];
  /** What the application may show of its identity providers. */
  readonly identityProviders: readonly IdentityProvider[];
  /** What the application signs in elsewhere with: content of files, by their names. */
  readonly credentials: Readonly<Record<string, string>>;
  /** Root of the tenant's keys, for the time of this run. */
  readonly rootKey: RootKey;
  /** Whether what holds the tenant's data refuses to be deleted. */
  readonly protectData: boolean;
}

/**
 * One tenant: namespace, database, network policies, keys, application and backup, all its own.
 *
 * Give it the location's providers with `opts.providers`. Holds: nothing of it is shared with
 * another tenant but the machines; its zone, location and backup store are on the component and on
 * every object as plain values, so that policies judge them at preview.
 */
export class Tenant extends pulumi.ComponentResource {
  /** The tenant's namespace. */
  public readonly namespaceName: string;
  /** Host under which the tenant is reached. */
  public readonly host: string;
  /** When its database is dumped, in cron's words, UTC. */
  public readonly backupSchedule: string;

  constructor(name: string, args: TenantArgs, opts?: pulumi.ComponentResourceOptions) {
    const { settings } = args;
    // A tenant that is shut is neither reached nor replayed: it has nothing of either.
    const mqtt = settings.mqtt && !settings.suspended;
    const replay = settings.replay && !settings.suspended;
    const identityKinds = [...new Set(settings.identity.providers.map(({ kind }) => kind))];
    super(
      "fluxbilling:tenant:Tenant",
      name,
      {
        tenant: settings.name,
        plan: settings.plan,
        zone: settings.zone,
        location: args.locationName,
        locationZone: args.locationZone,
        backupStore: args.storeName,
        backupStoreZone: args.storeZone,
        imageRegistries: args.imageRegistries,
        protectData: args.protectData,
        ...(settings.contractRef === undefined ? {} : { contractRef: settings.contractRef }),
        ...(identityKinds.length === 0 ? {} : { identityKinds }),
        ...(mqtt ? { mqtt } : {}),
        ...(replay ? { replay } : {}),
      },
      opts,
    );
    this.namespaceName = tenantNames(settings.name).namespace;
    this.host = `${settings.name}.${args.tenantDomain}`;
    const labels = {
      [TENANT_LABEL]: settings.name,
      [ZONE_LABEL]: settings.zone,
      [LOCATION_LABEL]: args.locationName,
    };
    const { namespace, bounds } = tenantNamespace(
      name,
      {
        ...{ settings, labels, identityKinds, mqtt, replay },
        storeName: args.storeName,
        protectData: args.protectData,
      },
      this,
    );
    const common = { namespace, namespaceName: this.namespaceName, labels };
    const child = { parent: this };
    const secrets = new TenantSecrets(name, this);

    const network = new TenantNetwork(
      `${name}-network`,
      { ...common, database: args.database, store: args.store.endpoint, identityKinds, mqtt },
      child,
    );
    const database = new TenantDatabase(
      `${name}-database`,
      {
        tenant: settings.name,
        plan: settings.plan,
        namespace,
        labels,
        caCertificate: args.databaseCaCertificate,
        secrets,
        secretGeneration: settings.secretGeneration,
        protectData: args.protectData,
      },
      child,
    );
    const key = new TenantKey(
      `${name}-key`,
      {
        ...common,
        tenant: settings.name,
        rootKey: args.rootKey,
        keyGeneration: settings.keyGeneration,
        oldestKeyGeneration: settings.oldestKeyGeneration,
        secrets,
        secretGeneration: settings.secretGeneration,
        credentials: args.credentials,
      },
      child,
    );
    // No pod before the policies that shut it in, and none before what its process reads at its start. The rest of its
    // database is made meanwhile: the pods are ready only once it answers them, and that is what is waited for.
    const app = new TenantApp(
      `${name}-app`,
      {
        ...common,
        tenant: settings.name,
        plan: settings.plan,
        locationName: args.locationName,
        nodeName: args.nodeName,
        image: args.images.tenantApp,
        host: this.host,
        proxyRange: args.podRange,
        database: args.database,
        identity: settings.identity,
        identityProviders: args.identityProviders,
        mail: settings.mail,
        mqtt,
        secrets: {
          database: database.appSecretName,
          keys: key.keySecretName,
          contract: key.contractSecretName,
          ...(key.credentialsSecretName === undefined
            ? {}
            : { credentials: key.credentialsSecretName }),
        },
        suspended: settings.suspended,
        protectData: args.protectData,
        beforePods: [...bounds, network, key, ...database.beforeApp],
      },
      child,
    );
    new TenantIngress(
      `${name}-ingress`,
      {
        ...common,
        plan: settings.plan,
        host: this.host,
        tenantDomain: args.tenantDomain,
        certificates: args.certificates,
        serviceName: app.serviceName,
        mqtt,
        suspended: settings.suspended,
      },
      // The engine looks at one resource after the other: what leads to the pods comes while they start.
      { ...child, dependsOn: [database] },
    );
    const backup = new TenantBackup(
      `${name}-backup`,
      {
        ...common,
        tenant: settings.name,
        image: args.images.backup,
        database: args.database,
        databaseSecret: database.backupSecretName,
        store: args.store,
        keepDays: PLANS[settings.plan].backupRetentionDays,
        secretGeneration: settings.secretGeneration,
      },
      { ...child, dependsOn: [network, database] },
    );
    if (replay) {
      new TenantReplay(
        `${name}-replay`,
        {
          ...common,
          tenant: settings.name,
          plan: settings.plan,
          image: args.images.tenantApp,
          filesName: app.filesName,
        },
        { ...child, dependsOn: [...bounds, network] },
      );
    }
    this.backupSchedule = backup.schedule;
    this.registerOutputs({ host: this.host, namespace: this.namespaceName });
  }
}
