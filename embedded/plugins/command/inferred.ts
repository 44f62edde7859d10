/**
 * The behaviour that every resource of a pulumi-go-provider plugin shares: typed checks with defaults and secrets,
 * a diff of inputs, and what is unknown or secret among the outputs.
 */
import type { CheckFailure, DiffKind, DiffResponse, Properties, Value } from "../provider.ts";
import {
  SIGNATURE_KEY,
  UNKNOWN,
  containsSecret,
  deepEqual,
  isArchive,
  isAsset,
  isObject,
  isResourceReference,
  isSecret,
  isUnknown,
  mapObject,
  secret,
  unwrapSecrets,
} from "../values.ts";

/** What a property may hold. */
export type Kind =
  | "string"
  | "number"
  | "integer"
  | "boolean"
  | "strings"
  | "stringMap"
  | "any[]"
  | "assetOrArchive"
  | { readonly oneOf: readonly string[] }
  | { readonly object: Fields };

export interface Field {
  readonly kind: Kind;
  readonly required?: boolean;
  /** The value becomes a secret whatever the program made of it. */
  readonly secret?: boolean;
  readonly default?: Value;
}
export type Fields = { readonly [name: string]: Field };

/**
 * The inputs as the resource keeps them: defaults filled in, secret fields wrapped, fields that the resource does
 * not have left out; and what is wrong with them.
 */
export function checkInputs(
  fields: Fields,
  news: Properties,
): { readonly inputs: Properties; readonly failures: readonly CheckFailure[] } {
  const failures: CheckFailure[] = [];
  const inputs = checkFields(fields, news, "", failures);
  return { inputs, failures };
}

function checkFields(
  fields: Fields,
  given: Properties,
  path: string,
  failures: CheckFailure[],
): Properties {
  const checked: Properties = {};
  for (const [name, field] of Object.entries(fields)) {
    const property = path + name;
    const value = withoutOutputValue(given[name] ?? field.default ?? null);
    if (value === null) {
      if (field.required) failures.push({ property, reason: "must be given, got nothing" });
      continue;
    }
    const reason = problem(field.kind, value);
    if (reason !== undefined) failures.push({ property, reason });
    const kept = reason === undefined ? keep(field.kind, value, property, failures) : value;
    checked[name] = field.secret ? secret(kept) : kept;
  }
  return checked;
}

function keep(kind: Kind, value: Value, property: string, failures: CheckFailure[]): Value {
  if (isUnknown(value)) return value;
  if (isSecret(value)) {
    const inner = isObject(value) ? (value["value"] ?? null) : null;
    return secret(keep(kind, inner, property, failures));
  }
  if (kind === "assetOrArchive" && isAsset(value)) {
    return { text: "", path: "", uri: "", ...value };
  }
  return typeof kind === "object" && "object" in kind && isObject(value)
    ? checkFields(kind.object, value, `${property}.`, failures)
    : value;
}

function problem(kind: Kind, value: Value): string | undefined {
  const plain = unwrapSecrets(value);
  if (isUnknown(plain)) return undefined;
  const got = Array.isArray(plain) ? "a list" : plain === null ? "null" : `a ${typeof plain}`;
  const must = (what: string) => `must be ${what}, got ${got}`;
  const allStrings = (list: readonly Value[]) => list.every((entry) => typeof entry === "string");
  if (typeof kind === "object") {
    if ("object" in kind) return isObject(plain) ? undefined : must("an object");
    if (typeof plain !== "string") return must(`one of ${kind.oneOf.join(", ")}`);
    if (kind.oneOf.includes(plain)) return undefined;
    return `must be one of ${kind.oneOf.join(", ")}, got ${isSecret(value) ? "a secret" : plain}`;
  }
  switch (kind) {
    case "string":
    case "number":
    case "boolean":
      return typeof plain === kind ? undefined : must(`a ${kind}`);
    case "integer":
      return Number.isInteger(plain) ? undefined : must("a whole number");
    case "strings":
      return Array.isArray(plain) && allStrings(plain) ? undefined : must("a list of strings");
    case "stringMap":
      return isObject(plain) && allStrings(Object.values(plain))
        ? undefined
        : must("a map of strings");
    case "any[]":
      return Array.isArray(plain) ? undefined : must("a list");
    case "assetOrArchive":
      return isAsset(plain) || isArchive(plain) ? undefined : must("an asset or an archive");
  }
}

