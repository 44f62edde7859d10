import { setTimeout as sleep } from "node:timers/promises";

import { readImages } from "../images/build-images.ts";
import { PlatformError } from "../platform-error.ts";
import { ClusterApi, ClusterApiError, type KubernetesObject } from "./cluster-api.ts";
import { coredns } from "./coredns.ts";
import { traefik } from "./traefik.ts";
import { volumeClass } from "./volumes.ts";

/** The cluster that the add-ons are put into. */
export interface AddonsTarget {
  /** The machine's name, which is also the cluster's. */
  readonly name: string;
  /** Kubeconfig of an administrator. */
  readonly kubeconfigPath: string;
  readonly machineAddress: string;
  /** Address of the Service `kube-dns`, which the kubelet tells every pod. */
  readonly clusterDnsAddress: string;
  readonly podCidr: string;
  readonly serviceCidr: string;
  /** Domain of the machines' names. */
  readonly domain: string;
}

/** A node that has just come up needs a while for its first pods. */
const READY_TIMEOUT_MS = 60_000;
const POLL_MS = 100;

/**
 * Gives a cluster what K3s ships and a bare Kubernetes lacks: name server, ingress and volumes. Returns when all of
 * them are ready. Applying the same again changes nothing.
 *
 * @throws PlatformError naming the add-on and what its pod waits for, after a minute
 */
export async function applyAddons(target: AddonsTarget): Promise<void> {
  const images = await readImages();
  const imageOf = (name: keyof typeof images): string =>
    `${images[name].reference}@${images[name].digest}`;
  const objects = [
    ...coredns(target, imageOf("coredns")),
    ...(await traefik(target, imageOf("traefik"))),
    ...volumeClass(),
  ];
  const deadline = performance.now() + READY_TIMEOUT_MS;
  const api = await ClusterApi.open(target.kubeconfigPath);
  try {
    await Promise.all(
      objects.map(async (object) => {
        await applied(api, target, object, deadline);
        if (object.kind === "Deployment" || object.kind === "CustomResourceDefinition") {
          await ready(api, target, object, deadline);
        }
      }),
    );
  } finally {
    api.close();
  }
}

/** Applies, and again while the API server is only just coming up: its own namespace may not be there yet. */
async function applied(
  api: ClusterApi,
  target: AddonsTarget,
  object: KubernetesObject,
  deadline: number,
): Promise<void> {
  for (;;) {
    try {
      await api.apply(object);
      return;
    } catch (error) {
      // A class cannot be changed, only made anew; volumes know it by its name alone.
      if (object.kind === "StorageClass" && isInvalid(error) && performance.now() < deadline) {
        await api.remove(object);
        continue;
      }
      if (!isPassing(error) || performance.now() > deadline) {
        const reason = error instanceof Error ? error.message : String(error);
        throw new PlatformError(
          `Add-on object "${object.kind} ${object.metadata.name}" in cluster "${target.name}": ` +
            `the API server must take it, got "${reason}". Run "npm stop" and "npm start".`,
          { cause: error },
        );
      }
      await sleep(POLL_MS);
    }
  }
}

const NETWORK_ERRORS = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "EHOSTUNREACH",
  "EPIPE",
  "ETIMEDOUT",
]);

function isPassing(error: unknown): boolean {
  if (error instanceof ClusterApiError) {
    return [404, 409, 429].includes(error.status) || error.status >= 500;
  }
  return NETWORK_ERRORS.has((error as NodeJS.ErrnoException).code ?? "");
}

function isInvalid(error: unknown): boolean {
  return error instanceof ClusterApiError && error.status === 422;
}

interface Status {
  readonly metadata?: { readonly generation?: number };
  readonly status?: {
    readonly observedGeneration?: number;
    readonly replicas?: number;
    readonly updatedReplicas?: number;
    readonly availableReplicas?: number;
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
  };
}

async function ready(
  api: ClusterApi,
  target: AddonsTarget,
  object: KubernetesObject,
  deadline: number,
): Promise<void> {
  while (!isReady(object.kind, (await api.read(object)) as Status)) {
    if (performance.now() > deadline) {
      throw new PlatformError(
        `Add-on "${object.metadata.name}" in cluster "${target.name}": must be ready within ` +
          `${READY_TIMEOUT_MS / 1000} s, got ${await waitingFor(api, object)}. ` +
          `Look with "kubectl -n ${object.metadata.namespace ?? "default"} describe pods".`,
      );
    }
    await sleep(POLL_MS);
  }
}

function isReady(kind: string, { metadata, status }: Status): boolean {
  if (kind === "CustomResourceDefinition") {
    return (status?.conditions ?? []).some(
      (condition) => condition.type === "Established" && condition.status === "True",
    );
  }
  return (
    status?.observedGeneration === metadata?.generation &&
    status?.replicas === 1 &&
    status.updatedReplicas === 1 &&
    status.availableReplicas === 1
  );
}

interface Pod {
  readonly status?: {
    readonly phase?: string;
    readonly containerStatuses?: readonly {
      readonly state?: {
        readonly waiting?: { readonly reason?: string; readonly message?: string };
      };
    }[];
  };
}

/** What keeps a Deployment's pod, in words. */
async function waitingFor(api: ClusterApi, object: KubernetesObject): Promise<string> {
  if (object.kind !== "Deployment") return "not established";
  const { selector } = object["spec"] as {
    selector: { matchLabels: { readonly [name: string]: string } };
  };
  const namespace = object.metadata.namespace ?? "default";
  const pods = (await api.list("v1", "Pod", namespace, selector.matchLabels)) as Pod[];
  const [pod] = pods;
  if (pod === undefined) return "no pod";
  const waiting = pod.status?.containerStatuses?.[0]?.state?.waiting;
  return waiting === undefined
    ? `a pod that is ${pod.status?.phase ?? "unknown"} and not ready`
    : `${waiting.reason ?? "a waiting pod"}${waiting.message === undefined ? "" : ` (${waiting.message})`}`;
}
