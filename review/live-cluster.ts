import { createHmac, randomBytes } from "node:crypto";
import { CoreV1Api, KubeConfig, KubernetesObjectApi } from "@kubernetes/client-node";
import { FLEET } from "../model/exceptions.ts";
import {
  IDENTITY_ANNOTATION,
  LOCATION_LABEL,
  MQTT_ANNOTATION,
  PLAN_LABEL,
  REPLAY_ANNOTATION,
  TENANT_LABEL,
  TENANT_NAMESPACE_PREFIX,
  ZONE_LABEL,
} from "../model/labels.ts";
import type { Subject } from "../policies/rule.ts";
import { TENANT_TYPE } from "../policies/tenant-stack.ts";
import type { Scope } from "./assess.ts";

/** An object as the API answers it. */
export interface LiveObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly resourceVersion?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly ownerReferences?: readonly unknown[];
  };
  readonly [field: string]: unknown;
}

/** What is read: every kind that the pack knows, and those that it does not want to see. */
const KINDS: readonly (readonly [apiVersion: string, kind: string])[] = [
  ["v1", "Namespace"],
  ["v1", "Pod"],
  ["v1", "Service"],
  ["v1", "ServiceAccount"],
  ["v1", "ConfigMap"],
  ["v1", "Secret"],
  ["v1", "PersistentVolumeClaim"],
  ["v1", "ResourceQuota"],
  ["v1", "LimitRange"],
  ["v1", "ReplicationController"],
  ["apps/v1", "Deployment"],
  ["apps/v1", "StatefulSet"],
  ["apps/v1", "DaemonSet"],
  ["apps/v1", "ReplicaSet"],
  ["batch/v1", "CronJob"],
  ["batch/v1", "Job"],
  ["storage.k8s.io/v1", "StorageClass"],
  ["networking.k8s.io/v1", "NetworkPolicy"],
  ["networking.k8s.io/v1", "Ingress"],
  ["discovery.k8s.io/v1", "EndpointSlice"],
  ["rbac.authorization.k8s.io/v1", "Role"],
  ["rbac.authorization.k8s.io/v1", "RoleBinding"],
  ["rbac.authorization.k8s.io/v1", "ClusterRoleBinding"],
  ["traefik.io/v1alpha1", "IngressRoute"],
  ["traefik.io/v1alpha1", "IngressRouteTCP"],
  ["traefik.io/v1alpha1", "IngressRouteUDP"],
  ["traefik.io/v1alpha1", "Middleware"],
  ["traefik.io/v1alpha1", "TLSOption"],
  ["traefik.io/v1alpha1", "TLSStore"],
];

/** Namespaces of the cluster's own services: the distribution's, not this program's. */
const SYSTEM = /^(kube-.*|default|local-path-storage)$/;

/** Everything of a cluster that a review looks at, as it is now. */
export async function liveObjects(kubeconfig: string): Promise<readonly LiveObject[]> {
  const api = KubernetesObjectApi.makeApiClient(opened(kubeconfig));
  const lists = await Promise.all(
    KINDS.map(async ([apiVersion, kind]) => {
      const { items } = (await api.list(apiVersion, kind)) as unknown as {
        readonly items: readonly Omit<LiveObject, "apiVersion" | "kind">[];
      };
      // Items of a list come without their kind.
      return items.map((item) => plain({ ...item, apiVersion, kind }));
    }),
  );
  return lists.flat().filter(isOurs);
}

function opened(kubeconfig: string): KubeConfig {
  const config = new KubeConfig();
  config.loadFromString(kubeconfig);
  return config;
}

/** Where the volumes of a cluster lie on its machine, by their names. */
export async function liveVolumes(kubeconfig: string): Promise<Readonly<Record<string, string>>> {
  const { items } = await opened(kubeconfig).makeApiClient(CoreV1Api).listPersistentVolume();
  return Object.fromEntries(
    items.map(({ metadata, spec }) => [
      metadata?.name ?? "",
      spec?.local?.path ?? spec?.hostPath?.path ?? "elsewhere",
    ]),
  );
}

