import { createHash } from "node:crypto";
import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import * as random from "@pulumi/random";
import { VOLUME_CLASS, volumeAhead } from "../model/encrypted-storage.ts";
import { COMPONENT_LABEL, CONTROL_PLANE_NAMESPACE } from "../model/labels.ts";
import { APP_PORT } from "../model/network.ts";
import { CONTROL_PLANE_HOSTS } from "../model/panels.ts";
import {
  CONTAINER_SECURITY,
  containerResources,
  POD_SECURITY,
  SECRET_FILE_MODE,
} from "../model/pod.ts";

/** What the image registry needs to know. */
export interface RegistryArgs {
  readonly namespace: k8s.core.v1.Namespace;
  readonly labels: Readonly<Record<string, string>>;
  /** Image by digest. */
  readonly image: string;
  /** Name of the master's node. @default the volume waits for the first pod */
  readonly nodeName: string | undefined;
  /** Whether the volume refuses to be deleted. */
  readonly protectData: boolean;
}

/** Claim on the volume that holds the images. */
export const REGISTRY_CLAIM = "registry";

/** The login of who pushes and pulls. */
const USER = "fleet";
/** Images of a few products, a few dozen versions each. */
const VOLUME_GIB = 20;
const MEMORY_MIB = 192;

const CONFIGURATION = {
  version: 0.1,
  log: { level: "warn", accesslog: { disabled: true } },
  storage: {
    filesystem: { rootdirectory: "/var/lib/registry" },
    // An image that a pod may still name is not deleted by whoever can push.
    delete: { enabled: false },
    maintenance: { uploadpurging: { enabled: true, age: "24h", interval: "6h", dryrun: false } },
  },
  http: { addr: `:${APP_PORT}`, relativeurls: true },
  auth: { htpasswd: { realm: "fleet", path: "/run/secrets/registry/htpasswd" } },
};
/** JSON is YAML. */
const CONFIGURATION_TEXT = JSON.stringify(CONFIGURATION, undefined, 2);
/** By its content: pods are made anew where it changes. */
const CONFIGURATION_NAME = `registry-${createHash("sha256").update(CONFIGURATION_TEXT).digest("hex").slice(0, 8)}`;

/**
 * The registry that holds the fleet's images, behind the master's ingress.
 *
 * Give it the master's providers with `opts.providers`. Holds: nobody reads or writes without the
 * password, which exists in clear in one Secret of the control plane's namespace and nowhere else; the
 * registry itself knows its bcrypt hash; no image is deleted; the pod reaches nothing. TLS ends at the
 * ingress ({@link ControlPlaneIngress}).
 */
export class Registry extends pulumi.ComponentResource {
  constructor(name: string, args: RegistryArgs, opts?: pulumi.ComponentResourceOptions) {
    super("fluxbilling:fleet:Registry", name, {}, opts);
    const child = { parent: this };
    const placed = { ...child, dependsOn: [args.namespace], deletedWith: args.namespace };
    const selector = {
      "app.kubernetes.io/name": CONTROL_PLANE_HOSTS.registry,
      [COMPONENT_LABEL]: "registry",
    };
    const labels = { ...args.labels, ...selector };
    const metadata = (objectName: string): k8s.types.input.meta.v1.ObjectMeta => ({
      name: objectName,
      namespace: CONTROL_PLANE_NAMESPACE,
      labels,
    });
    const password = new random.RandomPassword(
      `${name}-password`,
      { length: 32, special: false },
      child,
    );
    // Deleted by themselves: immutable, they must be gone before the password is.
    const secret = { ...child, dependsOn: [args.namespace] };
    new k8s.core.v1.Secret(
      `${name}-login`,
      {
        metadata: metadata("registry-login-1"),
        type: "kubernetes.io/basic-auth",
        immutable: true,
        stringData: { username: USER, password: password.result },
      },
      secret,
    );
    const htpasswd = new k8s.core.v1.Secret(
      `${name}-htpasswd`,
      {
        metadata: metadata("registry-htpasswd-1"),
        immutable: true,
        stringData: { htpasswd: pulumi.interpolate`${USER}:${password.bcryptHash}\n` },
      },
      secret,
    );
    const configuration = new k8s.core.v1.ConfigMap(
      `${name}-configuration`,
      {
        metadata: metadata(CONFIGURATION_NAME),
        immutable: true,
        data: { "config.yml": CONFIGURATION_TEXT },
      },
      placed,
    );
    const images = new k8s.core.v1.PersistentVolumeClaim(
      `${name}-images`,
      {
        metadata: {
          ...metadata(REGISTRY_CLAIM),
          annotations: { "pulumi.com/skipAwait": "true", ...volumeAhead(args.nodeName) },
        },
        spec: {
          accessModes: ["ReadWriteOnce"],
          storageClassName: VOLUME_CLASS,
          resources: { requests: { storage: `${VOLUME_GIB}Gi` } },
        },
      },
      { ...placed, ignoreChanges: ["spec.resources"], protect: args.protectData },
    );
    const account = new k8s.core.v1.ServiceAccount(
      `${name}-account`,
      { metadata: metadata("registry"), automountServiceAccountToken: false },
      placed,
    );
    new k8s.apps.v1.Deployment(
      `${name}-deployment`,
      {
        metadata: metadata("registry"),
        spec: {
          replicas: 1,
          revisionHistoryLimit: 2,
          progressDeadlineSeconds: 120,
          selector: { matchLabels: selector },
          // Its volume belongs to one pod at a time.
          strategy: { type: "Recreate" },
          template: { metadata: { labels }, spec: podSpec(args.image) },
        },
      },
      {
        ...placed,
        dependsOn: [args.namespace, account, images, configuration, htpasswd],
        customTimeouts: { create: "3m", update: "3m" },
      },
    );
    this.registerOutputs({});
  }
}

function podSpec(image: string): k8s.types.input.core.v1.PodSpec {
  const probe = {
    httpGet: { path: "/", port: APP_PORT },
    periodSeconds: 10,
    timeoutSeconds: 3,
    failureThreshold: 3,
  };
  return {
    serviceAccountName: "registry",
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    securityContext: POD_SECURITY,
    terminationGracePeriodSeconds: 15,
    containers: [
      {
        name: "registry",
        image,
        imagePullPolicy: "IfNotPresent",
        command: ["/bin/registry", "serve", "/etc/registry/config.yml"],
        securityContext: CONTAINER_SECURITY,
        resources: containerResources(20, 500, MEMORY_MIB),
        ports: [{ name: "http", containerPort: APP_PORT, protocol: "TCP" }],
        startupProbe: { ...probe, periodSeconds: 1, failureThreshold: 60 },
        readinessProbe: probe,
        livenessProbe: probe,
        // It would look for a collector of traces else.
        env: [{ name: "OTEL_TRACES_EXPORTER", value: "none" }],
        volumeMounts: [
          { name: "configuration", mountPath: "/etc/registry", readOnly: true },
          { name: "htpasswd", mountPath: "/run/secrets/registry", readOnly: true },
          { name: "images", mountPath: "/var/lib/registry" },
        ],
      },
    ],
    volumes: [
      { name: "configuration", configMap: { name: CONFIGURATION_NAME } },
      {
        name: "htpasswd",
        secret: { secretName: "registry-htpasswd-1", defaultMode: SECRET_FILE_MODE },
      },
      { name: "images", persistentVolumeClaim: { claimName: REGISTRY_CLAIM } },
    ],
  };
}
