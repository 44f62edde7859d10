/** What a change of inputs means for an object: which properties differ, and which of them force a replacement. */
import type { DiffKind, DiffResponse, Properties, Value } from "../provider.ts";
import { deepEqual, isObject, isUnknown } from "../values.ts";
import { groupOf } from "./normalize.ts";
import { text } from "./pick.ts";

/** The provider's options that decide whether data can change in place. */
export interface Mutability {
  readonly secrets: boolean;
  readonly configMaps: boolean;
}

const LABEL_SELECTOR = [".spec.selector"] as const;
const CONTAINER = [
  "args",
  "command",
  "env",
  "image",
  "imagePullPolicy",
  "lifecycle",
  "livenessProbe",
  "ports",
  "readinessProbe",
  "resources",
  "securityContext",
  "stdin",
  "stdinOnce",
  "terminationMessagePath",
  "terminationMessagePolicy",
  "tty",
  "volumeDevices",
  "volumeMounts",
  "workingDir",
] as const;
const POD = [
  "affinity",
  "automountServiceAccountToken",
  "dnsConfig",
  "dnsPolicy",
  "enableServiceLinks",
  "hostAliases",
  "hostIPC",
  "hostNetwork",
  "hostPID",
  "hostname",
  "imagePullSecrets",
  "nodeName",
  "nodeSelector",
  "overhead",
  "preemptionPolicy",
  "priority",
  "priorityClassName",
  "readinessGates",
  "restartPolicy",
  "runtimeClassName",
  "schedulerName",
  "securityContext",
  "serviceAccount",
  "serviceAccountName",
  "shareProcessNamespace",
  "subdomain",
  "terminationGracePeriodSeconds",
  "volumes",
] as const;
const VOLUME_SOURCES = [
  "awsElasticBlockStore",
  "azureDisk",
  "azureFile",
  "cephfs",
  "cinder",
  "csi",
  "fc",
  "flexVolume",
  "flocker",
  "gcePersistentDisk",
  "glusterfs",
  "hostPath",
  "iscsi",
  "local",
  "nfs",
  "photonPersistentDisk",
  "portworxVolume",
  "quobyte",
  "rbd",
  "scaleIO",
  "storageos",
  "vsphereVolume",
] as const;

const ROLE_BINDING = [".roleRef"] as const;

/** Per group and kind, the properties that cannot change in place, as the official plugin lists them. */
const FORCES_REPLACEMENT: { readonly [groupAndKind: string]: readonly string[] } = {
  "apps/DaemonSet": LABEL_SELECTOR,
  "apps/Deployment": LABEL_SELECTOR,
  "apps/StatefulSet": [
    ".spec.podManagementPolicy",
    ".spec.revisionHistoryLimit",
    ".spec.selector",
    ".spec.serviceName",
    ".spec.volumeClaimTemplates",
  ],
  "batch/Job": [".spec.completions", ".spec.parallelism", ".spec.selector", ".spec.template"],
  "rbac.authorization.k8s.io/ClusterRoleBinding": ROLE_BINDING,
  "rbac.authorization.k8s.io/RoleBinding": ROLE_BINDING,
  "storage.k8s.io/StorageClass": [".parameters", ".provisioner"],
  "/PersistentVolume": VOLUME_SOURCES.map((source) => `.spec.${source}`),
  "/PersistentVolumeClaim": [
    ".spec.accessModes",
    ".spec.selector",
    ".spec.storageClassName",
    ".spec.volumeName",
  ],
  "/Pod": [
    ...POD.map((field) => `.spec.${field}`),
    ...CONTAINER.flatMap((field) => [
      `.spec.containers[*].${field}`,
      `.spec.initContainers[*].${field}`,
    ]),
  ],
  "/ResourceQuota": [".spec.scopes"],
  "/Service": [".spec.clusterIP"],
};

/** The properties of an object that cannot change in place. */
export function forcesReplacement(object: Properties, mutability: Mutability): readonly string[] {
  const identity = [".metadata.name", ".metadata.namespace"];
  const kind = text(object["kind"]);
  const group = groupOf(text(object["apiVersion"]));
  const immutable = object["immutable"] === true;
  if (group === "" && kind === "Secret") {
    return !mutability.secrets || immutable
      ? [...identity, ".type", ".stringData", ".data"]
      : [...identity, ".type"];
  }
  if (group === "" && kind === "ConfigMap") {
    return !mutability.configMaps || immutable ? [...identity, ".binaryData", ".data"] : identity;
  }
  return [...identity, ...(FORCES_REPLACEMENT[`${group}/${kind}`] ?? [])];
}

/** Absent, as told from a value that is null. */
const MISSING = Symbol("missing");
type Maybe = Value | typeof MISSING;

function at(object: Maybe, key: string): Maybe {
  return object !== MISSING && isObject(object) && Object.hasOwn(object, key)
    ? (object[key] as Value)
    : MISSING;
}

/**
 * The JSON merge patch (RFC 7386) that leads from one object to another. A value that is not known yet becomes null,
 * as a removed one does.
 */
export function mergePatch(from: Properties, to: Properties): Properties {
  const patch: Properties = {};
  for (const [key, value] of Object.entries(to)) {
    const old = from[key];
    if (!Object.hasOwn(from, key)) patch[key] = patched(value);
    else if (isObject(old) && isObject(value)) {
      const inner = mergePatch(old, value);
      if (Object.keys(inner).length > 0) patch[key] = inner;
    } else if (!deepEqual(old, value)) patch[key] = patched(value);
  }
  for (const key of Object.keys(from)) {
    if (!Object.hasOwn(to, key)) patch[key] = null;
  }
  return patch;
}

