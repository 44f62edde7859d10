/** What the engine records of an object: the live object, its inputs beside it, secrets marked. */
import type { Properties, Value } from "../provider.ts";
import { containsSecret, isObject, isSecret, secret, unwrapSecrets } from "../values.ts";
import { withoutNulls } from "./normalize.ts";

const INPUTS = "__inputs";
const INITIAL_API_VERSION = "__initialApiVersion";
const FIELD_MANAGER = "__fieldManager";

/** Keys that a definition's schema spells with dashes and the SDK with underscores. */
const DASHED = [
  "x-kubernetes-embedded-resource",
  "x-kubernetes-int-or-string",
  "x-kubernetes-list-map-keys",
  "x-kubernetes-list-type",
  "x-kubernetes-map-type",
  "x-kubernetes-preserve-unknown-fields",
  "x-kubernetes-validations",
] as const;
const TO_UNDERSCORES = new Map<string, string>(
  DASHED.map((key) => [key, key.replaceAll("-", "_")]),
);
const TO_DASHES = new Map<string, string>(DASHED.map((key) => [key.replaceAll("-", "_"), key]));

function renamed(value: Value, names: ReadonlyMap<string, string>): Value {
  if (Array.isArray(value)) return value.map((element) => renamed(element, names));
  if (!isObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, element]) => [names.get(key) ?? key, renamed(element, names)]),
  );
}

/** The Kubernetes object in a property bag: secrets opened, nulls dropped, keys as Kubernetes spells them. */
export function toObject(properties: Properties): Properties {
  return renamed(withoutNulls(unwrapSecrets(properties)), TO_DASHES) as Properties;
}

/** An object that is not a marker. */
function isPlain(value: Value | undefined): value is Properties {
  return isObject(value) && !isSecret(value);
}

/**
 * Marks in `target` what is secret in `like`. A Secret's data is always secret. The target is changed and returned.
 */
export function markSecrets(target: Properties, like: Properties): Properties {
  if (target["kind"] === "Secret") {
    for (const key of ["data", "stringData"]) {
      const value = target[key];
      if (value !== undefined) target[key] = secret(value);
    }
    return target;
  }
  for (const [key, value] of Object.entries(like)) {
    const current = target[key];
    if (current === undefined || !Object.hasOwn(target, key)) continue;
    if (isPlain(current) && isPlain(value)) markSecrets(current, value);
    else if (!isSecret(current) && containsSecret(value)) target[key] = secret(current);
  }
  return target;
}

/**
 * The state to record.
 *
 * @param inputs the normalized inputs, as a Kubernetes object.
 * @param live the object as the server has it.
 * @param like the properties whose secrecy the state takes on.
 */
export function checkpoint(
  inputs: Properties,
  live: Properties,
  like: Properties,
  initialApiVersion: string,
  fieldManager: string,
): Properties {
  const properties = (object: Properties): Properties =>
    markSecrets(structuredClone(renamed(withoutNulls(object), TO_UNDERSCORES)) as Properties, like);
  return {
    ...properties(live),
    [INPUTS]: properties(inputs),
    [INITIAL_API_VERSION]: initialApiVersion,
    [FIELD_MANAGER]: fieldManager,
  };
}

/** A recorded state, taken apart. */
export interface State {
  readonly inputs: Properties;
  readonly live: Properties;
  readonly initialApiVersion: string | undefined;
  readonly fieldManager: string | undefined;
}

/** Reads what `checkpoint` made; the state of an object that is not recorded yet is empty. */
export function readState(properties: Properties): State {
  const { [INPUTS]: inputs, ...rest } = toObject(properties);
  const initialApiVersion = rest[INITIAL_API_VERSION];
  const fieldManager = rest[FIELD_MANAGER];
  delete rest[INITIAL_API_VERSION];
  delete rest[FIELD_MANAGER];
  return {
    inputs: isObject(inputs) ? inputs : {},
    live: rest,
    initialApiVersion: typeof initialApiVersion === "string" ? initialApiVersion : undefined,
    fieldManager: typeof fieldManager === "string" ? fieldManager : undefined,
  };
}
