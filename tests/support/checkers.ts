import { execFile } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { BIN } from "../../embedded/paths.ts";
import { CHECKOV } from "../../embedded/toolchain/checkov.ts";

/** A Kubernetes object as it is sent. */
export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
}

/** A definition of the API server's OpenAPI document, version 2. */
interface Definition {
  readonly [keyword: string]: unknown;
  readonly properties?: { readonly [name: string]: Definition };
  readonly "x-kubernetes-group-version-kind"?: readonly {
    readonly group: string;
    readonly version: string;
    readonly kind: string;
  }[];
}

/** Everything that a program prints, whatever it ends with: a checker that finds something fails. */
async function printed(program: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(program, [...args], { maxBuffer: 64 * 2 ** 20 }, (error, stdout, stderr) => {
      if (error !== null && stdout === "")
        reject(new Error(`${program}: ${stderr}`, { cause: error }));
      else resolve(stdout);
    });
  });
}

/** Writes each object into a file of its own and returns the files. */
export async function writeObjects(
  folder: string,
  objects: readonly Manifest[],
): Promise<readonly string[]> {
  await mkdir(folder, { recursive: true });
  return Promise.all(
    objects.map(async (object, index) => {
      const file = join(folder, `${index}.json`);
      await writeFile(file, JSON.stringify(object), { mode: 0o600 });
      return file;
    }),
  );
}

/**
 * Objects that do not fit the schemas of the very API server they are for, a field too many included: one line each.
 *
 * @param openApi the server's `/openapi/v2`
 */
export async function kubeconform(
  folder: string,
  files: readonly string[],
  openApi: string,
): Promise<readonly string[]> {
  const schemas = join(folder, "schemas");
  await mkdir(schemas, { recursive: true });
  const { definitions } = JSON.parse(openApi) as {
    definitions: { readonly [name: string]: Definition };
  };
  for (const [name, { "x-kubernetes-group-version-kind": kinds = [] }] of Object.entries(
    definitions,
  )) {
    for (const { group, version, kind } of kinds) {
      const suffix = [group.split(".")[0], version].filter((part) => part !== "").join("-");
      const schema = { $ref: `#/definitions/${name}`, definitions: closure(name, definitions) };
      await writeFile(
        join(schemas, `${kind}-${suffix}.json`.toLowerCase()),
        JSON.stringify(schema),
      );
    }
  }
  const location = join(schemas, "{{ .ResourceKind }}{{ .KindSuffix }}.json");
  const output = await printed(join(BIN, "kubeconform"), [
    ...["-output", "json", "-verbose", "-schema-location", location],
    ...files,
  ]);
  const { resources } = JSON.parse(output) as {
    resources: { filename: string; kind: string; name: string; status: string; msg: string }[];
  };
  if (resources.length !== files.length) {
    throw new Error(`kubeconform must judge ${files.length} objects, got ${resources.length}`);
  }
  return resources
    .filter(({ status }) => status !== "statusValid")
    .map(({ kind, name, status, msg }) => `${kind} ${name}: ${status} ${msg}`);
}

/** A definition and all that it refers to, each shut against fields that it does not name. */
function closure(
  name: string,
  all: { readonly [name: string]: Definition },
): { [name: string]: Definition } {
  const found: { [name: string]: Definition } = {};
  const waiting = [name];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const definition = all[next];
    if (definition === undefined || next in found) continue;
    found[next] = strict(next, definition);
    for (const [, reference = ""] of JSON.stringify(definition).matchAll(
      /"#\/definitions\/([^"]+)"/g,
    )) {
      waiting.push(reference);
    }
  }
  return found;
}

function strict(name: string, definition: Definition): Definition {
  // Both are strings by the document, and numbers too by the server.
  if (name.endsWith(".IntOrString") || name.endsWith(".Quantity")) {
    return { type: ["string", "integer", "number"] };
  }
  return shut(definition);
}

function shut(definition: Definition): Definition {
  const { properties, ...rest } = definition;
  if (properties === undefined) return rest;
  const open = rest["x-kubernetes-preserve-unknown-fields"] === true;
  return {
    ...rest,
    ...(open ? {} : { additionalProperties: false }),
    properties: Object.fromEntries(
      Object.entries(properties).map(([name, property]) => [name, shut(property)]),
    ),
  };
}

/** What kube-score calls critical or a warning: `<check>: <object>: <what it says>`. */
export async function kubeScore(files: readonly string[]): Promise<readonly string[]> {
  const output = await printed(join(BIN, "kube-score"), [
    "score",
    "--output-format",
    "json",
    ...files,
  ]);
  const objects = JSON.parse(output) as {
    object_name: string;
    checks: {
      check: { id: string };
      grade: number;
      skipped: boolean;
      comments: { path: string; summary: string }[] | null;
    }[];
  }[];
  if (objects.length === 0) throw new Error("kube-score must judge some objects, got none");
  const GOOD = 10;
  return objects.flatMap(({ object_name: object, checks }) =>
    checks
      .filter(({ grade, skipped }) => !skipped && grade < GOOD)
      .flatMap(({ check: { id }, comments }) =>
        (comments ?? [{ path: "", summary: "" }]).map(
          ({ path, summary }) => `${id}: ${object}: ${[path, summary].filter(Boolean).join(" ")}`,
        ),
      ),
  );
}

/** What checkov does not let pass: `<check>: <object>: <what it asks for>`. */
export async function checkov(files: readonly string[]): Promise<readonly string[]> {
  const output = await printed(CHECKOV, [
    ...["--framework", "kubernetes", "--output", "json", "--compact", "--quiet"],
    // What it would ask its maker for: severities, and rules of others.
    "--skip-download",
    ...files.flatMap((file) => ["--file", file]),
  ]);
  const { results, summary } = JSON.parse(output) as {
    results?: { failed_checks: { check_id: string; check_name: string; resource: string }[] };
    summary: { passed: number; parsing_errors: number; resource_count: number };
  };
  // Of a pod that it finds inside an object it makes one more.
  const { passed, parsing_errors: unread, resource_count: judged } = summary;
  if (judged < files.length || passed === 0 || unread > 0) {
    throw new Error(`checkov must judge ${files.length} objects, got ${judged}, ${unread} unread`);
  }
  return (results?.failed_checks ?? []).map(
    ({ check_id: id, check_name: name, resource }) => `${id}: ${resource}: ${name}`,
  );
}
