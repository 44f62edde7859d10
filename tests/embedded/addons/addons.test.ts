import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseAllDocuments } from "yaml";
import { type AddonsTarget, applyAddons } from "../../../embedded/addons/addons.ts";
import { buildImages, TRAEFIK_DEFINITIONS_FILE } from "../../../embedded/images/build-images.ts";
import { PlatformError } from "../../../embedded/platform-error.ts";
import { type ApiError } from "../../../embedded/plugins/kubernetes/api-server.ts";
import type { Properties } from "../../../embedded/plugins/provider.ts";
import { startTestCluster, type TestCluster } from "../../support/api-server.ts";

const SYSTEM = "/api/v1/namespaces/kube-system";
const DEPLOYMENTS = "/apis/apps/v1/namespaces/kube-system/deployments";
const RBAC = "/apis/rbac.authorization.k8s.io/v1";
const DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

interface KubernetesObject {
  readonly metadata: {
    readonly name: string;
    readonly labels: { readonly [name: string]: string };
    readonly resourceVersion: string;
    readonly managedFields?: readonly { readonly manager: string }[];
  };
  readonly spec: { readonly [field: string]: unknown };
}

let folder = "";
let cluster: TestCluster;
let target: AddonsTarget;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "addons-"));
  await buildImages();
  cluster = await startTestCluster();
  target = {
    name: "nl-1",
    kubeconfigPath: join(folder, "kubeconfig"),
    machineAddress: "192.0.2.21",
    clusterDnsAddress: "10.43.0.10",
    podCidr: "10.42.0.0/20",
    serviceCidr: "10.43.0.0/16",
    domain: "machines.example",
  };
  await writeFile(target.kubeconfigPath, cluster.kubeconfig, { mode: 0o600 });
  await applyAddons(target);
});

afterAll(async () => {
  await cluster.stop();
  await rm(folder, { recursive: true, force: true });
});

async function read(path: string): Promise<KubernetesObject> {
  return (await cluster.api.request("GET", path)) as unknown as KubernetesObject;
}

/** Every object that the add-ons manage, by path. */
async function managed(): Promise<Map<string, KubernetesObject>> {
  const lists = [
    ...["serviceaccounts", "configmaps", "services"].map((kind) => `${SYSTEM}/${kind}`),
    DEPLOYMENTS,
    `${RBAC}/clusterroles`,
    `${RBAC}/clusterrolebindings`,
    `${RBAC}/namespaces/kube-system/roles`,
    `${RBAC}/namespaces/kube-system/rolebindings`,
    "/apis/networking.k8s.io/v1/ingressclasses",
    "/apis/storage.k8s.io/v1/storageclasses",
    DEFINITIONS,
  ];
  const found = new Map<string, KubernetesObject>();
  for (const list of lists) {
    const { items } = (await cluster.api.request("GET", list)) as unknown as {
      items: readonly KubernetesObject[];
    };
    for (const object of items) {
      const managers = (object.metadata.managedFields ?? []).map(({ manager }) => manager);
      if (managers.includes("embedded")) found.set(`${list}/${object.metadata.name}`, object);
    }
  }
  return found;
}

async function podSpec(deployment: string): Promise<{ readonly [field: string]: unknown }> {
  const { spec } = await read(`${DEPLOYMENTS}/${deployment}`);
  return (spec["template"] as { spec: { [field: string]: unknown } }).spec;
}

