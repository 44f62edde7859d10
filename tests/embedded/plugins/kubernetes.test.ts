import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { EMBEDDED_ADDRESSES } from "../../../embedded/plugins/endpoint.ts";
import { detailedDiff, forcesReplacement } from "../../../embedded/plugins/kubernetes/diff.ts";
import { KubernetesProvider } from "../../../embedded/plugins/kubernetes/kubernetes-provider.ts";
import { normalizeInputs, prune } from "../../../embedded/plugins/kubernetes/normalize.ts";
import { text } from "../../../embedded/plugins/kubernetes/pick.ts";
import { canonicalQuantity } from "../../../embedded/plugins/kubernetes/quantity.ts";
import type { Properties } from "../../../embedded/plugins/provider.ts";
import { UNKNOWN, secret } from "../../../embedded/plugins/values.ts";
import { recordedCalls, replay, testContext } from "./replay.ts";

const CONFIGURATION = ["CheckConfig", "DiffConfig", "Configure"];

describe("KubernetesProvider against the official plugin's recording", () => {
  it("checks and compares its own configuration alike", async () => {
    const calls = recordedCalls("kubernetes").filter(({ method }) =>
      CONFIGURATION.includes(method),
    );
    expect(calls.length).toBe(21);
    expect(await replay(new KubernetesProvider(), calls)).toEqual([]);
  });

  it("checks inputs alike, automatic names and Secrets included", async () => {
    const calls = recordedCalls("kubernetes").filter(({ method }) => method === "Check");
    expect(calls.length).toBe(200);
    expect(await replay(new KubernetesProvider(), calls)).toEqual([]);
  });

  it("finds the same differences, replacements and orders of replacement", async () => {
    const calls = recordedCalls("kubernetes").filter(({ method }) => method === "Diff");
    expect(calls.length).toBe(168);
    expect(await replay(new KubernetesProvider(), calls)).toEqual([]);
  });
});

function kubeconfig(server: string, user: Properties = { token: "t" }): string {
  return JSON.stringify({
    clusters: [{ name: "c", cluster: { server, "insecure-skip-tls-verify": true } }],
    users: [{ name: "u", user }],
    contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
    "current-context": "x",
  });
}

const DEPLOYMENT = "urn:pulumi:t::t::kubernetes:apps/v1:Deployment::app";

describe("KubernetesProvider.configure", () => {
  const before = process.env[EMBEDDED_ADDRESSES];
  beforeEach(() => {
    delete process.env[EMBEDDED_ADDRESSES];
  });
  afterEach(() => {
    if (before === undefined) delete process.env[EMBEDDED_ADDRESSES];
    else process.env[EMBEDDED_ADDRESSES] = before;
  });

  it("refuses a cluster that is neither on loopback nor on an embedded machine", async () => {
    const args = { kubeconfig: kubeconfig("https://203.0.113.7:6443") };
    await expect(new KubernetesProvider().configure({ args })).rejects.toThrow(
      `Provider "kubernetes": an embedded plugin must only reach loopback or the embedded machines, got 203.0.113.7. Use the official provider plugin for it, or list an embedded machine's address in ${EMBEDDED_ADDRESSES}.`,
    );
  });

  it("takes an embedded machine's address, and IPv6 loopback", async () => {
    process.env[EMBEDDED_ADDRESSES] = "203.0.113.0/24";
    for (const host of ["203.0.113.7", "[::1]", "127.0.0.1"]) {
      const args = { kubeconfig: kubeconfig(`https://${host}:6443`) };
      expect(await new KubernetesProvider().configure({ args })).toEqual({
        acceptSecrets: true,
        supportsPreview: true,
        supportsAutonamingConfiguration: true,
      });
    }
  });

  it("refuses what only the official plugin does", async () => {
    const plugin = new KubernetesProvider();
    await expect(
      plugin.configure({ variables: { "kubernetes:config:enableServerSideApply": "false" } }),
    ).rejects.toThrow(
      'Provider "kubernetes": the embedded plugin only does server-side apply on a live cluster, got enableServerSideApply=false. Leave it out, or use the official provider plugin.',
    );
    await expect(plugin.configure({ args: { renderYamlToDirectory: "out" } })).rejects.toThrow(
      "got renderYamlToDirectory.",
    );
  });

  it("says only when a cluster is needed that the kubeconfig leads to none", async () => {
    const plugin = new KubernetesProvider();
    await plugin.configure({
      args: { kubeconfig: kubeconfig("https://127.0.0.1:6443"), context: "y" },
    });
    const properties = { apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "app" } };
    const request = {
      urn: DEPLOYMENT,
      type: "kubernetes:apps/v1:Deployment",
      name: "app",
      properties,
    };
    await expect(plugin.create(request, testContext())).rejects.toThrow(
      'configured Kubernetes cluster is unreachable: Kubeconfig: context "y" must be one of its contexts, got x. Set the provider\'s kubeconfig or context.',
    );
    expect(await plugin.create({ ...request, preview: true }, testContext())).toEqual({
      properties,
    });
  });

  it("refuses a kubeconfig that logs in by a program", async () => {
    const plugin = new KubernetesProvider();
    const exec = { exec: { command: "aws" } };
    await plugin.configure({ args: { kubeconfig: kubeconfig("https://127.0.0.1:6443", exec) } });
    const request = { urn: DEPLOYMENT, type: "kubernetes:apps/v1:Deployment", name: "app" };
    await expect(plugin.create({ ...request, properties: {} }, testContext())).rejects.toThrow(
      "Kubeconfig: the embedded kubernetes plugin logs in with a certificate, a token or a password, got exec. Use the official provider plugin for it.",
    );
  });
});

