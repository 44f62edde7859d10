/** When an object counts as done: what the official plugin waits for, kind by kind, and why it is not there yet. */
import type { Properties, Value } from "../provider.ts";
import { deepEqual, isObject, mapObject } from "../values.ts";
import type { ApiServer } from "./api-server.ts";
import { ApiError, Unreachable } from "./api-server.ts";
import { objects, pick, pickText, text } from "./pick.ts";
import { canonicalQuantity } from "./quantity.ts";

/** How far an object is. `message` says what is missing, and is empty once nothing is. */
export interface Readiness {
  readonly ready: boolean;
  /** It will not become ready any more. */
  readonly failed?: boolean;
  readonly message: string;
}

interface Rule {
  readonly timeoutSeconds: number;
  /** Also looked at by a refresh. */
  readonly onRead: boolean;
  /** It depends on other objects too, so it is asked again from time to time. */
  readonly polls?: boolean;
  readonly check: (object: Properties, api: ApiServer) => Readiness | Promise<Readiness>;
}

const READY: Readiness = { ready: true, message: "" };
/** Not ready, and why. */
export const notYet = (message: string): Readiness => ({ ready: false, message });

function count(object: Properties, ...path: string[]): number {
  const value = pick(object, ...path);
  return typeof value === "number" ? value : 0;
}

function condition(object: Properties, type: string): Properties | undefined {
  return objects(pick(object, "status", "conditions")).find((entry) => entry["type"] === type);
}

/** Whether a condition is met. */
export function isTrue(entry: Properties | undefined): boolean {
  return entry?.["status"] === "True";
}

/** A condition in the controller's own words. */
export function said(entry: Properties | undefined, otherwise: string): string {
  if (entry === undefined) return otherwise;
  return `[${text(entry["reason"])}] ${text(entry["message"]) || otherwise}`;
}

function observed(object: Properties): boolean {
  return count(object, "status", "observedGeneration") >= count(object, "metadata", "generation");
}

function replicas(object: Properties): number {
  const value = pick(object, "spec", "replicas");
  return typeof value === "number" ? value : 1;
}

function deployment(object: Properties): Readiness {
  if (!observed(object)) return notYet("The Deployment controller has not seen it yet");
  const wanted = replicas(object);
  const progressing = condition(object, "Progressing");
  const available = condition(object, "Available");
  if (progressing !== undefined && !isTrue(progressing)) return notYet(said(progressing, ""));
  const failure = condition(object, "ReplicaFailure");
  if (isTrue(failure)) return notYet(said(failure, ""));
  if (!isTrue(available))
    return notYet(said(available, "Minimum number of live Pods was not attained"));
  const updated = count(object, "status", "updatedReplicas");
  const live = count(object, "status", "availableReplicas");
  // Without a progress deadline the controller does not say how far it is.
  const rolledOut = progressing === undefined || progressing["reason"] === "NewReplicaSetAvailable";
  if (!rolledOut || updated < wanted || live < wanted) {
    return notYet(`Waiting for app ReplicaSet to be available (${live}/${wanted} Pods available)`);
  }
  return READY;
}

function statefulSet(object: Properties): Readiness {
  if (!observed(object)) return notYet("The StatefulSet controller has not seen it yet");
  const wanted = replicas(object);
  const ready = count(object, "status", "readyReplicas");
  if (ready < wanted) {
    return notYet(`Waiting for StatefulSet to create Pods (${ready}/${wanted} Pods ready)`);
  }
  if (pick(object, "spec", "updateStrategy", "type") === "OnDelete") return READY;
  const partition = count(object, "spec", "updateStrategy", "rollingUpdate", "partition");
  const updated = count(object, "status", "updatedReplicas");
  const rolledOut = updated >= wanted - partition;
  return rolledOut
    ? READY
    : notYet(
        `Waiting for StatefulSet to update Pods (${updated}/${wanted - partition} Pods updated)`,
      );
}

function daemonSet(object: Properties): Readiness {
  if (!observed(object) || pick(object, "status", "desiredNumberScheduled") === undefined) {
    return notYet("The DaemonSet controller has not seen it yet");
  }
  const wanted = count(object, "status", "desiredNumberScheduled");
  for (const [field, what] of [
    ["currentNumberScheduled", "scheduled"],
    ["updatedNumberScheduled", "updated"],
    ["numberAvailable", "available"],
    ["numberReady", "ready"],
  ] as const) {
    const has = count(object, "status", field);
    if (has < wanted) return notYet(`Waiting for DaemonSet Pods (${has}/${wanted} ${what})`);
  }
  return READY;
}

