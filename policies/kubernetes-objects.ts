/** What rules read of Kubernetes objects: every field may be missing, whatever the API says. */
export interface ObjectMetadata {
  readonly name?: string;
  readonly namespace?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** One line of a selector's `matchExpressions`. */
export interface Expression {
  readonly key?: string;
  readonly operator?: string;
  readonly values?: readonly string[];
}

/** A label selector. */
export interface Selector {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly Expression[];
}

/** One side of an allowed flow. */
export interface NetworkPeer {
  readonly ipBlock?: { readonly cidr?: string; readonly except?: readonly string[] };
  readonly namespaceSelector?: Selector;
  readonly podSelector?: Selector;
}

/** A port, or a range of ports, of an allowed flow. */
export interface NetworkPort {
  readonly protocol?: string;
  readonly port?: number | string;
  readonly endPort?: number;
}

/** A NetworkPolicy's `spec`. */
export interface NetworkPolicySpec {
  readonly podSelector?: Selector;
  readonly policyTypes?: readonly string[];
  readonly ingress?: readonly {
    readonly from?: readonly NetworkPeer[];
    readonly ports?: readonly NetworkPort[];
  }[];
  readonly egress?: readonly {
    readonly to?: readonly NetworkPeer[];
    readonly ports?: readonly NetworkPort[];
  }[];
}

/** What rules read of a container. */
export interface Container {
  readonly name?: string;
  readonly image?: string;
  readonly env?: readonly {
    readonly name?: string;
    readonly value?: string;
    readonly valueFrom?: unknown;
  }[];
  readonly envFrom?: readonly unknown[];
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly resources?: {
    readonly requests?: Readonly<Record<string, string>>;
    readonly limits?: Readonly<Record<string, string>>;
  };
  readonly ports?: readonly { readonly hostPort?: number }[];
  readonly volumeMounts?: readonly { readonly name?: string; readonly readOnly?: boolean }[];
  readonly volumeDevices?: readonly unknown[];
  readonly securityContext?: {
    readonly allowPrivilegeEscalation?: boolean;
    readonly privileged?: boolean;
    readonly readOnlyRootFilesystem?: boolean;
    readonly runAsNonRoot?: boolean;
    readonly runAsUser?: number;
    readonly procMount?: string;
    readonly seccompProfile?: { readonly type?: string };
    readonly seLinuxOptions?: unknown;
    readonly windowsOptions?: { readonly hostProcess?: boolean };
    readonly capabilities?: { readonly add?: readonly string[]; readonly drop?: readonly string[] };
  };
}

/** What rules read of a pod. */
export interface PodSpec {
  readonly automountServiceAccountToken?: boolean;
  readonly hostNetwork?: boolean;
  readonly hostPID?: boolean;
  readonly hostIPC?: boolean;
  readonly securityContext?: {
    readonly runAsNonRoot?: boolean;
    readonly runAsUser?: number;
    readonly seccompProfile?: { readonly type?: string };
    readonly seLinuxOptions?: unknown;
    readonly sysctls?: readonly { readonly name?: string }[];
    readonly windowsOptions?: { readonly hostProcess?: boolean };
  };
  readonly containers?: readonly Container[];
  readonly initContainers?: readonly Container[];
  readonly ephemeralContainers?: readonly Container[];
  readonly volumes?: readonly (Readonly<Record<string, unknown>> & {
    readonly ephemeral?: {
      readonly volumeClaimTemplate?: { readonly spec?: { readonly storageClassName?: string } };
    };
  })[];
}

/** Kinds of volume that Pod Security's level `restricted` allows, and `name`. */
export const RESTRICTED_VOLUMES = [
  "name",
  "configMap",
  "csi",
  "downwardAPI",
  "emptyDir",
  "ephemeral",
  "persistentVolumeClaim",
  "projected",
  "secret",
] as const;

const TEMPLATED =
  /^kubernetes:(apps\/[^:]+:(Deployment|StatefulSet|DaemonSet|ReplicaSet)|batch\/[^:]+:Job|core\/v1:ReplicationController)$/;

interface Template {
  readonly metadata?: ObjectMetadata;
  readonly spec?: PodSpec;
}

interface Nested {
  readonly spec?: {
    readonly template?: Template;
    readonly jobTemplate?: { readonly spec?: { readonly template?: Template } };
  };
}

/** Whether a type makes pods. */
export function makesPods(type: string): boolean {
  return (
    TEMPLATED.test(type) ||
    type === "kubernetes:core/v1:Pod" ||
    /^kubernetes:batch\/[^:]+:CronJob$/.test(type)
  );
}

/** The pods that a resource makes; `undefined` where it says nothing about them. */
export function podSpecOf(type: string, props: unknown): PodSpec | undefined {
  const { spec } = props as Nested;
  if (type === "kubernetes:core/v1:Pod") {
    return spec as PodSpec | undefined;
  }
  return TEMPLATED.test(type) ? spec?.template?.spec : spec?.jobTemplate?.spec?.template?.spec;
}

/** The labels of the pods that a resource makes. */
export function podLabelsOf(type: string, props: unknown): Readonly<Record<string, string>> {
  const { spec } = props as Nested;
  const metadata =
    type === "kubernetes:core/v1:Pod"
      ? metadataOf(props)
      : TEMPLATED.test(type)
        ? spec?.template?.metadata
        : spec?.jobTemplate?.spec?.template?.metadata;
  return metadata?.labels ?? {};
}

/** Every container of a pod, whatever its kind. */
export function containersOf(pod: PodSpec): readonly Container[] {
  return [
    ...(pod.containers ?? []),
    ...(pod.initContainers ?? []),
    ...(pod.ephemeralContainers ?? []),
  ];
}

/** The metadata of a Kubernetes object. */
export function metadataOf(props: unknown): ObjectMetadata {
  return (props as { readonly metadata?: ObjectMetadata }).metadata ?? {};
}

/** Whether a selector selects everything. */
export function selectsAll(selector: Selector | undefined): boolean {
  return (
    selector === undefined ||
    (Object.keys(selector.matchLabels ?? {}).length === 0 &&
      (selector.matchExpressions ?? []).length === 0)
  );
}

/** Whether a selector selects a pod by its labels. An expression that is not understood selects nothing. */
export function selects(
  selector: Selector | undefined,
  labels: Readonly<Record<string, string>>,
): boolean {
  return (
    Object.entries(selector?.matchLabels ?? {}).every(([key, value]) => labels[key] === value) &&
    (selector?.matchExpressions ?? []).every((expression) => matches(expression, labels))
  );
}

function matches(
  { key = "", operator, values = [] }: Expression,
  labels: Readonly<Record<string, string>>,
): boolean {
  const value = labels[key];
  switch (operator) {
    case "In":
      return value !== undefined && values.includes(value);
    case "NotIn":
      return value === undefined || !values.includes(value);
    case "Exists":
      return value !== undefined;
    case "DoesNotExist":
      return value === undefined;
    case undefined:
    default:
      return false;
  }
}

/** Whether a namespace is a tenant's: by its label or by its name. */
export function isTenantNamespace(
  metadata: ObjectMetadata,
  tenantLabel: string,
  prefix: string,
): boolean {
  return metadata.labels?.[tenantLabel] !== undefined || (metadata.name ?? "").startsWith(prefix);
}

/** Whether a type is Traefik's, of a kind, in any version. */
export function isTraefik(type: string, kind: string): boolean {
  return new RegExp(`^kubernetes:traefik\\.(io|containo\\.us)/[^:]+:${kind}$`).test(type);
}

/** What rules read of a route of Traefik's, over HTTP or TCP. */
export interface RouteSpec {
  readonly entryPoints?: readonly string[];
  readonly tls?: { readonly options?: unknown; readonly passthrough?: boolean };
  readonly routes?: readonly {
    readonly match?: string;
    readonly middlewares?: readonly RouteReference[];
    readonly services?: readonly (RouteReference & { readonly port?: number | string })[];
  }[];
}

/** Something that a route names. */
export interface RouteReference {
  readonly name?: string;
  readonly namespace?: string;
}

/** Whether a type is a route of Traefik's that hosts are named in: over HTTP or TCP. */
export function isRoute(type: string): boolean {
  return isTraefik(type, "IngressRoute") || isTraefik(type, "IngressRouteTCP");
}

/** The `spec` of a route. */
export function routeSpecOf(props: unknown): RouteSpec {
  return (props as { readonly spec?: RouteSpec }).spec ?? {};
}

const UNITS: Readonly<Record<string, number>> = {
  m: 1e-3,
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
};

/** The number that a quantity means: `20m` is 0.02, `1Gi` is 1073741824. `undefined` where it is none. */
export function quantity(text: string): number | undefined {
  const groups = /^(?<number>\d+(?:\.\d+)?)(?<unit>[a-zA-Z]*)$/.exec(text)?.groups;
  const unit = UNITS[groups?.["unit"] ?? "none"];
  return groups === undefined || unit === undefined ? undefined : Number(groups["number"]) * unit;
}

/** Whether a NetworkPolicy shuts every pod of its namespace both ways. */
export function deniesAll(spec: NetworkPolicySpec | undefined): boolean {
  return (
    spec !== undefined &&
    selectsAll(spec.podSelector) &&
    (spec.policyTypes ?? []).includes("Ingress") &&
    (spec.policyTypes ?? []).includes("Egress") &&
    (spec.ingress ?? []).length === 0 &&
    (spec.egress ?? []).length === 0
  );
}