describe("KubernetesProvider.diffConfig", () => {
  const request = { id: "1", urn: "u", type: "pulumi:providers:kubernetes", name: "c" };
  const here = { kubeconfig: kubeconfig("https://127.0.0.1:1"), version: "4.32.0" };
  const there = { kubeconfig: kubeconfig("https://127.0.0.1:2"), version: "4.32.0" };

  it("replaces the provider when the kubeconfig leads to another cluster", async () => {
    const diff = await new KubernetesProvider().diffConfig({ ...request, olds: here, news: there });
    expect(diff).toEqual({
      changes: "DIFF_SOME",
      diffs: ["kubeconfig"],
      replaces: ["kubeconfig"],
    });
  });

  it("keeps the provider when only the user changes", async () => {
    const news = { ...here, kubeconfig: kubeconfig("https://127.0.0.1:1", { token: "other" }) };
    const diff = await new KubernetesProvider().diffConfig({ ...request, olds: here, news });
    expect(diff).toEqual({ changes: "DIFF_SOME", diffs: ["kubeconfig"], replaces: [] });
  });

  it("keeps a provider that names its cluster, wherever the kubeconfig leads", async () => {
    const olds = { ...here, clusterIdentifier: "nl-1" };
    const news = { ...there, clusterIdentifier: "nl-1" };
    expect(
      (await new KubernetesProvider().diffConfig({ ...request, olds, news })).replaces,
    ).toEqual([]);
    const other = { ...there, clusterIdentifier: "fi-1" };
    const diff = await new KubernetesProvider().diffConfig({ ...request, olds, news: other });
    expect(diff.replaces).toEqual(["clusterIdentifier", "kubeconfig"]);
  });

  it("foresees a replacement while the kubeconfig is not known", async () => {
    const news = { kubeconfig: UNKNOWN };
    const diff = await new KubernetesProvider().diffConfig({ ...request, olds: here, news });
    expect(diff).toEqual({
      changes: "DIFF_SOME",
      diffs: ["kubeconfig"],
      replaces: ["kubeconfig"],
    });
  });
});

async function checked(news: Properties, rest: Properties = {}): Promise<Properties> {
  const type = `kubernetes:core/v1:${text(news["kind"])}`;
  const request = { urn: `urn:pulumi:t::t::${type}::name`, type, name: "name", news, ...rest };
  return (await new KubernetesProvider().check(request, testContext())).inputs ?? {};
}

