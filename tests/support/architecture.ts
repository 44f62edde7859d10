import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Registered } from "./construct.ts";
import { fleetResources, hostResources, tenantResources } from "./good.ts";

/** The document with the pictures. */
export const ARCHITECTURE_FILE = join(import.meta.dirname, "../../docs/architecture.md");

/** The document with the pictures of what the program registers today, in place of those that it has. */
export async function drawn(document: string): Promise<string> {
  const stacks = {
    fleet: await fleetResources(),
    tenant: await tenantResources(),
    host: await hostResources(),
  };
  return Object.entries(stacks).reduce(
    (text, [name, resources]) => replaced(text, name, picture(resources)),
    document,
  );
}

function replaced(document: string, name: string, diagram: string): string {
  const block = new RegExp(`(<!-- drawn: ${name} -->\n\n)[^]*?(\n\n<!-- end -->)`);
  if (!block.test(document)) throw new Error(`architecture.md must have a place for ${name}`);
  return document.replace(block, `$1\`\`\`mermaid\n${diagram}\n\`\`\`$2`);
}

/** Components as boxes in boxes, and in each what it is made of, counted by kind. */
function picture(resources: readonly Registered[]): string {
  return ["flowchart LR", ...boxes(resources, "", "  ")].join("\n");
}

function boxes(resources: readonly Registered[], parent: string, indent: string): string[] {
  const children = resources.filter((resource) => resource.parent === parent);
  const components = children
    .filter(isComponent)
    .toSorted((one, other) => (one.name < other.name ? -1 : 1));
  const kinds = new Map<string, number>();
  for (const { type } of children.filter((child) => !isComponent(child))) {
    kinds.set(kindOf(type), (kinds.get(kindOf(type)) ?? 0) + 1);
  }
  return [
    ...[...kinds].toSorted().map(([kind, count]) => {
      const id = `${parent}-${kind}`.replaceAll(/[^A-Za-z0-9]/g, "_");
      return `${indent}${id}["${kind}${count === 1 ? "" : ` × ${count}`}"]`;
    }),
    ...components.flatMap(({ type, name }) => [
      `${indent}subgraph ${name.replaceAll("-", "_")}["${kindOf(type)} ${name}"]`,
      ...boxes(resources, name, `${indent}  `),
      `${indent}end`,
    ]),
  ];
}

function isComponent({ type }: Registered): boolean {
  return type.startsWith("fluxbilling:");
}

function kindOf(type: string): string {
  return type.startsWith("pulumi:providers:")
    ? `provider ${type.split(":").at(-1) ?? ""}`
    : `${type.startsWith("postgresql:") ? "PostgreSQL " : ""}${type.split(":").at(-1) ?? ""}`;
}

if (import.meta.main) {
  writeFileSync(ARCHITECTURE_FILE, await drawn(readFileSync(ARCHITECTURE_FILE, "utf8")));
}
