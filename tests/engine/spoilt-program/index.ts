/**
 * The real program with some inputs of some resources changed as they are registered: what a wrong change of a component
 * would make. FLUX_SPOILINGS names the file that says which.
 */
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import * as random from "@pulumi/random";

/** One resource that is changed. */
export interface Spoiling {
  readonly type: string;
  readonly name: string;
  /** Path of each input, dots parting the steps and `\.` a dot, and its value; null removes it, SMUGGLED is an Output. */
  readonly set: { readonly [path: string]: unknown };
  readonly protect?: boolean;
  readonly ignoreChanges?: readonly string[];
}

/** Stands for a value that is not known at preview. */
const ROOT = resolve(import.meta.dirname, "../../..");
const SMUGGLED = "\u0000smuggled";

const spoilings = JSON.parse(
  readFileSync(process.env["FLUX_SPOILINGS"] ?? "", "utf8"),
) as readonly Spoiling[];

// Only where one is asked for: a tenant's stack has nothing of this kind otherwise.
const smuggled = JSON.stringify(spoilings).includes(JSON.stringify(SMUGGLED).slice(1, -1))
  ? new random.RandomPassword("smuggled", { length: 8 }).result
  : undefined;

pulumi.runtime.registerStackTransformation(({ type, name, props, opts }) => {
  if (type === "command:remote:CopyToRemote") {
    // Files are found from the real program's folder, not from this one's.
    const { source } = props as { source: pulumi.asset.FileAsset };
    const path = Promise.resolve(source.path).then((file) => resolve(ROOT, file));
    return { props: { ...props, source: new pulumi.asset.FileAsset(path) }, opts };
  }
  const own = spoilings.filter((spoiling) => spoiling.type === type && spoiling.name === name);
  if (own.length === 0) return undefined;
  const changed = copied(props) as { [key: string]: unknown };
  for (const { set } of own) {
    for (const [path, value] of Object.entries(set)) {
      put(changed, path, value === SMUGGLED ? smuggled : value);
    }
  }
  const options = own.map(({ protect, ignoreChanges }) => ({
    ...(protect === undefined ? {} : { protect }),
    ...(ignoreChanges === undefined ? {} : { ignoreChanges: [...ignoreChanges] }),
  }));
  return { props: changed, opts: Object.assign({}, opts, ...options) as pulumi.ResourceOptions };
});

/** A copy of plain objects and lists; Outputs, assets and their like stay what they are. */
function copied(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(copied);
  return typeof value === "object" &&
    value !== null &&
    Object.getPrototypeOf(value) === Object.prototype
    ? Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, copied(inner)]))
    : value;
}

function put(props: { [key: string]: unknown }, path: string, value: unknown): void {
  const steps = path.split(/(?<!\\)\./).map((step) => step.replaceAll("\\.", "."));
  const last = steps.pop() ?? "";
  let target = props;
  for (const step of steps) {
    target[step] ??= {};
    target = target[step] as { [key: string]: unknown };
  }
  if (Array.isArray(target) && !/^\d+$/.test(last)) {
    // A variable by its name.
    const variable = (target as { name?: string; value?: unknown }[]).find(
      ({ name }) => name === last,
    );
    if (variable === undefined) throw new Error(`${path} must name a variable`);
    variable.value = value;
  } else if (value === null) {
    Reflect.deleteProperty(target, last);
  } else {
    target[last] = value;
  }
}

export default ((await import("../../../index.ts")) as { default: unknown }).default;
