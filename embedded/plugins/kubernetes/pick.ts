/** Reading inside Kubernetes objects, whose shape nobody has promised. */
import type { Properties, Value } from "../provider.ts";
import { isObject } from "../values.ts";

/** The value at a path of keys, or undefined. */
export function pick(object: Value | undefined, ...path: readonly string[]): Value | undefined {
  let value = object;
  for (const key of path) {
    if (!isObject(value)) return undefined;
    value = value[key];
  }
  return value;
}

/** A string, number or boolean as text; anything else is the empty text. */
export function text(value: Value | undefined): string {
  return value === undefined || value === null || typeof value === "object" ? "" : String(value);
}

/** The text at a path of keys; empty when there is none. */
export function pickText(object: Value | undefined, ...path: readonly string[]): string {
  return text(pick(object, ...path));
}

/** The objects in a list; none when it is no list. */
export function objects(value: Value | undefined): Properties[] {
  return Array.isArray(value) ? value.filter(isObject) : [];
}

/** A copy without one key. */
export function without(object: Properties, key: string): Properties {
  return Object.fromEntries(Object.entries(object).filter(([name]) => name !== key));
}
