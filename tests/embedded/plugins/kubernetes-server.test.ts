import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { KubernetesProvider } from "../../../embedded/plugins/kubernetes/kubernetes-provider.ts";
import type { Properties, Value } from "../../../embedded/plugins/provider.ts";
import { isObject } from "../../../embedded/plugins/values.ts";
import { startTestCluster } from "../../support/api-server.ts";
import type { TestCluster } from "../../support/api-server.ts";
import { STEPS, ask, compare, recordedCalls, testContext } from "./replay.ts";
import type { Allowance, Call } from "./replay.ts";

let cluster: TestCluster;

beforeAll(async () => {
  cluster = await startTestCluster();
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

const ALLOWANCES: Allowance[] = [];

/** Our own states of the recorded resources, by URN and id: what the engine would hand back. */
class Engine {
  readonly #states = new Map<string, Properties>();

  request(call: Call): Properties {
    const request = structuredClone(call.request);
    const state = this.#states.get(`${String(request["urn"])} ${String(request["id"])}`);
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
    const id = String(response["id"] ?? call.request["id"]);
    if (isObject(properties)) this.#states.set(`${String(call.request["urn"])} ${id}`, properties);
  }
}

describe("KubernetesProvider on a real API server", () => {
  it("answers the recorded run as the official plugin did, from preview to destroy", async () => {
    const plugin = await provider();
    for (const properties of DEFINITIONS) {
      const name = String((properties["metadata"] as Properties)["name"]);
      const type = "kubernetes:apiextensions.k8s.io/v1:CustomResourceDefinition";
      const request = { urn: urn(type, name), type, name, properties };
      expect((await plugin.create(request, testContext())).id).toBe(name);
    }
    const engine = new Engine();
    const lines: string[] = [];
    const used = new Set<Allowance>();
    for (const call of recordedCalls("kubernetes", ...STEPS)) {
      if (["Configure", "CheckConfig", "DiffConfig"].includes(call.method)) continue;
      const asked = { ...call, request: engine.request(call) };
      const started = performance.now();
      const answer = await ask(plugin, asked);
      engine.record(call, answer.response);
      const took = Math.round(performance.now() - started);
      if (took > 30) console.log(call.step, call.method, call.type, call.name, took);
      for (const { path, expected, actual } of compare(call, answer, ALLOWANCES, used)) {
        lines.push(`${call.step} ${call.method} ${call.type}::${call.name} ${path}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(actual)}`);
      }
    }
    expect(lines).toEqual([]);
    expect(ALLOWANCES.filter((allowance) => !used.has(allowance))).toEqual([]);
    await plugin.close();
  });
});