describe("applyAddons", () => {
  it("puts name server, ingress and volumes under the names that K3s gives them", async () => {
    const paths = [...(await managed()).keys()].filter((path) => !path.startsWith(DEFINITIONS));
    expect(paths.sort()).toEqual(
      [
        `${SYSTEM}/serviceaccounts/coredns`,
        `${SYSTEM}/serviceaccounts/traefik`,
        `${SYSTEM}/configmaps/coredns`,
        `${SYSTEM}/services/kube-dns`,
        `${SYSTEM}/services/traefik`,
        `${DEPLOYMENTS}/coredns`,
        `${DEPLOYMENTS}/traefik`,
        `${RBAC}/clusterroles/system:coredns`,
        `${RBAC}/clusterroles/traefik-kube-system`,
        `${RBAC}/clusterrolebindings/system:coredns`,
        `${RBAC}/clusterrolebindings/traefik-kube-system`,
        "/apis/networking.k8s.io/v1/ingressclasses/traefik",
        "/apis/storage.k8s.io/v1/storageclasses/local-path",
      ].sort(),
    );
  });

  it("gives pods the labels and the address that network policies and kubelets name", async () => {
    const labels = async (name: string): Promise<unknown> => {
      const { spec } = await read(`${DEPLOYMENTS}/${name}`);
      return (spec["template"] as KubernetesObject).metadata.labels;
    };
    expect(await labels("coredns")).toEqual({ "k8s-app": "kube-dns" });
    expect(await labels("traefik")).toEqual({
      "app.kubernetes.io/name": "traefik",
      "app.kubernetes.io/managed-by": "embedded",
    });
    const { spec } = await read(`${SYSTEM}/services/kube-dns`);
    expect(spec["clusterIP"]).toBe("10.43.0.10");
  });

  it("sends Traefik's definitions as its module has them, defaults and extensions included", async () => {
    const documents = parseAllDocuments(await readFile(TRAEFIK_DEFINITIONS_FILE, "utf8"));
    const wanted = documents.map((document) => document.toJS() as KubernetesObject);
    expect(wanted).toHaveLength(10);
    for (const definition of wanted) {
      const { spec } = await read(`${DEFINITIONS}/${definition.metadata.name}`);
      expect(spec).toMatchObject(definition.spec);
    }
  });

  it("changes nothing when it is applied again", async () => {
    const versions = async (): Promise<[string, string][]> =>
      [...(await managed())]
        .filter(([path]) => !path.startsWith(DEPLOYMENTS))
        .map(([path, { metadata }]) => [path, metadata.resourceVersion]);
    const generations = async (): Promise<unknown[]> =>
      [...(await managed()).values()].map(
        ({ metadata }) => (metadata as unknown as { generation?: number }).generation,
      );
    const before = [await versions(), await generations()];
    await applyAddons(target);
    expect([await versions(), await generations()]).toEqual(before);
  });

  it("runs images by digest only, none of them pulled from anywhere", async () => {
    for (const name of ["coredns", "traefik"]) {
      const { containers } = (await podSpec(name)) as {
        containers: { image: string; imagePullPolicy: string }[];
      };
      expect(containers.map(({ imagePullPolicy }) => imagePullPolicy)).toEqual(["IfNotPresent"]);
      expect(containers[0]?.image).toMatch(
        new RegExp(`^registry\\.flux\\.test/fluxbilling/${name}@sha256:[0-9a-f]{64}$`),
      );
    }
  });

  it("has pods that Pod Security calls restricted, but for the ingress's host ports", async () => {
    await cluster.api.request("POST", "/api/v1/namespaces", {
      body: {
        apiVersion: "v1",
        kind: "Namespace",
        metadata: {
          name: "restricted",
          labels: { "pod-security.kubernetes.io/enforce": "restricted" },
        },
      },
    });
    const judged = async (name: string): Promise<string> => {
      const spec = await podSpec(name);
      const body = {
        apiVersion: "v1",
        kind: "Pod",
        metadata: { name },
        spec: { ...spec, serviceAccountName: "default", priorityClassName: "" },
      };
      const query = { dryRun: "All" };
      return cluster.api
        .request("POST", "/api/v1/namespaces/restricted/pods", {
          body: body as unknown as Properties,
          query,
        })
        .then(
          () => "restricted",
          (error: ApiError) => error.message,
        );
    };
    expect(await judged("coredns")).toBe("restricted");
    expect(await judged("traefik")).toBe(
      'pods "traefik" is forbidden: violates PodSecurity "restricted:latest": ' +
        'hostPort (container "traefik" uses hostPorts 443, 80, 8883)',
    );
  });

  it("refuses a cluster that takes nothing, and names the object, the cluster and the way out", async () => {
    const stranger = { ...target, kubeconfigPath: join(folder, "stranger") };
    const kubeconfig = JSON.parse(cluster.kubeconfig) as { users: [{ user: { token: string } }] };
    kubeconfig.users[0].user.token = "nobody";
    await writeFile(stranger.kubeconfigPath, JSON.stringify(kubeconfig), { mode: 0o600 });
    const error: unknown = await applyAddons(stranger).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(PlatformError);
    expect((error as PlatformError).message).toMatch(
      /^Add-on object "\S+ \S+" in cluster "nl-1": the API server must take it, got "Unauthorized"\. Run "npm stop" and "npm start"\.$/,
    );
  });
});
