import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { BIN } from "../paths.ts";
import { mustRun } from "../machines/command.ts";
import { inNamespace } from "../machines/lan.ts";
import { CACHE, DOMAIN, machineFolder, serviceLog } from "../machines/layout.ts";
import type { ClusterPlan, MachinePlan } from "../machines/layout.ts";
import type { Check } from "../machines/probe.ts";
import type { Readiness } from "../machines/readiness.ts";
import type { Service } from "../machines/service.ts";
import { API_PORT, clusterKeyPair, ensureClusterKeys } from "./cluster-keys.ts";
import { STAND_INS, standInFile } from "./stand-ins.ts";
import { SANDBOX_IMAGE, imagesFingerprint } from "./image-store.ts";
import { prepareClusterServices } from "./cluster-services.ts";

const ADDONS = join(import.meta.dirname, "..", "addons");
function keysOf(machine: MachinePlan): string {
  return join(machineFolder(machine.name), "etc", "kubernetes");
}

/** The cluster administrator's kubeconfig, on the host. */
export function kubeconfigFileOf(machine: MachinePlan): string {
  return join(keysOf(machine), "admin.kubeconfig");
}

/** Files on the host that the services of a cluster run. */
export const CLUSTER_PROGRAMS: readonly string[] = [
  ...["containerd", "containerd-shim-runc-v2", "kine", "kube-apiserver"],
  ...["kube-controller-manager", "kube-proxy", "kube-scheduler", "kubelet"],
  ...["cni/host-local", "cni/loopback", "cni/portmap", "cni/ptp"],
]
  .map((name) => join(BIN, name))
  .concat(STAND_INS.map(standInFile));

/** Makes keys and settings of a machine's cluster, as far as they are not there; returns its services. */
export async function prepareCluster(
  machine: MachinePlan,
  cluster: ClusterPlan,
): Promise<readonly Service[]> {
  await ensureClusterKeys(machine, cluster, keysOf(machine));
  return prepareClusterServices(machine, cluster, keysOf(machine), SANDBOX_IMAGE);
}

/** By this name the readiness of the API server is told from the others. */
export const API_SUBJECT = "Kubernetes API";

/**
 * What must answer before a machine's cluster counts as running.
 *
 * @param since reports from before this time do not count: they tell of an earlier life
 */
export function clusterReadiness(machine: MachinePlan, since: Date): readonly Readiness[] {
  return [
    {
      machine: machine.name,
      subject: API_SUBJECT,
      check: { ...apiOf(machine), path: "/readyz" },
      logFile: serviceLog(machine.name, "kube-apiserver"),
    },
    {
      machine: machine.name,
      subject: "Kubernetes node",
      check: {
        ...apiOf(machine),
        path: `/api/v1/nodes/${machine.name}`,
        shows: { ready: "node", since: since.toISOString() },
      },
      logFile: serviceLog(machine.name, "kubelet"),
    },
  ];
}

/** What must answer before a cluster with its add-ons counts as running. */
export function addonsReadiness(machine: MachinePlan, since: Date): Readiness {
  return {
    machine: machine.name,
    subject: "add-ons of Kubernetes",
    check: {
      ...apiOf(machine),
      path: "/api/v1/namespaces/kube-system/pods",
      shows: { ready: "pods", since: since.toISOString() },
    },
    logFile: serviceLog(machine.name, "kubelet"),
  };
}

function apiOf(machine: MachinePlan): Extract<Check, { kind: "kubernetes" }> {
  const { certificateFile, keyFile } = clusterKeyPair(keysOf(machine), "admin");
  return {
    kind: "kubernetes",
    host: machine.address,
    port: API_PORT,
    caFile: clusterKeyPair(keysOf(machine), "ca").certificateFile,
    certificateFile,
    keyFile,
    path: "/",
  };
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

/** Whether add-ons, of whatever form, have been put into a machine's cluster. */
export function haveAddons(machine: MachinePlan): boolean {
  return existsSync(addonsNote(machine));
}

function addonsNote(machine: MachinePlan): string {
  return join(machineFolder(machine.name), "addons");
}

/** Puts DNS, ingress and storage into a machine's cluster, unless exactly these are in it. */
export async function ensureAddons(machine: MachinePlan, cluster: ClusterPlan): Promise<boolean> {
  if (!existsSync(ADDONS)) return false;
  const noteFile = addonsNote(machine);
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
    {
      timeoutSeconds: 120,
      // The libraries behind it are large, and the same for every cluster.
      env: { PATH: "/usr/bin:/bin", NODE_COMPILE_CACHE: join(CACHE, "node-compile-cache") },
    },
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
  return hash.update(await imagesFingerprint()).digest("hex");
}