describe("KubernetesProvider.check", () => {
  const map = { apiVersion: "v1", kind: "ConfigMap" };

  it("puts what names no namespace into the default one, and cluster-wide kinds into none", async () => {
    expect(await checked({ ...map, metadata: { name: "a" } })).toEqual({
      ...map,
      metadata: { name: "a", namespace: "default" },
    });
    const namespace = { apiVersion: "v1", kind: "Namespace", metadata: { name: "a" } };
    expect(await checked(namespace)).toEqual(namespace);
  });

  it("keeps the automatic name that an object has", async () => {
    const metadata = { name: "name-00000000", annotations: { "pulumi.com/autonamed": "true" } };
    const olds = { ...map, metadata };
    expect(await checked({ ...map }, { olds, randomSeed: "AAAA" })).toEqual({
      ...map,
      metadata: { ...metadata, namespace: "default" },
    });
  });

  it("takes the engine's proposal for a name, and refuses to name where names are required", async () => {
    const proposal = { autonaming: { mode: "PROPOSE", proposedName: "name-proposed" } };
    expect((await checked(map, proposal))["metadata"]).toEqual({
      name: "name-proposed",
      namespace: "default",
      annotations: { "pulumi.com/autonamed": "true" },
    });
    await expect(checked(map, { autonaming: { mode: "DISABLE" } })).rejects.toThrow(
      "autonaming is disabled, but no name was provided",
    );
  });

  it("leaves a name alone that is not known yet", async () => {
    const metadata = { name: UNKNOWN, namespace: "default" };
    expect(await checked({ ...map, metadata })).toEqual({ ...map, metadata });
  });

  it("keeps secrets secret, a list with one in it as a whole", async () => {
    const inputs = await checked({
      ...map,
      metadata: { name: "a", namespace: "b", labels: { x: secret("1"), y: "2" } },
      data: secret({ k: "v" }),
    });
    expect(inputs["data"]).toEqual(secret({ k: "v" }));
    expect((inputs["metadata"] as Properties)["labels"]).toEqual({ x: secret("1"), y: "2" });
  });

  it("refuses what it cannot make, by name", async () => {
    const type = "kubernetes:helm.sh/v3:Release";
    const request = { urn: `urn:pulumi:t::t::${type}::chart`, type, name: "chart", news: {} };
    await expect(new KubernetesProvider().check(request, testContext())).rejects.toThrow(
      'Resource "chart": the embedded kubernetes plugin only makes plain objects, got kubernetes:helm.sh/v3:Release. Use the official provider plugin for it.',
    );
  });
});

describe("forcesReplacement", () => {
  const fixed = { secrets: false, configMaps: false };
  const mutable = { secrets: true, configMaps: true };

  /** The kinds of the differences between two objects, by path. */
  function kinds(
    old: Properties,
    news: Properties,
    mutability = fixed,
  ): { [path: string]: unknown } {
    const base = { apiVersion: "v1", kind: "ConfigMap" };
    const next = { ...base, ...news };
    const diff = detailedDiff({ ...base, ...old }, next, forcesReplacement(next, mutability));
    return Object.fromEntries(Object.entries(diff).map(([path, { kind }]) => [path, kind]));
  }

  it("replaces a ConfigMap whose data changes, unless data may change and is not immutable", () => {
    expect(kinds({ data: { a: "1" } }, { data: { a: "2" } })).toEqual({
      "data.a": "UPDATE_REPLACE",
    });
    expect(kinds({ data: { a: "1" } }, { data: { a: "2" } }, mutable)).toEqual({
      "data.a": "UPDATE",
    });
    expect(
      kinds({ data: { a: "1" }, immutable: true }, { data: { a: "2" }, immutable: true }, mutable),
    ).toEqual({ "data.a": "UPDATE_REPLACE" });
  });

  it("replaces a Secret whose type changes even where data may change", () => {
    const kind = { kind: "Secret" };
    expect(
      kinds(
        { ...kind, type: "a", data: { a: "1" } },
        { ...kind, type: "b", data: { b: "1" } },
        mutable,
      ),
    ).toEqual({ type: "UPDATE_REPLACE", "data.a": "DELETE", "data.b": "ADD" });
  });

  it("replaces a Pod for another image and keeps it for another label", () => {
    const pod = (image: string, label: string): Properties => ({
      kind: "Pod",
      metadata: { labels: { a: label } },
      spec: { containers: [{ name: "a", image }] },
    });
    expect(kinds(pod("1", "x"), pod("2", "y"))).toEqual({
      "metadata.labels.a": "UPDATE",
      "spec.containers[0].image": "UPDATE_REPLACE",
    });
  });

  it("replaces a StatefulSet for another volume template and keeps a claim for another size", () => {
    const set = (volumeClaimTemplates: Properties[]): Properties => ({
      apiVersion: "apps/v1",
      kind: "StatefulSet",
      spec: { volumeClaimTemplates },
    });
    expect(kinds(set([]), set([{ metadata: { name: "a" } }]))).toEqual({
      "spec.volumeClaimTemplates[0]": "ADD_REPLACE",
    });
    const claim = (storage: string): Properties => ({
      kind: "PersistentVolumeClaim",
      spec: { resources: { requests: { storage } } },
    });
    expect(kinds(claim("1Gi"), claim("2Gi"))).toEqual({
      "spec.resources.requests.storage": "UPDATE",
    });
  });

  it("replaces for another role, another name and what is not known yet", () => {
    const binding = (name: string, object: string): Properties => ({
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "RoleBinding",
      metadata: { name: object },
      roleRef: { name },
    });
    expect(kinds(binding("a", "x"), binding("b", UNKNOWN))).toEqual({
      "metadata.name": "UPDATE_REPLACE",
      "roleRef.name": "UPDATE_REPLACE",
    });
  });

  it("sees what went from inside a list's element", () => {
    const policy = (port: Properties): Properties => ({
      apiVersion: "networking.k8s.io/v1",
      kind: "NetworkPolicy",
      spec: { egress: [{ ports: [port] }] },
    });
    expect(
      detailedDiff(
        policy({ port: 1, protocol: "TCP" }),
        policy({ port: 2 }),
        forcesReplacement(policy({}), fixed),
      ),
    ).toEqual({
      "spec.egress[0].ports[0].port": { kind: "UPDATE" },
      "spec.egress[0].ports[0].protocol": { kind: "DELETE", inputDiff: true },
    });
  });
});

