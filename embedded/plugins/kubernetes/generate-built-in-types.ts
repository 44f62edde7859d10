/**
 * Writes `built-in-types.json`, the shape of every built-in kind, out of the Go sources of `k8s.io/api`.
 *
 * Only Go says which fields vanish when they hold their zero value and which are told apart from absent ones
 * (pointers); the API server's OpenAPI document does not. Run by hand after a change of the Kubernetes version:
 *
 *     node generate-built-in-types.ts $(go list -m -f '{{.Dir}}' k8s.io/api k8s.io/apimachinery)
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const PACKAGES = [
  "admissionregistration/v1",
  "apps/v1",
  "autoscaling/v1",
  "autoscaling/v2",
  "batch/v1",
  "certificates/v1",
  "coordination/v1",
  "core/v1",
  "discovery/v1",
  "flowcontrol/v1",
  "networking/v1",
  "node/v1",
  "policy/v1",
  "rbac/v1",
  "scheduling/v1",
  "storage/v1",
] as const;

/** Types that know their own JSON form, and types that hold anything. */
const OPAQUE: { readonly [type: string]: string } = {
  "meta/v1.Time": "any",
  "meta/v1.MicroTime": "any",
  "meta/v1.Duration": "any",
  "meta/v1.FieldsV1": "any",
  "resource.Quantity": "quantity",
  "intstr.IntOrString": "any",
  "runtime.RawExtension": "any",
  "types.UID": "string",
  "types.NamespacedName": "any",
};
const SCALARS: { readonly [type: string]: string } = {
  string: "string",
  bool: "boolean",
  byte: "number",
  int: "number",
  int32: "number",
  int64: "number",
  uint32: "number",
  uint64: "number",
  float64: "number",
};

interface GoField {
  readonly name: string;
  readonly type: string;
  readonly omitEmpty: boolean;
  readonly inline: boolean;
}
interface GoPackage {
  readonly structs: Map<string, GoField[]>;
  readonly aliases: Map<string, string>;
  readonly imports: Map<string, string>;
}

const [apiFolder, machineryFolder] = process.argv.slice(2);
if (apiFolder === undefined || machineryFolder === undefined) {
  throw new Error(
    "Generator: two folders must be given (k8s.io/api and k8s.io/apimachinery), got fewer. See the comment in this file.",
  );
}

const parsed = new Map<string, GoPackage>();

function folderOf(name: string): string {
  return name === "meta/v1"
    ? join(machineryFolder as string, "pkg/apis/meta/v1")
    : join(apiFolder as string, name);
}

function parse(name: string): GoPackage {
  const known = parsed.get(name);
  if (known !== undefined) return known;
  const file = join(folderOf(name), "types.go");
  const source = existsSync(file) ? readFileSync(file, "utf8") : "";
  const structs = new Map<string, GoField[]>();
  for (const [, type = "", body = ""] of source.matchAll(
    /^type (\w+) struct \{\n([\s\S]*?)^\}/gm,
  )) {
    const fields: GoField[] = [];
    for (const line of body.split("\n")) {
      const match = /^\t(?:(\w+)\s+)?(\S+)\s+`.*?json:"([^"]*)".*`/.exec(line);
      if (match === null) continue;
      const [jsonName = "", ...options] = (match[3] ?? "").split(",");
      if (jsonName === "-") continue;
      fields.push({
        name: jsonName,
        type: match[2] ?? "",
        omitEmpty: options.includes("omitempty"),
        inline: options.includes("inline") || jsonName === "",
      });
    }
    structs.set(type, fields);
  }
  const aliases = new Map<string, string>();
  for (const [, type = "", underlying = ""] of source.matchAll(/^type (\w+) =? ?([\w[\].*]+)$/gm)) {
    aliases.set(type, underlying);
  }
  const imports = new Map<string, string>();
  for (const [, alias, path = ""] of source.matchAll(/^\t(?:(\w+) )?"([\w./-]+)"$/gm)) {
    const parts = path.split("/");
    const short =
      path === "k8s.io/apimachinery/pkg/apis/meta/v1"
        ? "meta/v1"
        : path.startsWith("k8s.io/api/")
          ? path.slice("k8s.io/api/".length)
          : (parts.at(-1) ?? "");
    imports.set(alias ?? parts.at(-1) ?? "", short);
  }
  const result = { structs, aliases, imports };
  parsed.set(name, result);
  return result;
}

