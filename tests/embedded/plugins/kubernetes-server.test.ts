import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { KubernetesProvider } from "../../../embedded/plugins/kubernetes/kubernetes-provider.ts";
import { pick, pickText, text } from "../../../embedded/plugins/kubernetes/pick.ts";
import type { Properties, Value } from "../../../embedded/plugins/provider.ts";
import { InitializationFailure } from "../../../embedded/plugins/provider.ts";
import { isObject } from "../../../embedded/plugins/values.ts";
import { MISSING_IMAGE, startTestCluster } from "../../support/api-server.ts";
import type { TestCluster } from "../../support/api-server.ts";
import { STEPS, ask, compare, recordedCalls, testContext } from "./replay.ts";
import type { Allowance, Call } from "./replay.ts";

let cluster: TestCluster;

beforeAll(async () => {
  cluster = await startTestCluster(DEFINITIONS);
});
afterAll(async () => {
  await cluster.stop();
});

async function provider(args: Properties = {}): Promise<KubernetesProvider> {
  const made = new KubernetesProvider();
  await made.configure({ args: { kubeconfig: cluster.kubeconfig, ...args } });
  return made;
}

/** A definition like Traefik's, as far as the recording uses it. */
function definition(kind: string, plural: string, spec: Properties): Properties {
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${plural}.traefik.io` },
    spec: {
      group: "traefik.io",
      names: { kind, plural },
      scope: "Namespaced",
      versions: [
        {
          name: "v1alpha1",
          served: true,
          storage: true,
          schema: {
            openAPIV3Schema: {
              type: "object",
              properties: { spec: { type: "object", properties: spec } },
            },
          },
        },
      ],
    },
  };
}

const DEFINITIONS = [
  definition("TLSOption", "tlsoptions", { minVersion: { type: "string" } }),
  definition("Middleware", "middlewares", {
    headers: {
      type: "object",
      properties: {
        stsSeconds: { type: "integer" },
        stsIncludeSubdomains: { type: "boolean" },
      },
    },
  }),
];

function urn(type: string, name: string): string {
  return `urn:pulumi:test::test::${type}::${name}`;
}

/** What no two runs have in common, and what the recording's other node and other programs wrote. */
const ALLOWANCES: Allowance[] = [
  { at: "properties.__fieldManager", reason: "a random name" },
  { at: "properties.metadata.uid", reason: "a random value" },
  { at: "properties.metadata.resourceVersion", reason: "counted per cluster" },
  { at: "properties.metadata.creationTimestamp", reason: "a time" },
  { at: "properties.metadata.managedFields.*.time", reason: "a time" },
  { at: "properties.metadata.managedFields.*.manager", reason: "a random name" },
  {
    at: "properties.metadata.managedFields",
    type: "ResourceQuota",
    reason: "API server and controller take turns at counting",
    anything: true,
  },
  { at: "properties.status.conditions.*.lastTransitionTime", reason: "a time" },
  { at: "properties.status.conditions.*.lastUpdateTime", type: "Deployment", reason: "a time" },
  { at: "properties.status.conditions.*.lastProbeTime", type: "Job", reason: "a time" },
  { at: "properties.status.completionTime", type: "Job", reason: "a time" },
  { at: "properties.status.startTime", type: "Job", reason: "a time" },
  ...["properties.metadata.labels", "properties.spec.template.metadata.labels"].flatMap((labels) =>
    ["batch.kubernetes.io/controller-uid", "controller-uid"].map((label) => ({
      at: `${labels}.${label}`,
      type: "Job",
      reason: "a random value",
    })),
  ),
  {
    at: "properties.spec.selector.matchLabels.batch.kubernetes.io/controller-uid",
    type: "Job",
    reason: "a random value",
  },
  { at: "properties.spec.clusterIP", type: "Service", reason: "given out by the cluster" },
  { at: "properties.spec.clusterIPs.*", type: "Service", reason: "given out by the cluster" },
  {
    at: "properties.status",
    type: "PodDisruptionBudget",
    methods: ["Read"],
    reason: "counted while pods come",
    anything: true,
  },
  { at: "properties.status.used.*", type: "ResourceQuota", reason: "counted while pods come" },
  {
    at: "properties.status.used.requests.cpu",
    type: "ResourceQuota",
    reason: "counted while pods come",
  },
];

/** Our own states of the recorded resources, by URN and id: what the engine would hand back. */
class Engine {
  readonly #states = new Map<string, Properties>();

  request(call: Call): Properties {
    const request = structuredClone(call.request);
    const state = this.#states.get(`${text(request["urn"])} ${text(request["id"])}`);
    if (state === undefined) return request;
    const inputs = state["__inputs"] as Value;
    if (call.method === "Diff" || call.method === "Update") {
      return { ...request, olds: state, oldInputs: inputs };
    }
    if (call.method === "Read") return { ...request, properties: state, inputs };
    if (call.method === "Delete") return { ...request, properties: state, oldInputs: inputs };
    return request;
  }

  record(call: Call, response: Properties): void {
    if (call.request["preview"] === true) return;
    const properties = response["properties"];
    const id = text(response["id"] ?? call.request["id"]);
    if (isObject(properties)) this.#states.set(`${text(call.request["urn"])} ${id}`, properties);
  }
}

/** The server sorts an object's managers by the second in which they wrote; here they have an order of their own. */
function byManager<Answer extends { readonly response: Properties }>(answer: Answer): Answer {
  const response = structuredClone(answer.response);
  const managed = pick(response, "properties", "metadata", "managedFields");
  const key = (entry: Value): string =>
    ["operation", "subresource", "manager"].map((part) => pickText(entry, part)).join(" ");
  if (Array.isArray(managed)) managed.sort((a, b) => (key(a) < key(b) ? -1 : 1));
  return { ...answer, response };
}

type Object_ = Properties & { metadata: Properties };

interface Made {
  readonly id: string;
  readonly urn: string;
  readonly type: string;
  readonly name: string;
  readonly properties: Properties;
  readonly inputs: Properties;
}

function token(object: Properties): string {
  const version = text(object["apiVersion"]);
  return `kubernetes:${version.includes("/") ? version : `core/${version}`}:${text(object["kind"])}`;
}

/** Checks and creates an object, as the engine does. */
async function make(
  plugin: KubernetesProvider,
  news: Properties,
  options: { readonly timeout?: number; readonly lines?: string[]; readonly type?: string } = {},
): Promise<Made> {
  const type = options.type ?? token(news);
  const name = "test";
  const resource = { urn: urn(type, name), type, name };
  const { inputs = {} } = await plugin.check({ ...resource, news }, testContext());
  const created = await plugin.create(
    {
      ...resource,
      properties: inputs,
      ...(options.timeout === undefined ? {} : { timeout: options.timeout }),
    },
    testContext(options.lines),
  );
  return { ...resource, id: created.id ?? "", properties: created.properties, inputs };
}

async function change(
  plugin: KubernetesProvider,
  made: Made,
  news: Properties,
  ignoreChanges: readonly string[] = [],
): Promise<Made> {
  const { properties } = await plugin.update(
    { ...made, olds: made.properties, oldInputs: made.inputs, news, ignoreChanges },
    testContext(),
  );
  return { ...made, properties, inputs: news };
}

async function remove(plugin: KubernetesProvider, made: Made, timeout?: number): Promise<void> {
  await plugin.delete(
    { ...made, oldInputs: made.inputs, ...(timeout === undefined ? {} : { timeout }) },
    testContext(),
  );
}

function configMap(name: string, rest: Properties = {}): Object_ {
  const { metadata = {}, ...fields } = rest;
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    ...fields,
    metadata: { name, namespace: "default", ...(metadata as Properties) },
  };
}

function deployment(name: string, image: string, annotations: Properties = {}): Object_ {
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name, namespace: "default", annotations },
    spec: {
      selector: { matchLabels: { app: name } },
      template: {
        metadata: { labels: { app: name } },
        spec: { containers: [{ name: "app", image, imagePullPolicy: "Never" }] },
      },
    },
  };
}

function service(name: string, spec: Properties): Object_ {
  return { apiVersion: "v1", kind: "Service", metadata: { name, namespace: "default" }, spec };
}

async function live(path: string): Promise<Properties> {
  return cluster.api.request("GET", path);
}

const CONFIG_MAPS = "/api/v1/namespaces/default/configmaps";

describe("KubernetesProvider on a real API server", () => {
  it("answers the recorded run as the official plugin did, from preview to destroy", async () => {
    const plugin = await provider();
    const engine = new Engine();
    const lines: string[] = [];
    const used = new Set<Allowance>();
    for (const call of recordedCalls("kubernetes", ...STEPS)) {
      if (["Configure", "CheckConfig", "DiffConfig"].includes(call.method)) continue;
      const answer = await ask(plugin, { ...call, request: engine.request(call) });
      engine.record(call, answer.response);
      const differences = compare(byManager(call), byManager(answer), ALLOWANCES, used);
      for (const { path, expected, actual } of differences) {
        lines.push(
          `${call.step} ${call.method} ${call.type}::${call.name} ${path}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(actual)}`,
        );
      }
    }
    expect(lines).toEqual([]);
    await plugin.close();
  });

  it("refuses to create what exists, unless it is told to adopt it", async () => {
    const plugin = await provider();
    const made = await make(plugin, configMap("taken", { data: { a: "1" } }));
    await expect(make(plugin, configMap("taken", { data: { a: "2" } }))).rejects.toThrow(
      `resource "${made.urn}" was not successfully created by the Kubernetes API server: configmaps "taken" already exists. Import it, or set the provider's upsertExistingObjects to adopt what exists.`,
    );
    await remove(plugin, made);
  });

  it("adopts what a killed run made, whoever managed it, and then owns all of it", async () => {
    const first = await provider({ upsertExistingObjects: "true", enablePatchForce: "true" });
    await make(first, configMap("adopted", { data: { kept: "1", changed: "old" } }));
    const second = await provider({ upsertExistingObjects: "true", enablePatchForce: "true" });
    const made = await make(second, configMap("adopted", { data: { kept: "1", changed: "new" } }));
    expect(made.id).toBe("default/adopted");
    expect((await live(`${CONFIG_MAPS}/adopted`))["data"]).toEqual({ kept: "1", changed: "new" });
    await remove(second, made);
  });

  it("waits for an object that is still going before it makes the next one of that name", async () => {
    for (const args of [{}, { upsertExistingObjects: "true" }]) {
      const plugin = await provider(args);
      const held = configMap("going", { metadata: { finalizers: ["example.com/hold"] } });
      const made = await make(plugin, held);
      const removed = remove(plugin, made);
      await sleep(100);
      const again = make(plugin, configMap("going", { data: { a: "1" } }));
      await sleep(100);
      await cluster.api.request("PATCH", `${CONFIG_MAPS}/going`, {
        body: { metadata: { finalizers: null } },
        contentType: "application/merge-patch+json",
      });
      await removed;
      const next = await again;
      expect((await live(`${CONFIG_MAPS}/going`))["data"]).toEqual({ a: "1" });
      await remove(plugin, next);
    }
  });

  it("names the finalizer that holds an object beyond the deadline", async () => {
    const plugin = await provider();
    const held = configMap("held", { metadata: { finalizers: ["example.com/hold"] } });
    const made = await make(plugin, held);
    await expect(remove(plugin, made, 1)).rejects.toThrow(
      'ConfigMap "held": it must be gone within 1 s of its deletion, got finalizers example.com/hold. Remove what holds it, or raise customTimeouts.delete.',
    );
    await cluster.api.request("PATCH", `${CONFIG_MAPS}/held`, {
      body: { metadata: { finalizers: null } },
      contentType: "application/merge-patch+json",
    });
    await remove(plugin, made);
    await remove(plugin, made);
  });

  it("takes a field away that vanished from the inputs, and leaves others' fields alone", async () => {
    const plugin = await provider({ enableConfigMapMutable: "true" });
    const made = await make(plugin, configMap("fields", { data: { a: "1", b: "2" } }));
    await cluster.api.request("PATCH", `${CONFIG_MAPS}/fields`, {
      body: { data: { theirs: "3" } },
      query: { fieldManager: "somebody" },
      contentType: "application/merge-patch+json",
    });
    const changed = await change(plugin, made, configMap("fields", { data: { a: "1" } }));
    expect(changed.properties["data"]).toEqual({ a: "1", theirs: "3" });
    await remove(plugin, changed);
  });

  it("leaves a property as it is that a change is told to ignore", async () => {
    const plugin = await provider({ enableConfigMapMutable: "true" });
    const made = await make(plugin, configMap("ignored", { data: { a: "1", b: "1" } }));
    const news = configMap("ignored", { data: { a: "2", b: "2" } });
    const changed = await change(plugin, made, news, ["data.b"]);
    expect(changed.properties["data"]).toEqual({ a: "2", b: "1" });
    await remove(plugin, changed);
  });

  it("keeps the object and gives the pod's own reason when a wait fails", async () => {
    const plugin = await provider();
    const error: unknown = await make(plugin, deployment("broken", MISSING_IMAGE), {
      timeout: 2,
    }).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(InitializationFailure);
    const failure = error as InitializationFailure;
    expect(failure.id).toBe("default/broken");
    expect(failure.reasons[0]).toContain("'broken' timed out waiting to be Ready after 2 s");
    expect(failure.reasons.join("\n")).toContain(
      `container app waits: [ErrImageNeverPull] Container image "${MISSING_IMAGE}" is not present with pull policy of Never`,
    );
    const resource = { urn: urn("kubernetes:apps/v1:Deployment", "test"), name: "test" };
    const type = "kubernetes:apps/v1:Deployment";
    const read = plugin.read(
      { ...resource, type, id: failure.id, properties: failure.properties, inputs: failure.inputs },
      testContext(),
    );
    await expect(read).rejects.toBeInstanceOf(InitializationFailure);
    const { id, properties, inputs } = failure;
    await remove(plugin, { ...resource, type, id, properties, inputs });
  });

  it("does not wait where the annotation says so", async () => {
    const plugin = await provider();
    const skips = { "pulumi.com/skipAwait": "true" };
    const made = await make(plugin, deployment("skipped", MISSING_IMAGE, skips));
    const read = await plugin.read({ ...made }, testContext());
    expect(read.id).toBe("default/skipped");
    await remove(plugin, made);
  });

  it("waits for what an annotation names", async () => {
    const plugin = await provider();
    const annotations = { "pulumi.com/waitFor": "jsonpath={.data.done}=yes" };
    const waiting = make(plugin, configMap("awaited", { metadata: { annotations } }));
    await sleep(300);
    await cluster.api.request("PATCH", `${CONFIG_MAPS}/awaited`, {
      body: { data: { done: "yes" } },
      contentType: "application/merge-patch+json",
    });
    const made = await waiting;
    expect(made.properties["data"]).toEqual({ done: "yes" });
    await remove(plugin, made);
  });

  it("waits for a Service's endpoints, and not for those of a Service without selector", async () => {
    const plugin = await provider();
    const ports = [{ port: 80 }];
    const bare = await make(plugin, service("bare", { ports }));
    const headless = await make(
      plugin,
      service("headless", { clusterIP: "None", selector: { app: "none" }, ports }),
    );
    const pods = await make(plugin, deployment("served", "docker.io/local/busybox:1"));
    const served = await make(plugin, service("served", { selector: { app: "served" }, ports }), {
      timeout: 20,
    });
    await expect(
      make(plugin, service("lonely", { selector: { app: "nobody" }, ports }), { timeout: 1 }),
    ).rejects.toThrow("Service does not target any Pods");
    for (const made of [bare, headless, served, pods]) await remove(plugin, made);
    await cluster.api.request("DELETE", "/api/v1/namespaces/default/services/lonely");
  });

  it("rolls a Deployment over to a new template and waits for it", async () => {
    const plugin = await provider();
    const made = await make(plugin, deployment("rolled", "docker.io/local/busybox:1"));
    const changed = await change(plugin, made, deployment("rolled", "docker.io/local/busybox:2"));
    const status = changed.properties["status"] as Properties;
    expect([status["updatedReplicas"], status["availableReplicas"]]).toEqual([1, 1]);
    await remove(plugin, changed);
  });

  it("makes an object whose definition comes later in the same run", async () => {
    const plugin = await provider();
    const crd = definition("Late", "lates", { size: { type: "integer" } });
    const object = {
      apiVersion: "traefik.io/v1alpha1",
      kind: "Late",
      metadata: { name: "early", namespace: "default" },
      spec: { size: 1 },
    };
    const early = make(plugin, object);
    await sleep(200);
    const defined = await make(plugin, crd);
    expect((await early).properties["spec"]).toEqual({ size: 1 });
    const changed = await change(plugin, defined, {
      ...crd,
      metadata: { name: "lates.traefik.io", labels: { changed: "true" } },
    });
    expect((changed.properties["metadata"] as Properties)["labels"]).toEqual({ changed: "true" });
    await cluster.api.request(
      "DELETE",
      "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/lates.traefik.io",
    );
  });

  it("previews a custom resource without definition as it was given", async () => {
    const plugin = await provider();
    const properties = {
      apiVersion: "nobody.example.com/v1",
      kind: "Unknown",
      metadata: { name: "x", namespace: "default" },
    };
    const type = "kubernetes:nobody.example.com/v1:Unknown";
    const request = { urn: urn(type, "x"), type, name: "x", properties, preview: true };
    expect(await plugin.create(request, testContext())).toEqual({ properties });
  });

  it("lets a Patch resource manage some fields of somebody else's object, and give them back", async () => {
    const plugin = await provider();
    const type = "kubernetes:core/v1:ConfigMapPatch";
    await cluster.api.request("POST", CONFIG_MAPS, {
      body: configMap("foreign", { data: { theirs: "1" } }),
      query: { fieldManager: "somebody" },
    });
    const made = await make(plugin, configMap("foreign", { data: { ours: "2" } }), { type });
    expect(made.properties["data"]).toEqual({ theirs: "1", ours: "2" });
    await remove(plugin, made);
    expect((await live(`${CONFIG_MAPS}/foreign`))["data"]).toEqual({ theirs: "1" });
    await cluster.api.request("DELETE", `${CONFIG_MAPS}/foreign`);
  });

  it("reads what is gone as gone, and an import with the object's own fields as inputs", async () => {
    const plugin = await provider();
    const made = await make(plugin, configMap("imported", { data: { a: "1" } }));
    const { urn, type, name, id } = made;
    const read = await plugin.read({ urn, type, name, id }, testContext());
    expect(read.inputs).toEqual({
      apiVersion: "v1",
      kind: "ConfigMap",
      data: { a: "1" },
      metadata: { name: "imported", namespace: "default" },
    });
    await remove(plugin, made);
    expect(await plugin.read({ ...made }, testContext())).toEqual({});
  });

  it("finds no change after a change made behind its back was refreshed and undone", async () => {
    const plugin = await provider({ enableConfigMapMutable: "true" });
    const made = await make(plugin, configMap("drifted", { data: { a: "1" } }));
    await cluster.api.request("PATCH", `${CONFIG_MAPS}/drifted`, {
      body: { data: { a: "2" } },
      query: { fieldManager: "somebody" },
      contentType: "application/merge-patch+json",
    });
    const read = await plugin.read({ ...made }, testContext());
    const olds = read.properties ?? {};
    const { urn, type, name, id, inputs } = made;
    const resource = { urn, type, name, id };
    expect(
      await plugin.diff({ ...resource, olds, oldInputs: inputs, news: inputs }, testContext()),
    ).toEqual({
      changes: "DIFF_SOME",
      replaces: [],
      deleteBeforeReplace: false,
      detailedDiff: { "data.a": { kind: "UPDATE" } },
      hasDetailedDiff: true,
    });
    const conflict: unknown = await change(plugin, { ...made, properties: olds }, inputs).catch(
      (error: unknown) => error,
    );
    expect((conflict as InitializationFailure).reasons[0]).toContain("enablePatchForce");
    const forcing = await provider({ enablePatchForce: "true" });
    const undone = await change(forcing, { ...made, properties: olds }, inputs);
    expect(undone.properties["data"]).toEqual({ a: "1" });
    await remove(plugin, undone);
  });
});