function pod(object: Properties): Readiness {
  const phase = pick(object, "status", "phase");
  if (phase === "Succeeded") return READY;
  if (phase === "Running" && isTrue(condition(object, "Ready"))) return READY;
  return notYet(podTrouble(object).join("; ") || `Waiting for Pod to be ready (${text(phase)})`);
}

function job(object: Properties): Readiness {
  if (isTrue(condition(object, "Complete"))) return READY;
  const failed = condition(object, "Failed");
  if (isTrue(failed)) return { ready: false, failed: true, message: said(failed, "") };
  const active = count(object, "status", "active");
  return notYet(
    `Waiting for Job to succeed (${active} active, ${count(object, "status", "succeeded")} succeeded, ${count(object, "status", "failed")} failed)`,
  );
}

const ENDPOINT_SLICES = "/apis/discovery.k8s.io/v1";

async function hasEndpoints(api: ApiServer, namespace: string, service: string): Promise<boolean> {
  const slices = await api.request(
    "GET",
    `${ENDPOINT_SLICES}/namespaces/${encodeURIComponent(namespace)}/endpointslices`,
    { query: { labelSelector: `kubernetes.io/service-name=${service}` } },
  );
  return objects(slices["items"]).some((slice) =>
    objects(slice["endpoints"]).some((endpoint) => pick(endpoint, "conditions", "ready") !== false),
  );
}

async function service(object: Properties, api: ApiServer): Promise<Readiness> {
  const type = pick(object, "spec", "type");
  const selector = pick(object, "spec", "selector");
  const waitsForPods =
    type !== "ExternalName" &&
    pick(object, "spec", "clusterIP") !== "None" &&
    isObject(selector) &&
    Object.keys(selector).length > 0;
  const name = pickText(object, "metadata", "name");
  if (waitsForPods && !(await hasEndpoints(api, namespaceOf(object), name))) {
    return notYet(
      "Service does not target any Pods. Selected Pods may not be ready, or field '.spec.selector' may not match labels on any Pods",
    );
  }
  if (
    type === "LoadBalancer" &&
    objects(pick(object, "status", "loadBalancer", "ingress")).length === 0
  ) {
    return notYet(
      "Service was not allocated an IP address; does your cloud provider support this?",
    );
  }
  return READY;
}

/** An object's namespace; "default" when it names none. */
export function namespaceOf(object: Properties): string {
  return pickText(object, "metadata", "namespace") || "default";
}

