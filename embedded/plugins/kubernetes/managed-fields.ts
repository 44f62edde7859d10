/** Who manages which field of an object: the server's `managedFields`, read and rewritten. */
import type { Properties, Value } from "../provider.ts";
import { isObject } from "../values.ts";
import { objects, pick, text } from "./pick.ts";

/** Managers of client-side writes whose fields an apply takes over, as the official plugin does. */
const TAKEN_OVER: readonly { readonly manager: string; readonly operation: string }[] = [
  { manager: "kubectl", operation: "Apply" },
  { manager: "kubectl", operation: "Update" },
  { manager: "before-first-apply", operation: "Update" },
  { manager: "pulumi-kubernetes", operation: "Update" },
  { manager: "pulumi-resource-kubernetes", operation: "Update" },
];

function entries(object: Properties): Properties[] {
  return objects(pick(object, "metadata", "managedFields"));
}

function isOwn(entry: Properties, manager: string): boolean {
  return entry["manager"] === manager && entry["operation"] === "Apply" && !entry["subresource"];
}

function isTakenOver(entry: Properties): boolean {
  return (
    !entry["subresource"] &&
    TAKEN_OVER.some(
      ({ manager, operation }) =>
        text(entry["manager"]).startsWith(manager) && entry["operation"] === operation,
    )
  );
}

/**
 * The JSON patch that gives `manager` the fields which client-side writes left behind, or undefined when there are
 * none. Without it, a field that vanishes from the inputs would stay on the object.
 */
export function takeOver(object: Properties, manager: string): Value[] | undefined {
  let own = entries(object).find((entry) => isOwn(entry, manager));
  let changed = false;
  const others: Properties[] = [];
  for (const entry of entries(object)) {
    if (isOwn(entry, manager)) continue;
    if (!isTakenOver(entry)) {
      others.push(entry);
      continue;
    }
    changed = true;
    own =
      own === undefined
        ? { ...entry, manager, operation: "Apply", time: new Date().toISOString() }
        : { ...own, fieldsV1: union(own["fieldsV1"], entry["fieldsV1"]) };
  }
  if (!changed || own === undefined) return undefined;
  const metadata = object["metadata"];
  const resourceVersion = isObject(metadata) ? metadata["resourceVersion"] : undefined;
  return [
    { op: "replace", path: "/metadata/managedFields", value: [...others, own] },
    { op: "replace", path: "/metadata/resourceVersion", value: resourceVersion ?? "" },
  ];
}

function union(a: Value | undefined, b: Value | undefined): Properties {
  const result: Properties = isObject(a) ? { ...a } : {};
  for (const [key, value] of Object.entries(isObject(b) ? b : {})) {
    result[key] = union(result[key], value);
  }
  return result;
}

/** Whether a dry run must be forced: the real run takes these fields over first. */
export function hasClientSideManager(object: Properties): boolean {
  return entries(object).some(
    (entry) =>
      entry["operation"] === "Update" &&
      ["pulumi-resource-kubernetes", "pulumi-kubernetes"].includes(text(entry["manager"])),
  );
}

/** Whether a field is managed by somebody else and not by `manager`. */
export function isOthers(object: Properties, path: readonly string[], manager: string): boolean {
  let others = false;
  for (const entry of entries(object)) {
    let node: Value | undefined = entry["fieldsV1"];
    for (const part of path) node = isObject(node) ? node[`f:${part}`] : undefined;
    if (node === undefined) continue;
    if (entry["manager"] === manager) return false;
    others = true;
  }
  return others;
}
