import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { mustRun } from "../machines/command.ts";
import { inNamespace } from "../machines/lan.ts";
import { CACHE, DOMAIN, INSIDE, machineFolder, serviceLog } from "../machines/layout.ts";
import type { ClusterPlan, MachinePlan } from "../machines/layout.ts";
import { onMachine } from "../machines/machine.ts";
import { MachineError } from "../machines/machine-error.ts";
import type { Readiness } from "../machines/readiness.ts";
import type { Service } from "../machines/service.ts";
import { API_PORT, clusterKeyPair, ensureClusterKeys } from "./cluster-keys.ts";
import { prepareClusterServices } from "./cluster-services.ts";

const IMAGES = join(CACHE, "images");
const ADDONS = join(import.meta.dirname, "..", "addons");
const SANDBOX_IMAGE = "registry.flux.test/fluxbilling/pause:embedded";
/** Images that the first pods of a cluster need, in the order in which they need them. */
const FIRST_IMAGES = ["pause", "coredns", "local-path-provisioner", "traefik"];

function keysOf(machine: MachinePlan): string {
  return join(machineFolder(machine.name), "etc", "kubernetes");
}

/** The cluster administrator's kubeconfig, on the host. */
export function kubeconfigFileOf(machine: MachinePlan): string {
  return join(keysOf(machine), "admin.kubeconfig");
}

/** Makes keys and settings of a machine's cluster, as far as they are not there; returns its services. */
export async function prepareCluster(
  machine: MachinePlan,
  cluster: ClusterPlan,
): Promise<readonly Service[]> {
  if (!existsSync(join(IMAGES, "pause.tar"))) {
    throw new MachineError(`Image "pause": must be built, got no ${join(IMAGES, "pause.tar")}.`, {
      step: `prepare the cluster of ${machine.name}`,
      wayOut: 'Run "npm start", which builds the images first.',
    });
  }
  await ensureClusterKeys(machine, cluster, keysOf(machine));
  return prepareClusterServices(machine, cluster, keysOf(machine), SANDBOX_IMAGE);
}

/**
 * What must answer before a machine's cluster counts as running.
 *
 * @param since reports of the node from before this time do not count: they tell of an earlier life
 */
export function clusterReadiness(machine: MachinePlan, since: Date): readonly Readiness[] {
  const { certificateFile, keyFile } = clusterKeyPair(keysOf(machine), "admin");
  const api = {
    kind: "kubernetes",
    host: machine.address,
    port: API_PORT,
    caFile: clusterKeyPair(keysOf(machine), "ca").certificateFile,
    certificateFile,
    keyFile,
  } as const;
  return [
    {
      machine: machine.name,
      subject: "Kubernetes API",
      check: { ...api, path: "/readyz" },
      logFile: serviceLog(machine.name, "kube-apiserver"),
    },
    {
      machine: machine.name,
      subject: "Kubernetes node",
      check: { ...api, path: `/api/v1/nodes/${machine.name}`, readySince: since.toISOString() },
      logFile: serviceLog(machine.name, "kubelet"),
    },
  ];
}

/** Gives a machine's containerd the images of the cache that it has not got in their present form. */
export async function importImages(machine: MachinePlan): Promise<void> {
  const noteFile = join(machineFolder(machine.name), "images.json");
  const imported: Record<string, string> = existsSync(noteFile)
    ? (JSON.parse(await readFile(noteFile, "utf8")) as Record<string, string>)
    : {};
  const names = (await readdir(IMAGES))
    .filter((file) => file.endsWith(".tar"))
    .map((file) => file.slice(0, -".tar".length))
    .sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
  const changed: string[] = [];
  for (const name of names) {
    const facts = JSON.parse(await readFile(join(IMAGES, `${name}.json`), "utf8")) as {
      digest: string;
    };
    if (imported[name] === facts.digest) continue;
    changed.push(name);
    imported[name] = facts.digest;
  }
  if (changed.length === 0) return;
  await mustRun(
    `import the images of ${machine.name}`,
    onMachine(machine.name, [
      ...["sh", "-euc"],
      `until [ -S /run/containerd/containerd.sock ]; do sleep 0.05; done
for name; do ctr -n k8s.io images import ${INSIDE}/images/$name.tar; done`,
      ...["sh", ...changed],
    ]),
    { timeoutSeconds: 120 },
  );
  await writeFile(noteFile, `${JSON.stringify(imported, undefined, 2)}\n`);
}

function rank(image: string): number {
  const place = FIRST_IMAGES.indexOf(image);
  return place === -1 ? FIRST_IMAGES.length : place;
}

/** What the add-ons are told about the cluster that they are put into. */
export interface AddonsTarget {
  readonly name: string;
  readonly kubeconfigPath: string;
  readonly machineAddress: string;
  readonly clusterDnsAddress: string;
  readonly podCidr: string;
  readonly serviceCidr: string;
  /** Domain of the machines' names. */
  readonly domain: string;
}

/** Puts DNS, ingress and storage into a machine's cluster, unless exactly these are in it. */
export async function ensureAddons(machine: MachinePlan, cluster: ClusterPlan): Promise<boolean> {
  if (!existsSync(ADDONS)) return false;
  const noteFile = join(machineFolder(machine.name), "addons");
  const fingerprint = await addonsFingerprint();
  if (existsSync(noteFile) && (await readFile(noteFile, "utf8")) === fingerprint) return false;
  const target: AddonsTarget = {
    name: machine.name,
    kubeconfigPath: kubeconfigFileOf(machine),
    machineAddress: machine.address,
    clusterDnsAddress: cluster.clusterDnsAddress,
    podCidr: cluster.podCidr,
    serviceCidr: cluster.serviceCidr,
    domain: DOMAIN,
  };
  await mustRun(
    `put the add-ons into the cluster of ${machine.name}`,
    inNamespace("operator", [
      process.execPath,
      join(import.meta.dirname, "apply-addons.ts"),
      JSON.stringify(target),
    ]),
    { timeoutSeconds: 120 },
  );
  await writeFile(noteFile, fingerprint);
  return true;
}

async function addonsFingerprint(): Promise<string> {
  const hash = createHash("sha256");
  const entries = await readdir(ADDONS, { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  for (const file of files) hash.update(file).update(await readFile(file));
  for (const image of (await readdir(IMAGES)).filter((file) => file.endsWith(".json")).sort()) {
    hash.update(await readFile(join(IMAGES, image)));
  }
  return hash.digest("hex");
}