/** Type of the subject with what the nodes of a cluster send to each other by. */
export const NODES_TYPE = "live:kubernetes:Nodes";

/**
 * Where flannel writes by what a node's pods reach those of other nodes: its kube subnet manager takes the
 * annotation's name (flannel-io/flannel, pkg/subnet/kube/annotations.go) under the prefix that K3s gives it
 * (k3s-io/k3s, pkg/agent/flannel/flannel.go).
 */
const BACKEND_ANNOTATION = "flannel.alpha.coreos.com/backend-type";

/** By what each node of a cluster sends to the others, by the nodes' names; nothing where flannel says nothing. */
export async function liveNodes(kubeconfig: string, machine: string): Promise<Subject> {
  const { items } = await opened(kubeconfig).makeApiClient(CoreV1Api).listNode();
  const nodes = items.map(({ metadata }) => [
    metadata?.name ?? "",
    metadata?.annotations?.[BACKEND_ANNOTATION] ?? "nothing",
  ]);
  return {
    ...synthetic(NODES_TYPE, machine, { nodes: Object.fromEntries(nodes) as object }),
    urn: `cluster of ${machine}, nodes`,
  };
}

/** The client's classes as plain objects: dates as text, and words that JavaScript reserves as the API has them. */
export function plain(object: object): LiveObject {
  return JSON.parse(JSON.stringify(object), function (this: unknown, key, value: unknown) {
    const reserved = /^_(from|default|continue|enum|in|static)$/.exec(key)?.[1];
    if (reserved === undefined) {
      return value;
    }
    (this as Record<string, unknown>)[reserved] = value;
    return undefined;
  }) as LiveObject;
}

/** What the cluster makes by itself in every namespace, or out of another object, is left out. */
function isOurs({ kind, metadata, roleRef, subjects }: LiveObject): boolean {
  const { name, namespace = "", labels = {}, ownerReferences = [] } = metadata;
  if (ownerReferences.length > 0) {
    return false;
  }
  if (kind === "Namespace") {
    return !SYSTEM.test(name);
  }
  if (kind === "StorageClass") {
    return labels[LOCATION_LABEL] !== undefined;
  }
  if (kind === "ClusterRoleBinding") {
    return (
      labels["kubernetes.io/bootstrapping"] === undefined &&
      JSON.stringify([roleRef, subjects]).includes(TENANT_NAMESPACE_PREFIX)
    );
  }
  if (SYSTEM.test(namespace)) {
    // Of the system's namespaces what is the fleet's, what decides over tenants' hosts, and pods where none belong.
    return (
      labels[LOCATION_LABEL] !== undefined ||
      ["TLSOption", "TLSStore", "Middleware"].includes(kind) ||
      kind.startsWith("IngressRoute") ||
      (namespace === "default" &&
        ["Pod", "Deployment", "DaemonSet", "StatefulSet", "Job", "CronJob"].includes(kind))
    );
  }
  return !(
    (kind === "ConfigMap" && name === "kube-root-ca.crt") ||
    (kind === "ServiceAccount" && name === "default") ||
    (kind === "EndpointSlice" &&
      labels["endpointslice.kubernetes.io/managed-by"] === "endpointslice-controller.k8s.io")
  );
}

/** What a cluster's tenants are judged with beside what is in the cluster. */
export interface ClusterContext {
  /** Name of the machine, which is the location's or `master`. */
  readonly machine: string;
  readonly imageRegistries: readonly string[];
  /** Folders of the machine that are proved encrypted. */
  readonly encryptedFolders: readonly string[];
  /** Where the location's PostgreSQL is. */
  readonly database: { readonly host: string; readonly port: number };
}

