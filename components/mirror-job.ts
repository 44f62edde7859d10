import * as k8s from "@pulumi/kubernetes";
import type * as pulumi from "@pulumi/pulumi";
import * as tls from "@pulumi/tls";
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

/** An end, and what the job's key may do there. */
export interface MirrorAccess extends MirrorEnd {
  readonly user: string;
  /** The one command that the key runs, whatever it asks for. */
  readonly forceCommand: string;
}

/** What a mirror's job needs to know. */
export interface MirrorJobArgs {
  readonly objectName: string;
  /** Minute of each hour. */
  readonly minute: number;
  readonly program: "/mirror" | "/mirror-images";
  /** The control plane's namespace on the master. */
  readonly namespace: k8s.core.v1.Namespace;
  readonly labels: Readonly<Record<string, string>>;
  /** Image by digest. */
  readonly image: string;
  readonly authority: SshAuthority;
  /** The hosts that it reaches, and nothing else; what the program calls them. */
  readonly ends: Readonly<Partial<Record<"source" | "target", MirrorAccess>>>;
  /** A volume that it reads, and the variable that tells the program where. */
  readonly reads?: { readonly claimName: string; readonly variable: string };
}

const KEY_FOLDER = "/run/secrets/mirror";
const READ_FOLDER = "/var/lib/mirrored";

/**
 * Adds an hourly job of the master that carries things to another host over SSH, and its key.
 *
 * Holds: the key opens one command at each end, and only from the master; the host keys are pinned; the
 * job reaches its ends and nothing else.
 */
export function addMirrorJob(
  parent: pulumi.ComponentResource,
  name: string,
  args: MirrorJobArgs,
): void {
  const child = { parent };
  const { objectName } = args;
  const placed = { ...child, dependsOn: [args.namespace], deletedWith: args.namespace };
  const selector = { "app.kubernetes.io/name": objectName, [COMPONENT_LABEL]: "mirror" };
  const metadata = {
    name: objectName,
    namespace: CONTROL_PLANE_NAMESPACE,
    labels: { ...args.labels, ...selector },
  };
  const key = new tls.PrivateKey(`${name}-key`, { algorithm: "ED25519" }, child);
  const certificates = Object.entries(args.ends).map(
    ([side, end]): [string, pulumi.Output<string>] => [
      `${side}-cert.pub`,
      key.publicKeyOpenssh.apply((publicKey) =>
        args.authority.certify({
          publicKey,
          principal: end.user,
          forceCommand: end.forceCommand,
          sourceAddresses: end.sourceRanges,
          keyId: `${objectName}-${side}`,
          serial: 1,
        }),
      ),
    ],
  );
  const secret = new k8s.core.v1.Secret(
    `${name}-secret`,
    {
      metadata,
      stringData: { id_ed25519: key.privateKeyOpenssh, ...Object.fromEntries(certificates) },
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
        egress: Object.values(args.ends).map(({ endpoint }) => tcp(endpoint)),
      },
    },
    placed,
  );
  new k8s.batch.v1.CronJob(
    `${name}-job`,
    {
      metadata,
      spec: {
        schedule: `${args.minute} * * * *`,
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
            template: { metadata: { labels: metadata.labels }, spec: podSpec(args) },
          },
        },
      },
    },
    { ...placed, dependsOn: [args.namespace, account, secret, network] },
  );
}

function podSpec({
  objectName,
  image,
  program,
  ends,
  reads,
}: MirrorJobArgs): k8s.types.input.core.v1.PodSpec {
  const variables = Object.entries(ends).flatMap(([side, end]) => {
    const prefix = side.toUpperCase();
    return [
      { name: `${prefix}_HOST`, value: end.endpoint.address },
      { name: `${prefix}_PORT`, value: String(end.endpoint.port) },
      { name: `${prefix}_USER`, value: end.user },
      { name: `${prefix}_HOST_KEY`, value: end.hostKey },
      { name: `${prefix}_KEY_FILE`, value: `${KEY_FOLDER}/id_ed25519` },
      { name: `${prefix}_CERTIFICATE_FILE`, value: `${KEY_FOLDER}/${side}-cert.pub` },
    ];
  });
  return {
    serviceAccountName: objectName,
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    restartPolicy: "Never",
    securityContext: POD_SECURITY,
    containers: [
      {
        name: "mirror",
        image,
        imagePullPolicy: "IfNotPresent",
        command: [program],
        securityContext: CONTAINER_SECURITY,
        resources: containerResources(
          BACKUP_CPU_REQUEST_MILLI,
          BACKUP_CPU_LIMIT_MILLI,
          BACKUP_MEMORY_MIB,
        ),
        env: [
          ...variables,
          ...(reads === undefined ? [] : [{ name: reads.variable, value: READ_FOLDER }]),
        ],
        volumeMounts: [
          { name: "mirror", mountPath: KEY_FOLDER, readOnly: true },
          ...(reads === undefined
            ? []
            : [{ name: "mirrored", mountPath: READ_FOLDER, readOnly: true }]),
        ],
      },
    ],
    volumes: [
      { name: "mirror", secret: { secretName: objectName, defaultMode: SECRET_FILE_MODE } },
      ...(reads === undefined
        ? []
        : [
            {
              name: "mirrored",
              persistentVolumeClaim: { claimName: reads.claimName, readOnly: true },
            },
          ]),
    ],
  };
}