const types: { [type: string]: { [field: string]: string } } = {};

/** What a Go type is in JSON: prefixes for lists and maps, then a scalar, "quantity", "any" or a type's name. */
function resolve(name: string, type: string): string {
  if (type.startsWith("*")) return resolve(name, type.slice(1));
  if (type === "[]byte") return "string";
  if (type.startsWith("[]")) return `[]${resolve(name, type.slice(2))}`;
  const map = /^map\[[\w.]+\](.*)$/.exec(type);
  if (map !== null) return `{}${resolve(name, map[1] ?? "")}`;
  const scalar = SCALARS[type];
  if (scalar !== undefined) return scalar;
  const go = parse(name);
  const dot = type.indexOf(".");
  if (dot > 0) {
    const other = go.imports.get(type.slice(0, dot)) ?? type.slice(0, dot);
    const full = `${other}.${type.slice(dot + 1)}`;
    const opaque = OPAQUE[full];
    if (opaque !== undefined) return opaque;
    return resolve(other, type.slice(dot + 1));
  }
  const full = `${name}.${type}`;
  const opaque = OPAQUE[full];
  if (opaque !== undefined) return opaque;
  const alias = go.aliases.get(type);
  if (alias !== undefined) return resolve(name, alias);
  const struct = go.structs.get(type);
  if (struct === undefined) return "any";
  if (types[full] === undefined) {
    types[full] = {};
    types[full] = fieldsOf(name, struct);
  }
  return full;
}

function fieldsOf(name: string, struct: readonly GoField[]): { [field: string]: string } {
  const fields: { [field: string]: string } = {};
  for (const field of struct) {
    if (field.inline) {
      const target = resolve(name, field.type);
      if (field.type === "metav1.TypeMeta")
        Object.assign(fields, { apiVersion: "?string", kind: "?string" });
      else Object.assign(fields, types[target]);
      continue;
    }
    const type = resolve(name, field.type);
    // A struct never counts as empty, and a pointer tells zero from absent.
    const vanishes =
      field.omitEmpty &&
      !field.type.startsWith("*") &&
      (/^(\[\]|\{\})/.test(type) || ["string", "number", "boolean"].includes(type));
    fields[field.name] = `${vanishes ? "?" : ""}${type}`;
  }
  return fields;
}

const kinds: { [kind: string]: string } = {};
for (const name of PACKAGES) {
  const group = /const GroupName = "(.*)"/.exec(
    readFileSync(join(folderOf(name), "register.go"), "utf8"),
  )?.[1];
  if (group === undefined)
    throw new Error(`Generator: package "${name}" must name its API group, got none.`);
  const version = name.slice(name.indexOf("/") + 1);
  for (const [type, fields] of parse(name).structs) {
    const isKind =
      fields.some((field) => field.inline && field.type === "metav1.TypeMeta") &&
      fields.some((field) => field.type === "metav1.ObjectMeta" && field.name === "metadata");
    if (isKind) kinds[`${group === "" ? "" : `${group}/`}${version}/${type}`] = resolve(name, type);
  }
}

/** One line for each type: "field:type field:type". */
const lists = Object.fromEntries(
  Object.entries(types).map(([type, fields]) => [
    type,
    Object.entries(fields)
      .map(([field, kind]) => `${field}:${kind}`)
      .join(" "),
  ]),
);
const lines = (object: { [key: string]: unknown }): string =>
  Object.keys(object)
    .sort()
    .map((key) => `    ${JSON.stringify(key)}: ${JSON.stringify(object[key])}`)
    .join(",\n");
writeFileSync(
  join(import.meta.dirname, "built-in-types.json"),
  `{\n  "kinds": {\n${lines(kinds)}\n  },\n  "types": {\n${lines(lists)}\n  }\n}\n`,
);
