/** What rules read of Kubernetes objects: every field may be missing, whatever the API says. */
export interface ObjectMetadata {
  readonly name?: string;
  readonly namespace?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** A label selector. */
export interface Selector {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly unknown[];
}

/** One side of an allowed flow. */
export interface NetworkPeer {
  readonly ipBlock?: { readonly cidr?: string; readonly except?: readonly string[] };
  readonly namespaceSelector?: Selector;
  readonly podSelector?: Selector;
}

/** A NetworkPolicy's `spec`. */
export interface NetworkPolicySpec {
  readonly podSelector?: Selector;
  readonly policyTypes?: readonly string[];
  readonly ingress?: readonly { readonly from?: readonly NetworkPeer[] }[];
  readonly egress?: readonly {
    readonly to?: readonly NetworkPeer[];
    readonly ports?: readonly unknown[];
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
  readonly ports?: readonly { readonly hostPort?: number }[];
  readonly securityContext?: {
    readonly allowPrivilegeEscalation?: boolean;
    readonly privileged?: boolean;
    readonly readOnlyRootFilesystem?: boolean;
    readonly runAsNonRoot?: boolean;
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
    readonly seccompProfile?: { readonly type?: string };
  };
  readonly containers?: readonly Container[];
  readonly initContainers?: readonly Container[];
  readonly ephemeralContainers?: readonly Container[];
  readonly volumes?: readonly Readonly<Record<string, unknown>>[];
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

interface Nested {
  readonly spec?: {
    readonly template?: { readonly spec?: PodSpec };
    readonly jobTemplate?: { readonly spec?: { readonly template?: { readonly spec?: PodSpec } } };
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
