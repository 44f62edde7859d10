/**
 * Inputs in the form that the API server would give them, so that two spellings of the same thing are no difference.
 *
 * The official plugin sends built-in kinds through their Go types and back; `built-in-types.json` says what that does
 * to each field.
 */
import type { Properties, Value } from "../provider.ts";
import { containsUnknown, isObject, mapObject } from "../values.ts";
import builtIn from "./built-in-types.json" with { type: "json" };
import { text, without } from "./pick.ts";
import { canonicalQuantity } from "./quantity.ts";

const KINDS: { readonly [kind: string]: string } = builtIn.kinds;
const TYPES: { readonly [type: string]: string } = builtIn.types;
const fieldsOfTypes = new Map<string, ReadonlyMap<string, string>>();

/** A type's fields and what they are; read once. */
function fieldsOf(type: string): ReadonlyMap<string, string> {
  let fields = fieldsOfTypes.get(type);
  if (fields === undefined) {
    const pairs = (TYPES[type] ?? "").split(" ").map((pair) => pair.split(":"));
    fields = new Map(pairs.map(([field = "", kind = "any"]) => [field, kind]));
    fieldsOfTypes.set(type, fields);
  }
  return fields;
}

/** API groups that the official plugin knows by heart; everything else is a custom resource to it. */
const KNOWN_GROUPS: ReadonlySet<string> = new Set([
  "",
  "admissionregistration.k8s.io",
  "apiextensions.k8s.io",
  "apiregistration.k8s.io",
  "apps",
  "autoscaling",
  "batch",
  "certificates.k8s.io",
  "coordination.k8s.io",
  "discovery.k8s.io",
  "events.k8s.io",
  "flowcontrol.apiserver.k8s.io",
  "networking.k8s.io",
  "node.k8s.io",
  "policy",
  "rbac.authorization.k8s.io",
  "resource.k8s.io",
  "scheduling.k8s.io",
  "storage.k8s.io",
]);

const READ_ONLY_METADATA = [
  "creationTimestamp",
  "deletionGracePeriodSeconds",
  "deletionTimestamp",
  "generation",
  "managedFields",
  "resourceVersion",
  "uid",
] as const;

/** The API group of an `apiVersion`; the core group is the empty string. */
export function groupOf(apiVersion: string): string {
  const slash = apiVersion.indexOf("/");
  const group = slash < 0 ? "" : apiVersion.slice(0, slash);
  return group === "core" ? "" : group;
}

/** Whether an `apiVersion` belongs to Kubernetes itself, not to a custom resource. */
export function isBuiltIn(apiVersion: string): boolean {
  return KNOWN_GROUPS.has(groupOf(apiVersion));
}

/** Thrown inside where a value has another type than its field: such an object is left as it is. */
class OtherType extends Error {}

/**
 * The object without nulls in its objects, as the protocol's official readers drop them.
 */
export function withoutNulls(value: Properties): Properties;
export function withoutNulls(value: Value): Value;
export function withoutNulls(value: Value): Value {
  if (Array.isArray(value)) return value.map((element) => withoutNulls(element));
  if (!isObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, element]) => element !== null)
      .map(([key, element]) => [key, withoutNulls(element)]),
  );
}

/**
 * An object's inputs, normalized: fields that hold their zero value vanish where they would on the server, quantities
 * take their canonical form, a Secret's `stringData` moves into `data`, and read-only metadata goes.
 *
 * Inputs that hold unknown values and custom resources keep their form. The argument stays as it is.
 */
export function normalizeInputs(object: Properties): Properties {
  const apiVersion = text(object["apiVersion"]);
  const result =
    !containsUnknown(object) && isBuiltIn(apiVersion)
      ? { ...throughTypes(object, apiVersion, text(object["kind"])) }
      : { ...object };
  const metadata = result["metadata"];
  if (isObject(metadata)) {
    const kept = { ...metadata };
    for (const key of READ_ONLY_METADATA) delete kept[key];
    result["metadata"] = kept;
  }
  return result;
}

