import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { VOLUME_CLASS, volumeAhead } from "../model/encrypted-storage.ts";
import { COMPONENT_LABEL } from "../model/labels.ts";
import { APP_PORT, MQTT_PORT, MQTT_PORT_NAME } from "../model/network.ts";
import { PLANS, planVariables } from "../model/plan.ts";
import type { PlanName } from "../model/plan.ts";
import {
  CONTAINER_SECURITY,
  containerResources,
  POD_SECURITY,
  SECRET_FILE_MODE,
} from "../model/pod.ts";
import type { TenantSettings } from "../model/settings.ts";
import { tenantNames } from "../model/tenant-name.ts";
import type { TenantName } from "../model/tenant-name.ts";
import type { Endpoint } from "./tenant-network.ts";

/** What an application may show of one identity provider: everything but what it signs in there with. */
export type IdentityProvider = Readonly<Record<"kind" | "name", string>> &
  Readonly<Record<string, string>>;

/** What a tenant's application needs to know. */
export interface TenantAppArgs {
  readonly tenant: TenantName;
  readonly plan: PlanName;
  readonly namespace: k8s.core.v1.Namespace;
  readonly namespaceName: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly locationName: string;
  /** Name of the location's node. @default its volume waits for the first pod */
  readonly nodeName: string | undefined;
  /** Image by digest. */
  readonly image: string;
  /** Host under which the tenant is reached. */
  readonly host: string;
  /** Range of the addresses that the ingress calls from: whom it says that it calls for is believed (claim P12). */
  readonly proxyRange: string;
  readonly database: Endpoint;
  /** Who may sign in, and for how long. */
  readonly identity: Omit<TenantSettings["identity"], "providers">;
  readonly identityProviders: readonly IdentityProvider[];
  /** The relay for mail. @default the application sends none */
  readonly mail: TenantSettings["mail"];
  /** Secrets that the pods mount, by their plain names: each becomes the folder of its key here. */
  readonly secrets: {
    readonly database: string;
    readonly keys: string;
    readonly contract: string;
    /** Files `provider-<name>-id` and `provider-<name>-secret`, `mail-user` and `mail-password`. @default none are needed */
    readonly credentials?: string;
  };
  /** Whether the application speaks MQTT. */
  readonly mqtt: boolean;
  /** Whether the tenant is shut: no pods. */
  readonly suspended: boolean;
  /** Whether the volume refuses to be deleted. */
  readonly protectData: boolean;
  /** What must stand before a pod starts. */
  readonly beforePods: readonly pulumi.Resource[];
}

/**
 * The tenant's own process: pods, a volume for files, and a service inside the namespace.
 *
 * Holds: secrets reach the pods as files, never as variables; the pods are what Pod Security calls
 * restricted, with a read-only root and no token of the cluster; the image is named by digest.
 */
export class TenantApp extends pulumi.ComponentResource {
  /** Name of the service that the ingress calls. */
  public readonly serviceName: string;
  /** Name of the claim on the volume with the tenant's files. */
  public readonly filesName: string;

  constructor(name: string, args: TenantAppArgs, opts?: pulumi.ComponentResourceOptions) {
    super("fluxbilling:tenant:TenantApp", name, {}, opts);
    const placed = { parent: this, dependsOn: [args.namespace], deletedWith: args.namespace };
    // Deleted by themselves, unlike what lies beside them: the pods end before their database goes, and a namespace
    // with pods or volumes left in it looks again only after the longest time that they may take.
    const ended = { parent: this, dependsOn: [args.namespace] };
    const selector = { "app.kubernetes.io/name": "tenant-app", [COMPONENT_LABEL]: "app" };
    const labels = { ...args.labels, ...selector };
    const metadata = (
      objectName: string,
      annotations: Readonly<Record<string, string>> = {},
    ): k8s.types.input.meta.v1.ObjectMeta => ({
      name: objectName,
      namespace: args.namespaceName,
      labels,
      annotations,
    });
    // Nothing waits for these by themselves: the Deployment's pods being ready shows all of them.
    const unawaited = { "pulumi.com/skipAwait": "true" };

    const account = new k8s.core.v1.ServiceAccount(
      `${name}-account`,
      { metadata: metadata("app"), automountServiceAccountToken: false },
      placed,
    );
    this.filesName = "files";
    const files = new k8s.core.v1.PersistentVolumeClaim(
      `${name}-files`,
      {
        metadata: metadata(this.filesName, { ...unawaited, ...volumeAhead(args.nodeName) }),
        spec: {
          accessModes: ["ReadWriteOnce"],
          storageClassName: VOLUME_CLASS,
          resources: { requests: { storage: `${PLANS[args.plan].filesGib}Gi` } },
        },
      },
      {
        ...ended,
        // A volume keeps the size it was made with: it cannot shrink, and not every class can grow.
        ignoreChanges: ["spec.resources"],
        // The tenant's files: only an operation that says so may delete them.
        protect: args.protectData,
      },
    );
    new k8s.apps.v1.Deployment(
      `${name}-deployment`,
      {
        metadata: metadata("app"),
        spec: {
          replicas: args.suspended ? 0 : PLANS[args.plan].replicas,
          revisionHistoryLimit: 2,
          progressDeadlineSeconds: 120,
          selector: { matchLabels: selector },
          strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
          template: { metadata: { labels }, spec: podSpec(args) },
        },
      },
      {
        ...ended,
        dependsOn: [args.namespace, account, files, ...args.beforePods],
        // Longer than progressDeadlineSeconds: Kubernetes says first what keeps the pods from being ready.
        customTimeouts: { create: "3m", update: "3m" },
      },
    );
    this.serviceName = "app";
    new k8s.core.v1.Service(
      `${name}-service`,
      {
        metadata: metadata(this.serviceName, unawaited),
        spec: {
          type: "ClusterIP",
          selector,
          ports: [
            { name: "http", port: 80, targetPort: APP_PORT, protocol: "TCP" },
            ...(args.mqtt
              ? [{ name: MQTT_PORT_NAME, port: MQTT_PORT, targetPort: MQTT_PORT, protocol: "TCP" }]
              : []),
          ],
        },
      },
      placed,
    );
    this.registerOutputs({});
  }
}