/** The objects of a cluster as scopes: one for each tenant, and one for what tenants share. */
export function clusterScopes(
  objects: readonly LiveObject[],
  context: ClusterContext,
): readonly Scope[] {
  const namespaceOf = ({ kind, metadata }: LiveObject): string =>
    kind === "Namespace" ? metadata.name : (metadata.namespace ?? "");
  const groups = Map.groupBy(objects, (object) => {
    const namespace = namespaceOf(object);
    return namespace.startsWith(TENANT_NAMESPACE_PREFIX) ? namespace : "";
  });
  return [...groups].map(([namespace, group]): Scope => {
    const subjects = group.map((object) => subjectOf(object, context.machine));
    const { labels = {}, annotations = {} } =
      group.find(({ kind }) => kind === "Namespace")?.metadata ?? {};
    const described =
      namespace === ""
        ? [
            synthetic("fluxbilling:fleet:ClusterEdge", `${context.machine}-edge`, {
              imageRegistries: context.imageRegistries,
            }),
            synthetic("fluxbilling:fleet:EncryptedStorage", `${context.machine}-storage`, {
              folders: context.encryptedFolders,
            }),
          ]
        : [
            synthetic(TENANT_TYPE, namespace.slice(TENANT_NAMESPACE_PREFIX.length), {
              // As the namespace says it: nothing else in a cluster does.
              tenant: labels[TENANT_LABEL],
              plan: labels[PLAN_LABEL],
              zone: labels[ZONE_LABEL],
              location: labels[LOCATION_LABEL],
              imageRegistries: context.imageRegistries,
              identityKinds: annotations[IDENTITY_ANNOTATION]?.split(",") ?? [],
              mqtt: annotations[MQTT_ANNOTATION] === "true",
              replay: annotations[REPLAY_ANNOTATION] === "true",
            }),
            synthetic("pulumi:providers:postgresql", `${context.machine}-server`, context.database),
          ];
    return {
      source: "live",
      name: namespace === "" ? context.machine : `${context.machine}/${namespace}`,
      tenant: namespace === "" ? FLEET : namespace.slice(TENANT_NAMESPACE_PREFIX.length),
      subjects: [...described, ...subjects],
      readFrom: ({ urn }) => urn,
    };
  });
}

/** A live object as rules judge it. */
export function subjectOf(object: LiveObject, machine: string): Subject {
  const { apiVersion, kind, metadata } = object;
  return {
    type: typeOf(object),
    name:
      metadata.namespace === undefined ? metadata.name : `${metadata.namespace}/${metadata.name}`,
    urn: `cluster of ${machine}, ${apiVersion} ${kind} ${metadata.namespace ?? ""}/${metadata.name}, version ${metadata.resourceVersion ?? "none"}`,
    props: kind === "Secret" ? withoutContent(object) : object,
    provider: { name: `${machine}-cluster` },
    opts: { protect: false, ignoreChanges: [] },
  };
}

/** Pulumi's type of an object. */
export function typeOf({ apiVersion, kind }: Pick<LiveObject, "apiVersion" | "kind">): string {
  return `kubernetes:${apiVersion === "v1" ? "core/v1" : apiVersion}:${kind}`;
}

/** A Secret's keys with digests of their values: a review compares them and keeps none. */
function withoutContent(object: LiveObject): LiveObject {
  const data = (object["data"] ?? {}) as Readonly<Record<string, string>>;
  return {
    ...object,
    data: Object.fromEntries(Object.entries(data).map(([key, value]) => [key, digestOf(value)])),
  };
}

/** Keyed with a value that ends with this process, so that no digest can be looked up elsewhere. */
function digestOf(value: string): string {
  return createHmac("sha256", DIGEST_KEY).update(value).digest("hex");
}

const DIGEST_KEY = randomBytes(32);

/** What stands in a stack as a component or provider, told from where it shows. */
export function synthetic(type: string, name: string, props: object): Subject {
  return {
    type,
    name,
    urn: `${type} ${name}`,
    props,
    opts: { protect: false, ignoreChanges: [] },
  };
}