describe("normalizeInputs", () => {
  const pod = (spec: Properties): Properties => ({ apiVersion: "v1", kind: "Pod", spec });

  it("drops zero values that the server would drop and keeps those that mean something", () => {
    expect(
      normalizeInputs(
        pod({
          hostNetwork: false,
          automountServiceAccountToken: false,
          nodeName: "",
          tolerations: [],
          terminationGracePeriodSeconds: 0,
          volumes: [{ name: "v", emptyDir: {} }],
          securityContext: {},
        }),
      ),
    ).toEqual(
      pod({
        automountServiceAccountToken: false,
        terminationGracePeriodSeconds: 0,
        volumes: [{ name: "v", emptyDir: {} }],
        securityContext: {},
      }),
    );
  });

  it("gives quantities their canonical form", () => {
    const container = (cpu: string | number, memory: string): Properties =>
      pod({ containers: [{ name: "a", resources: { limits: { cpu, memory } } }] });
    expect(normalizeInputs(container("1000m", "1024Mi"))).toEqual(container("1", "1Gi"));
    expect(normalizeInputs(container(0.5, "1Gi"))).toEqual(container("500m", "1Gi"));
  });

  it("drops fields that the kind does not have", () => {
    expect(normalizeInputs(pod({ hostNetwork: true, hostNetwrk: true }))).toEqual(
      pod({ hostNetwork: true }),
    );
  });

  it("leaves custom resources, unknown values and values of another type as they are", () => {
    for (const object of [
      { apiVersion: "traefik.io/v1alpha1", kind: "Middleware", spec: { a: false } },
      pod({ hostNetwork: false, nodeName: UNKNOWN }),
      pod({ hostNetwork: "false" }),
    ]) {
      expect(normalizeInputs(object)).toEqual(object);
    }
  });

  it("drops what only the server writes", () => {
    const metadata = { name: "a", uid: "u", resourceVersion: "1", creationTimestamp: "t" };
    expect(normalizeInputs({ apiVersion: "v1", kind: "Namespace", metadata })).toEqual({
      apiVersion: "v1",
      kind: "Namespace",
      metadata: { name: "a" },
    });
  });
});

describe("prune", () => {
  it("keeps of a live object what its inputs named, element by element in lists", () => {
    expect(
      prune(
        { a: 1, b: { c: 2, d: 3 }, list: [{ x: 1, y: 2 }, { x: 3 }, { x: 5 }] },
        { a: 0, b: { c: 0 }, list: [{ x: 0 }, { x: 0 }], missing: 1 },
      ),
    ).toEqual({ a: 1, b: { c: 2 }, list: [{ x: 1 }, { x: 3 }] });
  });
});

describe("canonicalQuantity", () => {
  it("writes quantities as the API server does", () => {
    const forms = {
      "0": "0",
      "10": "10",
      "100m": "100m",
      "1000m": "1",
      "1.5": "1500m",
      "0.1": "100m",
      "1000": "1k",
      "1024": "1024",
      "1000000k": "1G",
      "1e3": "1e3",
      "128Mi": "128Mi",
      "1024Mi": "1Gi",
      "1.5Gi": "1536Mi",
      "0.5Mi": "512Ki",
      "0.5Ki": "512",
      "-1000m": "-1",
    };
    expect(
      Object.fromEntries(Object.keys(forms).map((form) => [form, canonicalQuantity(form)])),
    ).toEqual(forms);
  });

  it("knows what is no quantity", () => {
    expect(["", "abc", "1 Gi", "1Xi", "."].map(canonicalQuantity)).toEqual(
      Array.from({ length: 5 }, () => undefined),
    );
  });
});