function podSpec(args: TenantAppArgs): k8s.types.input.core.v1.PodSpec {
  const plan = PLANS[args.plan];
  const { database, ownerRole, appRole } = tenantNames(args.tenant);
  const probe = (path: string): k8s.types.input.core.v1.Probe => ({
    httpGet: { path, port: APP_PORT },
    periodSeconds: 10,
    timeoutSeconds: 3,
    failureThreshold: 3,
  });
  return {
    serviceAccountName: "app",
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    securityContext: POD_SECURITY,
    terminationGracePeriodSeconds: 15,
    containers: [
      {
        name: "app",
        image: args.image,
        imagePullPolicy: "IfNotPresent",
        securityContext: CONTAINER_SECURITY,
        resources: containerResources(
          plan.appCpuRequestMilli,
          plan.appCpuLimitMilli,
          plan.appMemoryMib,
        ),
        ports: [
          { name: "http", containerPort: APP_PORT, protocol: "TCP" },
          ...(args.mqtt
            ? [{ name: MQTT_PORT_NAME, containerPort: MQTT_PORT, protocol: "TCP" }]
            : []),
        ],
        env: [
          { name: "TENANT", value: args.tenant },
          { name: "PLAN", value: args.plan },
          { name: "LOCATION", value: args.locationName },
          { name: "PUBLIC_URL", value: `https://${args.host}` },
          { name: "TRUSTED_PROXIES", value: args.proxyRange },
          { name: "DATABASE_HOST", value: args.database.address },
          { name: "DATABASE_PORT", value: String(args.database.port) },
          { name: "DATABASE_NAME", value: database },
          { name: "DATABASE_USER", value: appRole },
          { name: "DATABASE_OWNER_ROLE", value: ownerRole },
          { name: "DATABASE_PASSWORD_FILE", value: "/run/secrets/database/password" },
          { name: "DATABASE_CA_FILE", value: "/run/secrets/database/ca.crt" },
          // While a rollout runs there is one pod more than the plan's.
          {
            name: "DATABASE_MAX_CONNECTIONS",
            value: String(Math.floor(plan.databaseConnections / (plan.replicas + 1))),
          },
          { name: "KEYS_DIRECTORY", value: "/run/secrets/keys" },
          { name: "CONTRACT_DIRECTORY", value: "/run/secrets/contract" },
          { name: "FILES_DIRECTORY", value: "/var/lib/app" },
          ...variables(args),
        ],
        readinessProbe: { ...probe("/ready"), periodSeconds: 1, failureThreshold: 5 },
        // A process has a minute to start. A startup probe would hold the first question for readiness back by up to its
        // whole period; without one the kubelet asks as soon as it knows that the process runs.
        livenessProbe: { ...probe("/live"), initialDelaySeconds: 60 },
        // The ingress learns of the end up to three seconds later and sends requests until then.
        lifecycle: { preStop: { sleep: { seconds: 3 } } },
        volumeMounts: [
          ...Object.keys(args.secrets).map((volume) => ({
            name: volume,
            mountPath: `/run/secrets/${volume}`,
            readOnly: true,
          })),
          { name: "files", mountPath: "/var/lib/app" },
          { name: "temporary", mountPath: "/tmp" },
        ],
      },
    ],
    volumes: [
      ...Object.entries(args.secrets).map(([volume, secretName]) => ({
        name: volume,
        secret: { secretName, defaultMode: SECRET_FILE_MODE },
      })),
      { name: "files", persistentVolumeClaim: { claimName: "files" } },
      { name: "temporary", emptyDir: { sizeLimit: "128Mi" } },
    ],
  };
}

/** What the application is told about people, mail, MQTT and what the plan meters. */
function variables({
  plan,
  identity,
  identityProviders,
  mail,
  mqtt,
  secrets,
}: TenantAppArgs): readonly k8s.types.input.core.v1.EnvVar[] {
  const values: Readonly<Record<string, string | number>> = {
    ...planVariables(PLANS[plan]),
    REGISTRATION: identity.registration,
    SECOND_FACTOR_ROLES: identity.secondFactor.join(","),
    SESSION_DAYS: identity.sessionDays,
    // Lifetimes of access and refresh tokens; a variable that says TOKEN is taken for one.
    ACCESS_MINUTES: identity.accessTokenMinutes,
    REFRESH_DAYS: identity.refreshTokenDays,
    ...(identityProviders.length === 0
      ? {}
      : { IDENTITY_PROVIDERS: JSON.stringify(identityProviders) }),
    ...(mail === undefined
      ? {}
      : {
          MAIL_HOST: mail.host,
          MAIL_PORT: mail.port,
          MAIL_FROM: mail.from,
          MAIL_STARTTLS: "required",
        }),
    ...(mqtt ? { MQTT_PORT } : {}),
    ...(secrets.credentials === undefined
      ? {}
      : { CREDENTIALS_DIRECTORY: "/run/secrets/credentials" }),
  };
  return Object.entries(values).map(([name, value]) => ({ name, value: String(value) }));
}