async function ingress(object: Properties, api: ApiServer): Promise<Readiness> {
  const backends = objects(pick(object, "spec", "rules"))
    .flatMap((rule) => objects(pick(rule, "http", "paths")))
    .map((path) => pick(path, "backend", "service", "name"));
  const names = [...backends, pick(object, "spec", "defaultBackend", "service", "name")];
  const namespace = namespaceOf(object);
  for (const name of new Set(names.filter((name) => typeof name === "string"))) {
    const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/services/${encodeURIComponent(name)}`;
    const target = await api.request("GET", path).catch((error: unknown) => {
      if (error instanceof ApiError && error.code === 404) return undefined;
      throw error;
    });
    if (target !== undefined && pick(target, "spec", "type") === "ExternalName") continue;
    if (target === undefined || !(await hasEndpoints(api, namespace, name))) {
      return notYet(`No matching service found for ingress rule: ${name}, or it targets no Pods`);
    }
  }
  return objects(pick(object, "status", "loadBalancer", "ingress")).length > 0
    ? READY
    : notYet(
        "Ingress .status.loadBalancer field was not updated with a hostname/IP address. for more information about this error, see https://pulumi.io/xdv72s",
      );
}

async function claim(object: Properties, api: ApiServer): Promise<Readiness> {
  const phase = pick(object, "status", "phase");
  if (phase === "Bound") return READY;
  const storageClass = pick(object, "spec", "storageClassName");
  if (typeof storageClass === "string" && storageClass !== "") {
    const found = await api
      .request("GET", `/apis/storage.k8s.io/v1/storageclasses/${encodeURIComponent(storageClass)}`)
      .catch((error: unknown) => {
        if (error instanceof ApiError) return undefined;
        throw error;
      });
    // Such a claim is bound only once a Pod uses it.
    if (found?.["volumeBindingMode"] === "WaitForFirstConsumer") return READY;
  }
  return notYet(`PersistentVolumeClaim is not bound (${text(phase)})`);
}

function quota(object: Properties): Readiness {
  const canonical = (value: Value | undefined): Value =>
    isObject(value) ? mapObject(value, (amount) => canonicalQuantity(text(amount)) ?? amount) : {};
  return deepEqual(
    canonical(pick(object, "spec", "hard")),
    canonical(pick(object, "status", "hard")),
  )
    ? READY
    : notYet("The quota is not in force yet");
}

const TEN_MINUTES = 600;
const FIVE_MINUTES = 300;

const RULES: { readonly [kind: string]: Rule } = {
  "apps/v1/Deployment": { timeoutSeconds: TEN_MINUTES, onRead: true, check: deployment },
  "apps/v1/StatefulSet": { timeoutSeconds: TEN_MINUTES, onRead: true, check: statefulSet },
  "apps/v1/DaemonSet": { timeoutSeconds: TEN_MINUTES, onRead: true, check: daemonSet },
  "batch/v1/Job": { timeoutSeconds: TEN_MINUTES, onRead: true, check: job },
  "v1/Pod": { timeoutSeconds: TEN_MINUTES, onRead: true, check: pod },
  "v1/Service": { timeoutSeconds: TEN_MINUTES, onRead: true, polls: true, check: service },
  "networking.k8s.io/v1/Ingress": {
    timeoutSeconds: TEN_MINUTES,
    onRead: true,
    polls: true,
    check: ingress,
  },
  "v1/PersistentVolumeClaim": {
    timeoutSeconds: FIVE_MINUTES,
    onRead: false,
    polls: true,
    check: claim,
  },
  "v1/PersistentVolume": {
    timeoutSeconds: FIVE_MINUTES,
    onRead: false,
    check: (object) =>
      ["Available", "Bound"].includes(pickText(object, "status", "phase"))
        ? READY
        : notYet("PersistentVolume is neither available nor bound"),
  },
  "v1/ReplicationController": {
    timeoutSeconds: TEN_MINUTES,
    onRead: false,
    check: (object) =>
      count(object, "status", "availableReplicas") === replicas(object)
        ? READY
        : notYet("Waiting for the ReplicationController's Pods"),
  },
  "v1/ResourceQuota": { timeoutSeconds: 60, onRead: false, check: quota },
  "v1/Secret": {
    timeoutSeconds: 30,
    onRead: false,
    check: (object) =>
      object["type"] !== "kubernetes.io/service-account-token" || isObject(object["data"])
        ? READY
        : notYet("The service account's token has not been made yet"),
  },
  // Its objects can only be made once the server serves them.
  "apiextensions.k8s.io/v1/CustomResourceDefinition": {
    timeoutSeconds: 60,
    onRead: false,
    check: (object) =>
      isTrue(condition(object, "Established"))
        ? READY
        : notYet(said(condition(object, "NamesAccepted"), "The definition is not established yet")),
  },
};

/** Thrown by a wait that ended badly, with the object as it was last seen. */
export class NotReady extends Error {
  readonly object: Properties;
  readonly reasons: readonly string[];
  constructor(message: string, object: Properties, reasons: readonly string[]) {
    super(message);
    this.object = object;
    this.reasons = reasons;
  }
}

/** What an object has to wait for: the annotation's expressions, or its kind's own rule; undefined: nothing. */
export function ruleFor(object: Properties, waitFor: string | undefined): Rule | undefined {
  if (waitFor !== undefined) {
    const checks = expressions(waitFor).map(customCheck);
    return {
      timeoutSeconds: TEN_MINUTES,
      onRead: false,
      check: (current) =>
        checks.map((check) => check(current)).find(({ ready }) => !ready) ?? READY,
    };
  }
  return RULES[`${text(object["apiVersion"])}/${text(object["kind"])}`];
}

function expressions(waitFor: string): string[] {
  if (!waitFor.trimStart().startsWith("[")) return [waitFor];
  const parsed: unknown = JSON.parse(waitFor);
  return Array.isArray(parsed) ? parsed.map(String) : [waitFor];
}

function customCheck(expression: string): (object: Properties) => Readiness {
  const byCondition = /^condition=([^=]+)(?:=(.*))?$/.exec(expression);
  if (byCondition !== null) {
    const [, type = "", wanted = "True"] = byCondition;
    return (object) =>
      text(condition(object, type)?.["status"]).toLowerCase() === wanted.toLowerCase()
        ? READY
        : notYet(said(condition(object, type), `Waiting for condition ${type} to be ${wanted}`));
  }
  const byPath = /^jsonpath=\{((?:\.[\w-]+)+)\}(?:=(.*))?$/.exec(expression);
  if (byPath === null) {
    throw new Error(
      `Annotation "pulumi.com/waitFor": the embedded kubernetes plugin reads condition=Type[=Status] and jsonpath={.a.b}[=value], got ${expression}. Use one of those, or the official provider plugin.`,
    );
  }
  const [, path = "", wanted] = byPath;
  return (object) => {
    const value = pick(object, ...path.slice(1).split("."));
    const met = wanted === undefined ? value !== undefined : text(value) === wanted;
    return met ? READY : notYet(`Waiting for ${expression}`);
  };
}

/**
 * Whether an object is ready now; for a refresh.
 *
 * @throws NotReady with the reasons when it is not.
 */
export async function assertReady(api: ApiServer, object: Properties): Promise<void> {
  const rule = ruleFor(object, undefined);
  if (rule === undefined || !rule.onRead) return;
  const readiness = await rule.check(object, api);
  if (readiness.ready) return;
  throw new NotReady(
    `Resource '${nameOf(object)}' was created but failed to initialize`,
    object,
    await reasonsFor(api, object, readiness.message),
  );
}

/** An object's name. */
export function nameOf(object: Properties): string {
  return pickText(object, "metadata", "name");
}

/** What is wrong with a Pod's containers and its place, one sentence each. */
function podTrouble(object: Properties): string[] {
  const trouble: string[] = [];
  const scheduled = condition(object, "PodScheduled");
  if (scheduled !== undefined && !isTrue(scheduled)) trouble.push(said(scheduled, "not scheduled"));
  for (const container of [
    ...objects(pick(object, "status", "initContainerStatuses")),
    ...objects(pick(object, "status", "containerStatuses")),
  ]) {
    const name = text(container["name"]);
    const waiting = pick(container, "state", "waiting");
    const ended =
      pick(container, "state", "terminated") ?? pick(container, "lastState", "terminated");
    if (isObject(waiting)) {
      const message = waiting["message"] === undefined ? "" : ` ${text(waiting["message"])}`;
      trouble.push(`container ${name} waits: [${text(waiting["reason"])}]${message}`);
    }
    if (isObject(ended) && ended["exitCode"] !== 0) {
      const message = ended["message"] === undefined ? "" : ` ${text(ended["message"])}`;
      trouble.push(
        `container ${name} ended with exit code ${text(ended["exitCode"])}: [${text(ended["reason"])}]${message}`,
      );
    }
  }
  return trouble;
}

/** Longest list of reasons: more of the same helps nobody. */
const MAX_REASONS = 10;
/** Time for finding out what went wrong, in milliseconds. */
const REASONS_TIMEOUT_MS = 5_000;

/** What stands in the way: the object's own word, its Pods' troubles and the warnings that the cluster noted. */
export async function reasonsFor(
  api: ApiServer,
  object: Properties,
  message: string,
): Promise<string[]> {
  const reasons = message === "" ? [] : [message];
  const namespace = encodeURIComponent(namespaceOf(object));
  const labels = pick(object, "spec", "selector", "matchLabels");
  const signal = AbortSignal.timeout(REASONS_TIMEOUT_MS);
  try {
    const uids = new Set([pickText(object, "metadata", "uid")]);
    if (isObject(labels) && object["kind"] !== "PersistentVolumeClaim") {
      const labelSelector = Object.entries(labels)
        .map(([key, value]) => `${key}=${text(value)}`)
        .join(",");
      const pods = await api.request("GET", `/api/v1/namespaces/${namespace}/pods`, {
        query: { labelSelector },
        signal,
      });
      for (const each of objects(pods["items"])) {
        uids.add(pickText(each, "metadata", "uid"));
        for (const trouble of podTrouble(each)) {
          reasons.push(`[Pod ${namespaceOf(each)}/${nameOf(each)}]: ${trouble}`);
        }
      }
    }
    const events = await api.request("GET", `/api/v1/namespaces/${namespace}/events`, {
      query: { fieldSelector: "type=Warning", limit: "500" },
      signal,
    });
    for (const event of objects(events["items"])) {
      if (!uids.has(pickText(event, "involvedObject", "uid"))) continue;
      const about = `${pickText(event, "involvedObject", "kind")} ${pickText(event, "involvedObject", "name")}`;
      reasons.push(`[${about}]: [${text(event["reason"])}] ${text(event["message"])}`);
    }
  } catch (error) {
    // The wait's own reason matters more than that no further one could be found.
    if (!(error instanceof ApiError) && !(error instanceof Unreachable) && !signal.aborted)
      throw error;
  }
  return [...new Set(reasons)].slice(0, MAX_REASONS);
}
