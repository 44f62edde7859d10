/**
 * The protocol's own markers inside property values, and the way between property bags and protobuf `Struct`s.
 *
 * What a plain JSON value cannot say (a value that is not known yet, a secret, a file) the protocol writes as a
 * well-known string or as an object that carries a signature under one well-known key.
 */
import structProto from "google-protobuf/google/protobuf/struct_pb.js";
import type { Struct as StructMessage } from "google-protobuf/google/protobuf/struct_pb.js";
import { keepStructsEncoded } from "./encoded-structs.ts";
import type { Properties, Value } from "./provider.ts";

const { Struct } = structProto;
keepStructsEncoded(structProto);

/** The key under which a marked object carries its signature. */
export const SIGNATURE_KEY = "4dabf18193072939515e22adb298388d";
const SECRET = "1b47061264138c4ac30d75fd1eb44270";
const ASSET = "c44067f5952c0a294b673a41bacd8c17";
const ARCHIVE = "0def7320c3a5731c473e5ecbe6d01bc7";
const RESOURCE_REFERENCE = "5cf8f73096256a8f31e491e813e4eb8e";
const OUTPUT_VALUE = "d0e6a833031e9bbcd3f4e8bde6ca49a4";

/** What a provider answers for a value that only the real run will know. */
export const UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";

/** The engine reads all of these as unknown: one for each kind of value, the first (string) is the usual one. */
const UNKNOWN_MARKERS: ReadonlySet<string> = new Set([
  UNKNOWN,
  "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",
  "3eeb2bf0-c639-47a8-9e75-3b44932eb421",
  "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
  "030794c1-ac77-496b-92df-f27374a8bd58",
  "e48ece36-62e2-4504-bad9-02848725956a",
  "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
]);

/** An object value; markers (secrets, assets, output values) are objects too. */
export function isObject(value: Value | undefined): value is Properties {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function hasSignature(value: Value | undefined, signature: string): value is Properties {
  return isObject(value) && value[SIGNATURE_KEY] === signature;
}

/** Unknown itself, also behind secrets and output values; an object that merely contains an unknown is known. */
export function isUnknown(value: Value | undefined): boolean {
  if (typeof value === "string") return UNKNOWN_MARKERS.has(value);
  if (hasSignature(value, OUTPUT_VALUE)) return !("value" in value) || isUnknown(value["value"]);
  return hasSignature(value, SECRET) && isUnknown(value["value"]);
}

/** Whether anything at any depth is unknown. */
export function containsUnknown(value: Value | undefined): boolean {
  if (isUnknown(value)) return true;
  if (Array.isArray(value)) return value.some(containsUnknown);
  return isObject(value) && Object.values(value).some(containsUnknown);
}

/** Wraps a value as a secret; what is one already stays as it is. */
export function secret(value: Value): Value {
  return hasSignature(value, SECRET) ? value : { [SIGNATURE_KEY]: SECRET, value };
}

/** A secret, or an output value that is marked secret. */
export function isSecret(value: Value | undefined): boolean {
  return (
    hasSignature(value, SECRET) || (hasSignature(value, OUTPUT_VALUE) && value["secret"] === true)
  );
}

/** Whether anything at any depth is secret. */
export function containsSecret(value: Value | undefined): boolean {
  if (isSecret(value)) return true;
  if (Array.isArray(value)) return value.some(containsSecret);
  return isObject(value) && Object.values(value).some(containsSecret);
}

/**
 * The plain value: secrets and output values are replaced by what they hold, at every depth; an output value
 * that holds nothing becomes `UNKNOWN`. Assets, archives and resource references stay as they are.
 */
export function unwrapSecrets(value: Properties): Properties;
export function unwrapSecrets(value: Value): Value;
export function unwrapSecrets(value: Value): Value {
  if (Array.isArray(value)) return value.map((element) => unwrapSecrets(element));
  if (!isObject(value)) return value;
  if (hasSignature(value, SECRET) || hasSignature(value, OUTPUT_VALUE)) {
    const inner = value["value"];
    return inner === undefined ? UNKNOWN : unwrapSecrets(inner);
  }
  return mapObject(value, (element) => unwrapSecrets(element));
}

/** A file's or string's content, as the protocol carries it. */
export function isAsset(value: Value | undefined): value is Properties {
  return hasSignature(value, ASSET);
}

/** A folder or a packed folder, as the protocol carries it. */
export function isArchive(value: Value | undefined): value is Properties {
  return hasSignature(value, ARCHIVE);
}

/** A whole resource given as a value. */
export function isResourceReference(value: Value | undefined): value is Properties {
  return hasSignature(value, RESOURCE_REFERENCE);
}

/** Equal in every part; the order of an object's keys does not count, that of a list's elements does. */
export function deepEqual(a: Value | undefined, b: Value | undefined): boolean {
  if (a === b) return true;
  if (Array.isArray(a)) {
    return (
      Array.isArray(b) && a.length === b.length && a.every((element, i) => deepEqual(element, b[i]))
    );
  }
  if (!isObject(a) || !isObject(b)) return false;
  const keys = Object.keys(a);
  return (
    keys.length === Object.keys(b).length &&
    keys.every((key) => Object.hasOwn(b, key) && deepEqual(a[key], b[key]))
  );
}

/** The object with every value put through `change`; an own key named like a built-in stays an own key. */
export function mapObject(
  object: Properties,
  change: (value: Value, key: string) => Value,
): Properties {
  return Object.fromEntries(
    Object.entries(object).map(([key, value]) => [key, change(value, key)]),
  );
}

/**
 * A property bag as the message that carries it.
 *
 * A key whose value is `undefined` is left out, as JSON does; any other value that JSON cannot hold is refused.
 */
export function toStruct(properties: { readonly [key: string]: Value | undefined }): StructMessage {
  return Struct.fromJavaScript(sendable(properties, ""));
}

function sendable(
  properties: { readonly [key: string]: Value | undefined },
  path: string,
): Properties {
  const entries: [string, Value][] = [];
  for (const [key, value] of Object.entries(properties)) {
    if (key === "__proto__") {
      // The SDK's own reading loses it without a word.
      throw new TypeError('Property "__proto__": it cannot be sent. Choose another key.');
    }
    if (value !== undefined) entries.push([key, sendableValue(value, `${path}${key}`)]);
  }
  return Object.fromEntries(entries);
}

function sendableValue(value: Value, path: string): Value {
  if (Array.isArray(value)) return value.map((part, i) => sendableValue(part, `${path}[${i}]`));
  if (isObject(value)) return sendable(value, `${path}.`);
  if (value === null || ["string", "boolean", "number"].includes(typeof value)) return value;
  throw new TypeError(
    `Property "${path}": only JSON values can be sent, got ${typeof value}. Convert it first.`,
  );
}

/** The property bag that a message carries; an absent message is an empty bag. */
export function fromStruct(struct: StructMessage | undefined): Properties {
  return struct?.toJavaScript() ?? {};
}