function patched(value: Value): Value {
  if (isUnknown(value)) return null;
  if (Array.isArray(value)) return value.map(patched);
  if (!isObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, patched(inner)]));
}

type Path = readonly (string | number)[];
type Detailed = { [path: string]: { kind: DiffKind; inputDiff?: boolean } };

/**
 * The differences between two objects, property by property.
 *
 * @param old the live object, cut down to what its inputs named.
 * @param inputs the new inputs.
 * @param forced the properties that cannot change in place, as paths with a leading dot.
 */
export function detailedDiff(
  old: Properties,
  inputs: Properties,
  forced: readonly string[],
): NonNullable<DiffResponse["detailedDiff"]> {
  const result: Detailed = {};
  addObject(result, forced, [], mergePatch(old, inputs), old, inputs, old, false);
  return result;
}

function addObject(
  result: Detailed,
  forced: readonly string[],
  path: Path,
  patch: Properties,
  old: Maybe,
  input: Maybe,
  oldInput: Maybe,
  inList: boolean,
): void {
  for (const [key, value] of Object.entries(patch)) {
    const inner = [...path, key];
    addValue(result, forced, inner, value, at(old, key), at(input, key), at(oldInput, key), inList);
  }
  if (!inList || old === MISSING || !isObject(old)) return;
  // A patch replaces lists as a whole, so what went from inside an element does not show in it.
  for (const [key, value] of Object.entries(old)) {
    if (Object.hasOwn(patch, key)) continue;
    const inner = [...path, key];
    addValue(result, forced, inner, null, value, at(input, key), at(oldInput, key), inList);
  }
}

function addList(
  result: Detailed,
  forced: readonly string[],
  path: Path,
  patch: Value[],
  old: Value[],
  input: Maybe,
  oldInput: Maybe,
): void {
  const element = (list: Maybe, i: number): Maybe =>
    Array.isArray(list) && i < list.length ? (list[i] as Value) : null;
  for (let i = 0; i < Math.max(patch.length, old.length); i += 1) {
    const value = i < patch.length ? (patch[i] as Value) : null;
    const before: Maybe = i < old.length ? (old[i] as Value) : MISSING;
    const inner = [...path, i];
    addValue(result, forced, inner, value, before, element(input, i), element(oldInput, i), true);
  }
}

function addValue(
  result: Detailed,
  forced: readonly string[],
  path: Path,
  value: Value,
  old: Maybe,
  input: Maybe,
  oldInput: Maybe,
  inList: boolean,
): void {
  // Without a new input only a removal can be meant; everything else is between values of the server's own.
  if (input === MISSING && (value !== null || oldInput === MISSING)) return;

  let kind: "ADD" | "DELETE" | "UPDATE";
  let inputDiff = false;
  if (value === null) {
    if (input !== MISSING && isUnknown(input)) kind = old === MISSING ? "ADD" : "UPDATE";
    else {
      kind = "DELETE";
      inputDiff = true;
    }
  } else if (old === MISSING) kind = "ADD";
  else if (isObject(value) && isObject(old)) {
    addObject(result, forced, path, value, old, input, oldInput, inList);
    return;
  } else if (Array.isArray(value) && Array.isArray(old)) {
    addList(result, forced, path, value, old, input, oldInput);
    return;
  } else {
    if (deepEqual(value, old)) return;
    kind = "UPDATE";
  }

  const replaces = forced.some((pattern) => touches(pattern, path, value));
  result[pathText(path)] = {
    kind: replaces ? `${kind}_REPLACE` : kind,
    ...(inputDiff ? { inputDiff } : {}),
  };
}

/** Whether a change of `value` at `path` changes the property that `pattern` names, a part of it or what holds it. */
function touches(pattern: string, path: Path, value: Value): boolean {
  const parts = pattern.slice(1).split(/\.|(?=\[)/);
  let i = 0;
  for (; i < parts.length && i < path.length; i += 1) {
    const wildcard = parts[i] === "[*]";
    if (wildcard ? typeof path[i] !== "number" : parts[i] !== path[i]) return false;
  }
  return holds(value, parts.slice(i));
}

function holds(value: Value, parts: readonly string[]): boolean {
  const [first, ...rest] = parts;
  if (first === undefined) return value !== "";
  if (first === "[*]") return Array.isArray(value) && value.some((inner) => holds(inner, rest));
  return isObject(value) && Object.hasOwn(value, first) && holds(value[first] as Value, rest);
}

function pathText(path: Path): string {
  let result = "";
  for (const part of path) {
    if (typeof part === "number") result += `[${part}]`;
    else if (/[."[\]]/.test(part)) result += `["${part.replaceAll('"', '\\"')}"]`;
    else result += result === "" ? part : `.${part}`;
  }
  return result;
}

/** Whether an `ignoreChanges` entry covers a path of a detailed diff; `*` stands for any one part. */
export function covers(ignored: string, path: string): boolean {
  const pattern = pathParts(ignored);
  const parts = pathParts(path);
  return (
    pattern.length <= parts.length && pattern.every((part, i) => part === "*" || part === parts[i])
  );
}

/** The parts of a property path: keys, quoted keys in brackets and list indexes. */
export function pathParts(path: string): string[] {
  const parts: string[] = [];
  for (const match of path.matchAll(/\["((?:[^"\\]|\\.)*)"\]|\[(\d+|\*)\]|([^.[\]]+)/g)) {
    parts.push(match[1]?.replaceAll('\\"', '"') ?? match[2] ?? match[3] ?? "");
  }
  return parts;
}
