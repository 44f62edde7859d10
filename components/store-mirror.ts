import type * as command from "@pulumi/command";
import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import * as tls from "@pulumi/tls";
import { mirrorCommand, mirrorPath } from "../model/backup-store.ts";
import { COMPONENT_LABEL, CONTROL_PLANE_NAMESPACE } from "../model/labels.ts";
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
import type { Zone } from "../model/zone.ts";
import { BackupStore } from "./backup-store.ts";
import type { Endpoint } from "./tenant-network.ts";
import { tcp } from "./tenant-network.ts";

/** One end of a mirror: a host's SSH, its key pinned. */
export interface MirrorEnd {
  readonly endpoint: Endpoint;
  /** Host key that it must show, without a comment. */
  readonly hostKey: string;
  /** Addresses from which it sees the master's pods, as CIDR. */
  readonly sourceRanges: readonly string[];
}

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
 * Give it the master's providers with `opts.providers`. Holds: the job's key can read the one and add to
 * the other, and only from the master; both host keys are pinned; each store counts the days that it
 * keeps dumps by itself, so that a store that was emptied empties no copy; copies stay in the zone.
 */
export class StoreMirror extends pulumi.ComponentResource {
  constructor(name: string, args: StoreMirrorArgs, opts?: pulumi.ComponentResourceOptions) {
    super(
      "fluxbilling:fleet:StoreMirror",
      name,
      { store: args.storeName, zone: args.zone, standbyZone: args.standbyZone },
      opts,
    );
    const child = { parent: this };
    const targetPath = mirrorPath(args.storeName);
    new BackupStore(
      `${name}-target`,
      {
        storeName: args.storeName,
        zone: args.standbyZone,
        connection: args.targetConnection,
        user: args.user,
        path: targetPath,
        authorityPublicKey: args.authority.publicKey,
        receiverFile: args.receiverFile,
        receiverSha256: args.receiverSha256,
      },
      child,
    );

    const placed = { ...child, dependsOn: [args.namespace], deletedWith: args.namespace };
    const objectName = `mirror-${args.storeName}`;
    const selector = { "app.kubernetes.io/name": objectName, [COMPONENT_LABEL]: "mirror" };
    const metadata = {
      name: objectName,
      namespace: CONTROL_PLANE_NAMESPACE,
      labels: { ...args.labels, ...selector },
    };
    const key = new tls.PrivateKey(`${name}-key`, { algorithm: "ED25519" }, child);
    const certificate = (side: "source" | "target", path: string): pulumi.Output<string> =>
      key.publicKeyOpenssh.apply((publicKey) =>
        args.authority.certify({
          publicKey,
          principal: args.user,
          forceCommand: mirrorCommand(path, side),
          sourceAddresses: args[side].sourceRanges,
          keyId: `mirror-${side}-${args.storeName}`,
          serial: 1,
        }),
      );
    const secret = new k8s.core.v1.Secret(
      `${name}-secret`,
      {
        metadata,
        stringData: {
          id_ed25519: key.privateKeyOpenssh,
          "source-cert.pub": certificate("source", args.path),
          "target-cert.pub": certificate("target", targetPath),
        },
      },
      { ...child, dependsOn: [args.namespace] },
    );
    const account = new k8s.core.v1.ServiceAccount(
      `${name}-account`,
      { metadata, automountServiceAccountToken: false },
      placed,
    );
    const network = new k8s.networking.v1.NetworkPolicy(
      `${name}-network`,
      {
        metadata,
        spec: {
          podSelector: { matchLabels: selector },
          policyTypes: ["Ingress", "Egress"],
          egress: [tcp(args.source.endpoint), tcp(args.target.endpoint)],
        },
      },
      placed,
    );
    new k8s.batch.v1.CronJob(
      `${name}-job`,
      {
        metadata,
        spec: {
          // Between two tenants' nights there is none; what is new since the last hour is little.
          schedule: "17 * * * *",
          timeZone: "Etc/UTC",
          concurrencyPolicy: "Forbid",
          startingDeadlineSeconds: 1800,
          successfulJobsHistoryLimit: 1,
          failedJobsHistoryLimit: 3,
          jobTemplate: {
            metadata: { labels: metadata.labels },
            spec: {
              // The next hour's run goes on where this one stopped.
              backoffLimit: 0,
              activeDeadlineSeconds: 7200,
              ttlSecondsAfterFinished: 172_800,
              template: { metadata: { labels: metadata.labels }, spec: podSpec(args, objectName) },
            },
          },
        },
      },
      { ...placed, dependsOn: [args.namespace, account, secret, network] },
    );
    this.registerOutputs({});
  }
}

function podSpec(args: StoreMirrorArgs, objectName: string): k8s.types.input.core.v1.PodSpec {
  const folder = "/run/secrets/mirror";
  const end = (prefix: string, side: "source" | "target"): { name: string; value: string }[] => [
    { name: `${prefix}_HOST`, value: args[side].endpoint.address },
    { name: `${prefix}_PORT`, value: String(args[side].endpoint.port) },
    { name: `${prefix}_USER`, value: args.user },
    { name: `${prefix}_HOST_KEY`, value: args[side].hostKey },
    { name: `${prefix}_KEY_FILE`, value: `${folder}/id_ed25519` },
    { name: `${prefix}_CERTIFICATE_FILE`, value: `${folder}/${side}-cert.pub` },
  ];
  return {
    serviceAccountName: objectName,
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    restartPolicy: "Never",
    securityContext: POD_SECURITY,
    containers: [
      {
        name: "mirror",
        image: args.image,
        imagePullPolicy: "IfNotPresent",
        command: ["/mirror"],
        securityContext: CONTAINER_SECURITY,
        resources: containerResources(
          BACKUP_CPU_REQUEST_MILLI,
          BACKUP_CPU_LIMIT_MILLI,
          BACKUP_MEMORY_MIB,
        ),
        env: [...end("SOURCE", "source"), ...end("TARGET", "target")],
        volumeMounts: [{ name: "mirror", mountPath: folder, readOnly: true }],
      },
    ],
    volumes: [
      { name: "mirror", secret: { secretName: objectName, defaultMode: SECRET_FILE_MODE } },
    ],
  };
}