function throughTypes(object: Properties, apiVersion: string, kind: string): Properties {
  if (kind === "CustomResourceDefinition" && groupOf(apiVersion) === "apiextensions.k8s.io") {
    return normalizeDefinition(object);
  }
  if (kind === "Secret" && apiVersion === "v1") return normalizeSecret(object);
  const type = KINDS[`${apiVersion.replace(/^core\//, "")}/${kind}`];
  if (type === undefined) return object;
  try {
    return throughType(object, type) as Properties;
  } catch (error) {
    if (error instanceof OtherType) return object;
    throw error;
  }
}

function normalizeDefinition(object: Properties): Properties {
  const rest = without(object, "status");
  const spec = rest["spec"];
  if (isObject(spec) && spec["preserveUnknownFields"] === false) {
    return { ...rest, spec: without(spec, "preserveUnknownFields") };
  }
  return rest;
}

function normalizeSecret(object: Properties): Properties {
  const data = object["data"];
  const stringData = object["stringData"];
  if (isObject(stringData) && Object.keys(stringData).length > 0) {
    if (!Object.values(stringData).every((value) => typeof value === "string")) return object;
    const rest = without(object, "stringData");
    const encoded = mapObject(stringData, (value) => Buffer.from(text(value)).toString("base64"));
    return { ...rest, data: { ...(isObject(data) ? data : {}), ...encoded } };
  }
  if (!isObject(data)) return object;
  // The API server decodes and encodes again, which drops line breaks.
  return {
    ...object,
    data: mapObject(data, (value) =>
      typeof value === "string" && /^[A-Za-z0-9+/\r\n]*={0,2}[\r\n]*$/.test(value)
        ? value.replace(/[\r\n]/g, "")
        : value,
    ),
  };
}

function throughType(value: Value, type: string): Value {
  if (type === "any") return value;
  if (type.startsWith("[]")) {
    if (!Array.isArray(value)) throw new OtherType();
    return value.map((element) => throughType(element, type.slice(2)));
  }
  if (type.startsWith("{}")) {
    if (!isObject(value)) throw new OtherType();
    return mapObject(value, (element) => throughType(element, type.slice(2)));
  }
  if (type === "quantity") {
    if (typeof value !== "string" && typeof value !== "number") throw new OtherType();
    const canonical = canonicalQuantity(String(value));
    if (canonical === undefined) throw new OtherType();
    return canonical;
  }
  if (type === "string" || type === "number" || type === "boolean") {
    if (typeof value !== type) throw new OtherType();
    return value;
  }
  if (!isObject(value)) throw new OtherType();
  const fields = fieldsOf(type);
  const result: Properties = {};
  for (const [name, element] of Object.entries(value)) {
    const field = fields.get(name);
    if (field === undefined) continue;
    const vanishes = field.startsWith("?");
    const changed = throughType(element, vanishes ? field.slice(1) : field);
    if (!(vanishes && isZero(changed))) result[name] = changed;
  }
  return result;
}

function isZero(value: Value): boolean {
  if (value === "" || value === 0 || value === false) return true;
  return Array.isArray(value)
    ? value.length === 0
    : isObject(value) && Object.keys(value).length === 0;
}

/** The kind of a value as far as pruning looks: a list, an object, or what `typeof` says. */
function kindOf(value: Value | undefined): string {
  if (value === null || value === undefined) return "null";
  return Array.isArray(value) ? "list" : typeof value;
}

/**
 * The part of `source` that `shape` has too, at every depth: a live object cut down to what its inputs named.
 */
export function prune(source: Properties, shape: Properties): Properties {
  const result: Properties = {};
  for (const [key, value] of Object.entries(source)) {
    if (!Object.hasOwn(shape, key)) continue;
    const target = shape[key];
    if (isObject(value) && isObject(target)) result[key] = prune(value, target);
    else if (Array.isArray(value) && Array.isArray(target)) result[key] = pruneList(value, target);
    else result[key] = value;
  }
  return result;
}

function pruneList(source: Value[], shape: Value[]): Value[] {
  if (source.length === 0 || shape.length === 0) return [];
  if (kindOf(source[0]) !== kindOf(shape[0])) return structuredClone(source);
  return shape.slice(0, source.length).map((target, i) => {
    const value = source[i] as Value;
    if (isObject(value) && isObject(target)) return prune(value, target);
    if (Array.isArray(value) && Array.isArray(target)) return pruneList(value, target);
    return value;
  });
}
