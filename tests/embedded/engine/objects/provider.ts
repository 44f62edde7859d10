/**
 * A stand-in for the kubernetes plugin: each object is a line in a file, so that a test sees what was made twice, and
 * a creation can be held up before or after it has happened.
 */
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import type {
  CheckRequest,
  CreateRequest,
  DiffRequest,
  Properties,
  ReadRequest,
} from "../../../../embedded/plugins/provider.ts";
import { serve } from "../../../../embedded/plugins/serve.ts";

const objectsFile = process.env["OBJECTS_FILE"] ?? "";
const heldUp = process.env["OBJECTS_HELD_UP"] ?? "never";
const forever = new Promise<never>(() => setInterval(() => undefined, 60_000));

function identity(inputs: Properties): string {
  const metadata = inputs["metadata"] as { name: string; namespace: string };
  return `${metadata.namespace}/${metadata.name}`;
}

function objects(): string[] {
  return existsSync(objectsFile) ? readFileSync(objectsFile, "utf8").split("\n").slice(0, -1) : [];
}

await serve({
  name: "kubernetes",
  version: "0.0.1",
  checkConfig: ({ news }: CheckRequest) => Promise.resolve({ inputs: news }),
  diffConfig: () => Promise.resolve({ changes: "DIFF_NONE" }),
  configure: () => Promise.resolve({ acceptSecrets: true, supportsPreview: true }),
  check: ({ news }: CheckRequest) => Promise.resolve({ inputs: news }),
  diff: ({ oldInputs, news }: DiffRequest) =>
    Promise.resolve({
      changes: JSON.stringify(oldInputs) === JSON.stringify(news) ? "DIFF_NONE" : "DIFF_SOME",
    }),
  create: async ({ properties, preview }: CreateRequest) => {
    const id = identity(properties);
    if (preview === true) return { properties };
    if (heldUp === "before") await forever;
    appendFileSync(objectsFile, `${id}\n`);
    if (heldUp === "after") await forever;
    return { id, properties };
  },
  read: ({ id, properties = {}, inputs = {} }: ReadRequest) =>
    Promise.resolve(objects().includes(id) ? { id, properties, inputs } : {}),
  update: ({ news }) => Promise.resolve({ properties: news }),
  delete: () => Promise.resolve(),
});
