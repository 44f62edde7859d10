import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import * as tls from "@pulumi/tls";
import { backupSchedule } from "../model/backup-schedule.ts";
import { receiveCommand } from "../model/backup-store.ts";
import { COMPONENT_LABEL } from "../model/labels.ts";
import {
  BACKUP_CPU_LIMIT_MILLI,
  BACKUP_CPU_REQUEST_MILLI,
  BACKUP_MEMORY_MIB,
} from "../model/plan.ts";
import {
  CONTAINER_SECURITY,
  containerResources,
  POD_SECURITY,
  SECRET_FILE_MODE,
} from "../model/pod.ts";
import type { SshAuthority } from "../model/ssh-certificate.ts";
import { tenantNames } from "../model/tenant-name.ts";
import type { TenantName } from "../model/tenant-name.ts";
import type { Endpoint } from "./tenant-network.ts";

/** A backup store as a tenant's job sees it. */
export interface TenantBackupStore {
  readonly endpoint: Endpoint;
  /** Host key that the store must show, without a comment. */
  readonly hostKey: string;
  /** User that takes dumps in. */
  readonly user: string;
  /** Folder of all dumps. */
  readonly path: string;
  /** Certifies this tenant's key, for the time of this run. */
  readonly authority: SshAuthority;
  /** Public backup keys, "age1…", that dumps are encrypted to. */
  readonly recipients: readonly string[];
  /** Addresses from which the store sees this location's pods. */
  readonly sourceAddresses: readonly string[];
}

/** What a tenant's backup needs to know. */
export interface TenantBackupArgs {
  readonly tenant: TenantName;
  readonly namespace: k8s.core.v1.Namespace;
  readonly namespaceName: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Image by digest. */
  readonly image: string;
  readonly database: Endpoint;
  /** Secret with the backup role's password, by its plain name. */
  readonly databaseSecret: string;
  readonly store: TenantBackupStore;
  /** How long the store keeps each dump. */
  readonly keepDays: number;
  /** Raise by one to mint a new key. */
  readonly secretGeneration: number;
}

/**
 * The tenant's nightly dump, taken where the tenant lives and carried to its store over SSH.
 *
 * Holds: the dump leaves the pod encrypted, to keys whose private halves neither the tenant nor the
 * store has; the job's key opens one command on the store, for one tenant, from the location's own
 * addresses; the store's host key is pinned; two runs never overlap; the job has neither the
 * application's password nor its keys.
 */
export class TenantBackup extends pulumi.ComponentResource {
  /** When the job runs, in cron's words, UTC. */
  public readonly schedule: string;

  constructor(name: string, args: TenantBackupArgs, opts?: pulumi.ComponentResourceOptions) {
    const forceCommand = receiveCommand(args.store.path, args.tenant, args.keepDays);
    const sourceAddresses = args.store.sourceAddresses.map((address) => `${address}/32`);
    // What the certificate will say, plain: it is itself known only once its key is made.
    super(
      "fluxbilling:tenant:TenantBackup",
      name,
      { tenant: args.tenant, forceCommand, sourceAddresses },
      opts,
    );
    const placed = { parent: this, dependsOn: [args.namespace], deletedWith: args.namespace };
    const selector = { "app.kubernetes.io/name": "tenant-backup", [COMPONENT_LABEL]: "backup" };
    const labels = { ...args.labels, ...selector };
    const metadata = (objectName: string): k8s.types.input.meta.v1.ObjectMeta => ({
      name: objectName,
      namespace: args.namespaceName,
      labels,
    });
    this.schedule = backupSchedule(args.tenant);

    const key = new tls.PrivateKey(
      `${name}-key-${args.secretGeneration}`,
      { algorithm: "ED25519" },
      { parent: this },
    );
    const storeSecret = `store-${args.secretGeneration}`;
    const secret = new k8s.core.v1.Secret(
      `${name}-store`,
      {
        metadata: metadata(storeSecret),
        immutable: true,
        stringData: {
          id_ed25519: key.privateKeyOpenssh,
          "id_ed25519-cert.pub": key.publicKeyOpenssh.apply((publicKey) =>
            args.store.authority.certify({
              publicKey,
              principal: args.store.user,
              forceCommand,
              sourceAddresses,
              keyId: `backup-${args.tenant}`,
              serial: args.secretGeneration,
            }),
          ),
        },
      },
      // Deleted by itself, unlike what lies beside it: immutable, it must be gone before its key is.
      { parent: this, dependsOn: [args.namespace] },
    );
    const account = new k8s.core.v1.ServiceAccount(
      `${name}-account`,
      { metadata: metadata("backup"), automountServiceAccountToken: false },
      placed,
    );
    new k8s.batch.v1.CronJob(
      `${name}-job`,
      {
        metadata: metadata("backup"),
        spec: {
          schedule: this.schedule,
          timeZone: "Etc/UTC",
          concurrencyPolicy: "Forbid",
          startingDeadlineSeconds: 3600,
          successfulJobsHistoryLimit: 1,
          failedJobsHistoryLimit: 3,
          jobTemplate: {
            metadata: { labels },
            spec: {
              backoffLimit: 2,
              activeDeadlineSeconds: 3600,
              ttlSecondsAfterFinished: 172_800,
              template: { metadata: { labels }, spec: podSpec(args, storeSecret) },
            },
          },
        },
      },
      { ...placed, dependsOn: [args.namespace, account, secret] },
    );
    this.registerOutputs({ schedule: this.schedule });
  }
}

function podSpec(args: TenantBackupArgs, storeSecret: string): k8s.types.input.core.v1.PodSpec {
  const { database, backupRole } = tenantNames(args.tenant);
  const mounts = { database: args.databaseSecret, store: storeSecret };
  return {
    serviceAccountName: "backup",
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    restartPolicy: "Never",
    securityContext: POD_SECURITY,
    containers: [
      {
        name: "backup",
        image: args.image,
        imagePullPolicy: "IfNotPresent",
        securityContext: CONTAINER_SECURITY,
        resources: containerResources(
          BACKUP_CPU_REQUEST_MILLI,
          BACKUP_CPU_LIMIT_MILLI,
          BACKUP_MEMORY_MIB,
        ),
        env: [
          { name: "TENANT", value: args.tenant },
          { name: "DATABASE_HOST", value: args.database.address },
          { name: "DATABASE_PORT", value: String(args.database.port) },
          { name: "DATABASE_NAME", value: database },
          { name: "DATABASE_USER", value: backupRole },
          { name: "DATABASE_PASSWORD_FILE", value: "/run/secrets/database/password" },
          { name: "DATABASE_CA_FILE", value: "/run/secrets/database/ca.crt" },
          { name: "RECIPIENTS", value: args.store.recipients.join(",") },
          { name: "STORE_HOST", value: args.store.endpoint.address },
          { name: "STORE_PORT", value: String(args.store.endpoint.port) },
          { name: "STORE_USER", value: args.store.user },
          { name: "STORE_HOST_KEY", value: args.store.hostKey },
          { name: "STORE_KEY_FILE", value: "/run/secrets/store/id_ed25519" },
          { name: "STORE_CERTIFICATE_FILE", value: "/run/secrets/store/id_ed25519-cert.pub" },
        ],
        volumeMounts: Object.keys(mounts).map((volume) => ({
          name: volume,
          mountPath: `/run/secrets/${volume}`,
          readOnly: true,
        })),
      },
    ],
    volumes: Object.entries(mounts).map(([volume, secretName]) => ({
      name: volume,
      secret: { secretName, defaultMode: SECRET_FILE_MODE },
    })),
  };
}