/**
 * The value without the wire's output values, at every depth: these carry dependencies too, which the engine tracks
 * itself, so that the plain value, the secret or the unknown is all that is kept.
 */
function withoutOutputValue(value: Value): Value {
  if (Array.isArray(value)) return value.map(withoutOutputValue);
  if (!isObject(value) || isAsset(value) || isArchive(value) || isResourceReference(value)) {
    return value;
  }
  if (!(SIGNATURE_KEY in value)) return mapObject(value, withoutOutputValue);
  const inner = isUnknown(value) ? UNKNOWN : withoutOutputValue(value["value"] ?? null);
  return isSecret(value) ? secret(inner) : inner;
}

/** What differs between recorded outputs and new inputs, in the fields that are inputs. */
export function diffInputs(
  fields: Fields,
  olds: Properties,
  news: Properties,
  ignoreChanges: readonly string[] = [],
): DiffResponse {
  const detailed: { [path: string]: { kind?: DiffKind } } = {};
  const changed: string[] = [];
  for (const name of Object.keys(fields)) {
    if (ignoreChanges.includes(name)) continue;
    const before = Object.keys(detailed).length;
    diffValue(name, olds[name] ?? undefined, news[name] ?? undefined, detailed);
    if (Object.keys(detailed).length > before) changed.push(name);
  }
  if (changed.length === 0) return { changes: "DIFF_NONE", hasDetailedDiff: true };
  return {
    changes: "DIFF_SOME",
    diffs: changed.sort(),
    detailedDiff: detailed,
    hasDetailedDiff: true,
  };
}

function diffValue(
  path: string,
  old: Value | undefined,
  next: Value | undefined,
  into: { [path: string]: { kind?: DiffKind } },
): void {
  if (old === undefined && next === undefined) return;
  // "ADD" is the protocol's zero value and therefore absent from recorded answers.
  if (old === undefined) into[path] = {};
  else if (next === undefined) into[path] = { kind: "DELETE" };
  else if (Array.isArray(old) && Array.isArray(next)) {
    for (let i = 0; i < Math.max(old.length, next.length); i += 1) {
      diffValue(`${path}[${i}]`, old[i], next[i], into);
    }
  } else if (isPlainObject(old) && isPlainObject(next)) {
    for (const key of new Set([...Object.keys(old), ...Object.keys(next)])) {
      const step = /^[A-Za-z_$][\w$]*$/.test(key) ? `.${key}` : `[${JSON.stringify(key)}]`;
      diffValue(path + step, old[key], next[key], into);
    }
  } else if (!equal(old, next)) {
    into[path] = { kind: "UPDATE" };
  }
}

function isPlainObject(value: Value): value is Properties {
  return isObject(value) && !(SIGNATURE_KEY in value);
}

/** Assets and archives are equal when their contents are: the engine keeps only the hash of an old text. */
function equal(a: Value, b: Value): boolean {
  if ((isAsset(a) && isAsset(b)) || (isArchive(a) && isArchive(b))) {
    return a["hash"] !== undefined && a["hash"] === b["hash"];
  }
  return deepEqual(a, b);
}

/**
 * The outputs of a preview: whatever does not simply repeat an input is unknown, when the resource is new or any
 * input changes.
 */
export function previewOutputs(
  outputs: Properties,
  inputs: Properties,
  change: "create" | { readonly olds: Properties },
): Properties {
  const changes =
    change === "create" ||
    Object.entries(inputs).some(
      ([name, value]) =>
        isUnknown(value) ||
        (change.olds[name] !== undefined && !deepEqual(change.olds[name], value)),
    );
  if (!changes) return outputs;
  return mapObject(outputs, (value, name) => {
    const input = inputs[name];
    if (input !== undefined && deepEqual(input, value)) return value;
    return input !== undefined && containsSecret(input) ? secret(UNKNOWN) : UNKNOWN;
  });
}
