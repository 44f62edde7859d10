import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { destroy, runOnStack } from "../../embedded/deploy.ts";
import { policyPack } from "../../embedded/engine/policy-pack.ts";
import { type LocalStack, writeTenantStack } from "../../embedded/local-fleet.ts";
import type { PlatformFacts } from "../../embedded/machines/platform.ts";
import { RULES } from "../../policies/rules.ts";
import { judge, type Judged, UNKNOWN } from "../support/judge.ts";
import { platform } from "../support/platform.ts";
import { identityIn } from "../support/tenants.ts";

const NAME = "known-at-preview";

/** What `pulumi preview --json` tells of one resource that it would make. */
interface Step {
  readonly op: string;
  readonly newState: {
    readonly urn: string;
    readonly type: string;
    readonly inputs?: { readonly [property: string]: unknown };
    /** `<urn>::<id>` of its provider. */
    readonly provider?: string;
  };
}

describe("the preview of a new tenant, by the real engine", () => {
  let facts: PlatformFacts;
  let stack: LocalStack;
  let folder: string;
  let resources: readonly Judged[];
  let unknown: readonly string[];

  beforeAll(async () => {
    facts = await platform();
    folder = mkdtempSync(join(tmpdir(), "identity-"));
    const identity = identityIn(folder, facts.machines["nl-1"]);
    stack = await writeTenantStack({ name: NAME, location: "nl-1", plan: "lite", ...identity });
    const kubeconfigFile = facts.machines["nl-1"].cluster?.kubeconfigFile ?? "";
    const run = await runOnStack(
      ["preview", "--json", "--policy-pack", policyPack()],
      stack,
      facts,
      { onLine: () => undefined },
    );
    // No rule has found anything, an unknown value included.
    expect(run.exitCode).toBe(0);
    // The engine masks what is secret, known or not: here all of it counts as unknown.
    const { steps } = JSON.parse(run.stdout, (_key, value: unknown) =>
      value === null || value === "[secret]" ? UNKNOWN : value,
    ) as { steps: readonly Step[] };
    expect(steps.filter(({ op }) => op !== "create")).toEqual([]);
    resources = steps.map(({ newState: { urn, type, inputs = {}, provider } }) => {
      const providerName = provider?.split("::").at(-2);
      return {
        type,
        name: urn.split("::").at(-1) ?? "",
        // What reaches a cluster is a file's content: masked here, known to the rules.
        props:
          type === "pulumi:providers:kubernetes"
            ? { ...inputs, kubeconfig: readFileSync(kubeconfigFile, "utf8") }
            : inputs,
        ...(providerName === undefined ? {} : { provider: providerName }),
      };
    });
    unknown = resources.flatMap(({ type, name, props }) =>
      pathsOf(props)
        .filter(([, value]) => value === UNKNOWN)
        .map(([path]) => `${type} ${name} ${path}`),
    );
  });

  afterAll(async () => {
    await destroy(stack, facts);
    rmSync(folder, { recursive: true });
  });

  it("leaves nothing unknown but what is secret", () => {
    const kinds = new Set(unknown.map((line) => line.replaceAll(`${NAME}-`, "")));
    expect([...kinds].sort()).toEqual([
      "kubernetes:core/v1:Secret backup-store data",
      "kubernetes:core/v1:Secret database-app-secret data",
      "kubernetes:core/v1:Secret database-backup-secret data",
      "kubernetes:core/v1:Secret key-contract data",
      "kubernetes:core/v1:Secret key-credentials data",
      "kubernetes:core/v1:Secret key-keys data",
      "postgresql:index/role:Role database-app password",
      "postgresql:index/role:Role database-backup password",
      "pulumi:providers:postgresql nl-1-server password",
    ]);
  });

  it("is refused by no rule, though all that is secret counts as unknown", () => {
    const read = new Set<string>();
    const watched = resources.map((resource) => ({
      ...resource,
      props: watch(resource.props, (path) => read.add(`${resource.type} ${resource.name} ${path}`)),
    }));
    const found: string[] = [];
    const readers: string[] = [];
    for (const rule of RULES) {
      const before = read.size;
      found.push(...judge(rule, watched));
      if (read.size > before) readers.push(rule.name);
    }
    expect(found).toEqual([]);
    // The rules did read, and much of it.
    expect(readers.length).toBeGreaterThan(5);
    expect(read.size).toBeGreaterThan(100);
  });

  it("would be refused with any of those fields unknown", () => {
    const image = spoil("kubernetes:apps/v1:Deployment", "spec.template.spec.containers.0.image");
    const zone = spoil("fluxbilling:tenant:Tenant", "zone");
    const cidr = spoil("kubernetes:networking.k8s.io/v1:NetworkPolicy", "spec.policyTypes");
    for (const [spoiled, rule] of [
      [image, "image-by-digest"],
      [zone, "data-stays-in-its-zone"],
      [cidr, "namespace-has-default-deny"],
    ] as const) {
      const messages: string[] = [];
      for (const policy of RULES.filter(({ name }) => name === rule)) {
        messages.push(...judge(policy, spoiled));
      }
      expect(messages.join()).toContain("must be known at preview, got an unknown value");
    }
  });

  /** The resources with one field of every one of a type unknown. */
  function spoil(type: string, path: string): readonly Judged[] {
    return resources.map((resource) => {
      if (resource.type !== type) return resource;
      const props = structuredClone(resource.props) as { [property: string]: unknown };
      const steps = path.split(".");
      const last = steps.pop() ?? "";
      const parent = steps.reduce<{ [property: string]: unknown }>(
        (value, step) => value[step] as { [property: string]: unknown },
        props,
      );
      expect(parent[last]).toBeDefined();
      parent[last] = UNKNOWN;
      return { ...resource, props };
    });
  }
});

/** Every value of nested objects and lists that is neither, by its path. */
function pathsOf(value: unknown, path = ""): readonly (readonly [string, unknown])[] {
  if (typeof value !== "object" || value === null) return [[path, value]];
  return Object.entries(value).flatMap(([key, item]) =>
    pathsOf(item, path === "" ? key : `${path}.${key}`),
  );
}

/** The same value; tells the path of everything that is read of it. */
function watch(value: unknown, onRead: (path: string) => void, path = ""): unknown {
  if (typeof value !== "object" || value === null) return value;
  return new Proxy(value, {
    get: (target, key, receiver) => {
      const found: unknown = Reflect.get(target, key, receiver);
      if (typeof key === "symbol" || !Object.hasOwn(target, key)) return found;
      const here = path === "" ? key : `${path}.${key}`;
      onRead(here);
      return watch(found, onRead, here);
    },
  });
}
