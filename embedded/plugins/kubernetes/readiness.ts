/** When an object counts as done: what the official plugin waits for, kind by kind, and why it is not there yet. */
import { setTimeout as delay } from "node:timers/promises";
import type { CallContext, Properties, Value } from "../provider.ts";
import { deepEqual, isObject, mapObject } from "../values.ts";
import type { ApiServer, ResourceKind } from "./api-server.ts";
import { ApiError, Unreachable } from "./api-server.ts";
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
const notYet = (message: string): Readiness => ({ ready: false, message });

/** The value at a path of keys, or undefined. */
export function pick(object: Value | undefined, ...path: string[]): Value | undefined {
  let value = object;
  for (const key of path) {
    if (!isObject(value)) return undefined;
    value = value[key];
  }
  return value;
}

function count(object: Properties, ...path: string[]): number {
  const value = pick(object, ...path);
  return typeof value === "number" ? value : 0;
}

function list(value: Value | undefined): Properties[] {
  return Array.isArray(value) ? value.filter(isObject) : [];
}

function condition(object: Properties, type: string): Properties | undefined {
  return list(pick(object, "status", "conditions")).find((entry) => entry["type"] === type);
}

function isTrue(entry: Properties | undefined): boolean {
  return entry?.["status"] === "True";
}

function said(entry: Properties | undefined, otherwise: string): string {
  if (entry === undefined) return otherwise;
  return `[${String(entry["reason"] ?? "")}] ${String(entry["message"] ?? otherwise)}`;
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
  return notYet(podTrouble(object).join("; ") || `Waiting for Pod to be ready (${String(phase)})`);
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
  return list(slices["items"]).some((slice) =>
    list(slice["endpoints"]).some((endpoint) => pick(endpoint, "conditions", "ready") !== false),
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
  const name = String(pick(object, "metadata", "name"));
  if (waitsForPods && !(await hasEndpoints(api, namespaceOf(object), name))) {
    return notYet(
      "Service does not target any Pods. Selected Pods may not be ready, or field '.spec.selector' may not match labels on any Pods",
    );
  }
  if (
    type === "LoadBalancer" &&
    list(pick(object, "status", "loadBalancer", "ingress")).length === 0
  ) {
    return notYet(
      "Service was not allocated an IP address; does your cloud provider support this?",
    );
  }
  return READY;
}

function namespaceOf(object: Properties): string {
  return String(pick(object, "metadata", "namespace") ?? "default");
}

async function ingress(object: Properties, api: ApiServer): Promise<Readiness> {
  const backends = list(pick(object, "spec", "rules"))
    .flatMap((rule) => list(pick(rule, "http", "paths")))
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
  return list(pick(object, "status", "loadBalancer", "ingress")).length > 0
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
  return notYet(`PersistentVolumeClaim is not bound (${String(phase)})`);
}

function quota(object: Properties): Readiness {
  const canonical = (value: Value | undefined): Value =>
    isObject(value)
      ? mapObject(value, (amount) => canonicalQuantity(String(amount)) ?? amount)
      : {};
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
      ["Available", "Bound"].includes(String(pick(object, "status", "phase")))
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

/** What a user's annotations ask to wait for. */
export interface WaitOptions {
  /** In seconds; undefined: the kind's own limit. */
  readonly timeoutSeconds: number | undefined;
  /** The annotation `pulumi.com/waitFor`, when given: it replaces the kind's own rule. */
  readonly waitFor: string | undefined;
}

function ruleFor(object: Properties, waitFor: string | undefined): Rule | undefined {
  if (waitFor !== undefined) {
    const checks = expressions(waitFor).map(customCheck);
    return {
      timeoutSeconds: TEN_MINUTES,
      onRead: false,
      check: (current) =>
        checks.map((check) => check(current)).find(({ ready }) => !ready) ?? READY,
    };
  }
  return RULES[`${String(object["apiVersion"])}/${String(object["kind"])}`];
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
      String(condition(object, type)?.["status"]).toLowerCase() === wanted.toLowerCase()
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
    const met = wanted === undefined ? value !== undefined : String(value) === wanted;
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

/**
 * Waits until an object is ready and returns it as it then is; kinds without a rule are ready at once.
 *
 * @throws NotReady when it failed, time ran out or the run was cancelled.
 */
export async function untilReady(
  api: ApiServer,
  kind: ResourceKind,
  object: Properties,
  options: WaitOptions,
  context: CallContext,
): Promise<Properties> {
  const rule = ruleFor(object, options.waitFor);
  if (rule === undefined) return object;
  const seconds = options.timeoutSeconds ?? rule.timeoutSeconds;
  const timeout = AbortSignal.timeout(seconds * 1000);
  let current = object;
  let told = "";
  let readiness: Readiness = notYet("");
  const stop = new AbortController();
  const signal = AbortSignal.any([timeout, context.signal, stop.signal]);
  try {
    for await (const next of states(api, kind, object, signal, rule.polls === true)) {
      if (next === undefined) {
        throw new NotReady(
          `Resource '${nameOf(object)}' was deleted while it was waited for`,
          current,
          [],
        );
      }
      current = next;
      readiness = await rule.check(current, api);
      if (readiness.ready) {
        if (told !== "") context.status("");
        return current;
      }
      if (readiness.failed === true) {
        throw new NotReady(
          `Resource '${nameOf(current)}' was created but failed to initialize`,
          current,
          await reasonsFor(api, current, readiness.message),
        );
      }
      if (readiness.message !== told) {
        told = readiness.message;
        context.status(told);
      }
    }
  } catch (error) {
    if (error instanceof NotReady || !signal.aborted) throw error;
  } finally {
    stop.abort();
  }
  throw new NotReady(
    context.signal.aborted
      ? `Resource operation was cancelled for '${nameOf(current)}'`
      : `'${nameOf(current)}' timed out waiting to be Ready after ${seconds} s`,
    current,
    await reasonsFor(api, current, readiness.message),
  );
}

/**
 * Waits until an object is gone. `object` is the deletion's answer.
 *
 * @throws Error when it still exists at the deadline, with what holds it.
 */
export async function untilGone(
  api: ApiServer,
  kind: ResourceKind,
  object: Properties,
  timeoutSeconds: number,
  context: CallContext,
): Promise<void> {
  const timeout = AbortSignal.timeout(timeoutSeconds * 1000);
  const stop = new AbortController();
  const signal = AbortSignal.any([timeout, context.signal, stop.signal]);
  const uid = pick(object, "metadata", "uid");
  let current = object;
  try {
    for await (const next of states(api, kind, object, signal, false)) {
      // Another object of that name means that this one is gone.
      if (next === undefined || pick(next, "metadata", "uid") !== uid) return;
      if (next !== object) {
        context.status(`${kind.kind} '${nameOf(object)}' still exists${phaseOf(next)}`);
      }
      current = next;
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    stop.abort();
  }
  const name = nameOf(object);
  if (context.signal.aborted) throw new Error(`Resource operation was cancelled for '${name}'`);
  const finalizers = pick(current, "metadata", "finalizers");
  const held = Array.isArray(finalizers) && finalizers.length > 0 ? finalizers.join(", ") : "none";
  const remaining = list(pick(current, "status", "conditions"))
    .filter(isTrue)
    .map((entry) => ` ${said(entry, "")}`)
    .join("");
  throw new Error(
    `${kind.kind} "${name}": it must be gone within ${timeoutSeconds} s of its deletion, got finalizers ${held}.${remaining} Remove what holds it, or raise customTimeouts.delete.`,
  );
}

function phaseOf(object: Properties): string {
  const phase = pick(object, "status", "phase");
  return typeof phase === "string" ? ` (${phase})` : "";
}

function nameOf(object: Properties): string {
  return String(pick(object, "metadata", "name") ?? "");
}

const POLL_MS = { first: 50, most: 500 } as const;

/** An object's states as they come, the given one first; undefined once it is gone. */
async function* states(
  api: ApiServer,
  kind: ResourceKind,
  object: Properties,
  signal: AbortSignal,
  polls: boolean,
): AsyncGenerator<Properties | undefined> {
  const namespace = kind.namespaced ? namespaceOf(object) : "";
  const name = nameOf(object);
  const path = api.path(kind, namespace, name);
  let current = object;
  yield current;
  if (polls) {
    for (let wait: number = POLL_MS.first; ; wait = Math.min(wait * 1.5, POLL_MS.most)) {
      await delay(wait, undefined, { signal });
      const next = await present(api, path, signal);
      yield next;
      if (next === undefined) return;
    }
  }
  for (;;) {
    try {
      const query = {
        fieldSelector: `metadata.name=${name}`,
        resourceVersion: String(pick(current, "metadata", "resourceVersion") ?? ""),
        timeoutSeconds: "300",
      };
      for await (const event of api.watch(api.path(kind, namespace), query, signal)) {
        if (event.type === "DELETED") {
          yield undefined;
          return;
        }
        if (event.type === "BOOKMARK") continue;
        current = event.object;
        yield current;
      }
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof Unreachable) && !(error instanceof ApiError)) throw error;
    }
    // The watch ended: see what has happened since, then go on from there.
    signal.throwIfAborted();
    await delay(POLL_MS.first, undefined, { signal });
    const next = await present(api, path, signal);
    yield next;
    if (next === undefined) return;
    current = next;
  }
}

async function present(
  api: ApiServer,
  path: string,
  signal: AbortSignal,
): Promise<Properties | undefined> {
  try {
    return await api.request("GET", path, { signal });
  } catch (error) {
    if (error instanceof ApiError && error.code === 404) return undefined;
    throw error;
  }
}

/** What is wrong with a Pod's containers and its place, one sentence each. */
function podTrouble(object: Properties): string[] {
  const trouble: string[] = [];
  const scheduled = condition(object, "PodScheduled");
  if (scheduled !== undefined && !isTrue(scheduled)) trouble.push(said(scheduled, "not scheduled"));
  for (const container of [
    ...list(pick(object, "status", "initContainerStatuses")),
    ...list(pick(object, "status", "containerStatuses")),
  ]) {
    const name = String(container["name"]);
    const waiting = pick(container, "state", "waiting");
    const ended =
      pick(container, "state", "terminated") ?? pick(container, "lastState", "terminated");
    if (isObject(waiting)) {
      const message = waiting["message"] === undefined ? "" : ` ${String(waiting["message"])}`;
      trouble.push(`container ${name} waits: [${String(waiting["reason"])}]${message}`);
    }
    if (isObject(ended) && ended["exitCode"] !== 0) {
      const message = ended["message"] === undefined ? "" : ` ${String(ended["message"])}`;
      trouble.push(
        `container ${name} ended with exit code ${String(ended["exitCode"])}: [${String(ended["reason"])}]${message}`,
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
async function reasonsFor(api: ApiServer, object: Properties, message: string): Promise<string[]> {
  const reasons = message === "" ? [] : [message];
  const namespace = encodeURIComponent(namespaceOf(object));
  const labels = pick(object, "spec", "selector", "matchLabels");
  const signal = AbortSignal.timeout(REASONS_TIMEOUT_MS);
  try {
    const uids = new Set([String(pick(object, "metadata", "uid"))]);
    if (isObject(labels) && object["kind"] !== "PersistentVolumeClaim") {
      const labelSelector = Object.entries(labels)
        .map(([key, value]) => `${key}=${String(value)}`)
        .join(",");
      const pods = await api.request("GET", `/api/v1/namespaces/${namespace}/pods`, {
        query: { labelSelector },
        signal,
      });
      for (const each of list(pods["items"])) {
        uids.add(String(pick(each, "metadata", "uid")));
        for (const trouble of podTrouble(each)) {
          reasons.push(`[Pod ${namespaceOf(each)}/${nameOf(each)}]: ${trouble}`);
        }
      }
    }
    const events = await api.request("GET", `/api/v1/namespaces/${namespace}/events`, {
      query: { fieldSelector: "type=Warning", limit: "500" },
      signal,
    });
    for (const event of list(events["items"])) {
      if (!uids.has(String(pick(event, "involvedObject", "uid")))) continue;
      const about = `${String(pick(event, "involvedObject", "kind"))} ${String(pick(event, "involvedObject", "name"))}`;
      reasons.push(`[${about}]: [${String(event["reason"])}] ${String(event["message"])}`);
    }
  } catch (error) {
    // The wait's own reason matters more than that no further one could be found.
    if (!(error instanceof ApiError) && !(error instanceof Unreachable) && !signal.aborted)
      throw error;
  }
  return [...new Set(reasons)].slice(0, MAX_REASONS);
}
