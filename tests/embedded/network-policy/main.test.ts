import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { ROOT } from "../../../embedded/paths.ts";
import { ApiServer } from "./api-server.ts";
import { POD_CIDR, PodBench } from "./pod-bench.ts";
import type { Probe } from "./pod-bench.ts";

const MAIN = join(ROOT, "embedded/network-policy/main.ts");
const ADDRESS = { app: "10.42.9.2", db: "10.42.9.3", late: "10.42.9.4" } as const;
/** For a busy machine; how long it takes is for the bench to measure. */
const PATIENCE_MS = 30_000;

const APP_TO_DB: Probe = { from: "app", address: ADDRESS.db, port: 80, protocol: "TCP" };
const LATE_TO_DB: Probe = { from: "late", address: ADDRESS.db, port: 80, protocol: "TCP" };
const NODE_TO_APP: Probe = { from: "node", address: ADDRESS.app, port: 80, protocol: "TCP" };

const SHUT = {
  apiVersion: "networking.k8s.io/v1",
  kind: "NetworkPolicy",
  metadata: { namespace: "acme", name: "shut" },
  spec: { podSelector: { matchLabels: { role: "db" } }, policyTypes: ["Ingress"] },
};
/** Everything in the API's own words that its generated client would rename: `from`. */
const FROM_APP = {
  ...SHUT,
  spec: { ...SHUT.spec, ingress: [{ from: [{ podSelector: { matchLabels: { role: "app" } } }] }] },
};

let bench: PodBench;
let folder: string;
let cniResults: string;
let api: ApiServer;
let enforcer: ChildProcess | undefined;
let output = "";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "network-policy-"));
  cniResults = join(folder, "cni-results");
  await mkdir(cniResults);
  bench = await PodBench.start(ADDRESS);
  api = new ApiServer(bench, folder);
  await api.prepare();
});

afterEach(async () => {
  await stopEnforcer();
});

afterAll(async () => {
  await api.stop();
  await bench.stop();
  await rm(folder, { recursive: true });
});

function startEnforcer(settings: NodeJS.ProcessEnv = {}): ChildProcess {
  output = "";
  const environment = {
    PATH: process.env["PATH"],
    KUBECONFIG: api.kubeconfig,
    POD_CIDR,
    NODE_NAME: "bench",
    CNI_RESULTS: cniResults,
    ...settings,
  };
  const child = spawn(
    "ip",
    [
      ...["netns", "exec", bench.nodeNamespace, "env", "-i"],
      ...Object.entries(environment).map(([name, value]) => `${name}=${value ?? ""}`),
      ...[process.execPath, MAIN],
    ],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  const hear = (chunk: Buffer): void => {
    output += chunk.toString();
  };
  child.stdout.on("data", hear);
  child.stderr.on("data", hear);
  enforcer = child;
  return child;
}

async function stopEnforcer(): Promise<void> {
  const child = enforcer;
  enforcer = undefined;
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  await ended;
}

async function heard(text: string): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!output.includes(text)) {
    if (performance.now() > deadline) throw new Error(`"${text}" was never said in: ${output}`);
    await delay(20);
  }
}

/** One try, given no more time than a forbidden packet would be. */
async function passes(probe: Probe): Promise<boolean> {
  return (await bench.reach([probe], [])).length === 1;
}

/** Waits until the probe passes, or no longer passes. */
async function until(probe: Probe, wanted: boolean): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while ((await passes(probe)) !== wanted) {
    if (performance.now() > deadline) {
      throw new Error(`${JSON.stringify(probe)} still ${wanted ? "fails" : "passes"}: ${output}`);
    }
  }
}

async function createPod(name: keyof typeof ADDRESS): Promise<string> {
  const uid = await api.kubectl(
    ["create", "-f", "-", "-o", "jsonpath={.metadata.uid}"],
    JSON.stringify({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { namespace: "acme", name, labels: { role: name } },
      spec: { containers: [{ name: "main", image: "none" }] },
    }),
  );
  return uid.trim();
}

async function reportAddress(name: keyof typeof ADDRESS): Promise<void> {
  await api.kubectl([
    ...["patch", "pod", name, "-n", "acme", "--subresource=status", "--type=merge", "-p"],
    JSON.stringify({
      status: { phase: "Running", podIP: ADDRESS[name], podIPs: [{ ip: ADDRESS[name] }] },
    }),
  ]);
}

const otherTables = async (): Promise<string> =>
  (await bench.inNode("nft", ["-s", "list", "table", "ip", "nat_of_the_bench"])).trim();

describe("network policy enforcer", () => {
  it("lets nothing to or from a pod but from the node before it has read the cluster", async () => {
    await until(APP_TO_DB, true);
    startEnforcer();
    await heard("no rules in force: nothing passes to or from a pod until the cluster is read");
    expect(await passes(APP_TO_DB)).toBe(false);
    await until(NODE_TO_APP, true);
  });

  it("reads the cluster when the API server appears", async () => {
    startEnforcer();
    await api.start();
    await api.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: "acme" } });
    await createPod("app");
    await createPod("db");
    await reportAddress("app");
    await reportAddress("db");
    await until(APP_TO_DB, true);
  });

  it("puts a policy, its change and its removal in force, and touches no other table", async () => {
    const before = await otherTables();
    startEnforcer();
    await heard("rules in force: 0 policies over 2 pods");
    await api.apply(SHUT);
    await until(APP_TO_DB, false);
    await api.apply(FROM_APP);
    await until(APP_TO_DB, true);
    await api.apply(SHUT);
    await until(APP_TO_DB, false);
    await api.kubectl(["delete", "networkpolicy", "shut", "-n", "acme"]);
    await until(APP_TO_DB, true);
    expect(await otherTables()).toBe(before);
  });

  it("reads `from` alike in what it lists and in what it watches", async () => {
    await api.apply(FROM_APP);
    startEnforcer();
    await heard("rules in force: 1 policies over 2 pods");
    await until(APP_TO_DB, true);
    await api.kubectl(["label", "pod", "app", "-n", "acme", "--overwrite", "role=other"]);
    await until(APP_TO_DB, false);
    await api.kubectl(["label", "pod", "app", "-n", "acme", "--overwrite", "role=app"]);
    await until(APP_TO_DB, true);
  });

  it("keeps the rules while the API server is away, and catches up on its return", async () => {
    await api.apply(SHUT);
    startEnforcer();
    await heard("rules in force: 1 policies over 2 pods");
    await api.kill();
    await heard("the last copy stands");
    expect(await passes(APP_TO_DB)).toBe(false);
    await api.start();
    await api.kubectl(["delete", "networkpolicy", "shut", "-n", "acme"]);
    await until(APP_TO_DB, true);
  });

  it("leaves the rules when it is told to stop, and keeps them when it starts anew without the API server", async () => {
    await api.apply(SHUT);
    startEnforcer();
    await heard("rules in force: 1 policies over 2 pods");
    await stopEnforcer();
    await until(NODE_TO_APP, true);
    expect(await passes(APP_TO_DB)).toBe(false);
    await api.kubectl(["delete", "networkpolicy", "shut", "-n", "acme"]);
    startEnforcer();
    await heard("rules in force: 0 policies over 2 pods");
    await stopEnforcer();
    await api.kill();
    startEnforcer();
    await heard("the rules in force stay until the cluster is read");
    await heard("the last copy stands");
    await until(APP_TO_DB, true);
    await stopEnforcer();
    await api.start();
  });

  it("knows a pod's address from libcni before the API server does", async () => {
    startEnforcer();
    await heard("rules in force: 0 policies over 2 pods");
    const uid = await createPod("late");
    expect(await passes(LATE_TO_DB)).toBe(false);
    await writeFile(
      join(cniResults, "pods-0123456789abcdef-eth0"),
      JSON.stringify({
        kind: "cniCacheV1",
        ifName: "eth0",
        cniArgs: [
          ["K8S_POD_NAMESPACE", "acme"],
          ["K8S_POD_UID", uid],
        ],
        result: { cniVersion: "1.0.0", ips: [{ address: `${ADDRESS.late}/24` }] },
      }),
    );
    await until(LATE_TO_DB, true);
  });

  it.each([
    [
      { POD_CIDR: "" },
      'Setting "POD_CIDR": it must be given, got nothing. Set it in the environment (see embedded/network-policy/README.md).',
    ],
    [
      { POD_CIDR: "10.42.9.0" },
      'Setting "POD_CIDR": it must be an IPv4 range such as 10.42.1.0/24, got 10.42.9.0. Set it to what host-local hands out.',
    ],
    [
      { KUBECONFIG: "/nowhere/kubeconfig" },
      "Kubeconfig \"/nowhere/kubeconfig\": it must be a readable kubeconfig, got ENOENT: no such file or directory, open '/nowhere/kubeconfig'. Point KUBECONFIG at the cluster's own.",
    ],
    [
      { PATH: "/nowhere" },
      'Program "nft": it must be installed and allowed to read the packet filter, got spawn nft ENOENT. Install the Debian package nftables and run as root.',
    ],
  ])("ends with one sentence when it cannot do its work: %j", async (settings, sentence) => {
    const code = await new Promise((resolve) => startEnforcer(settings).once("close", resolve));
    expect([code, output]).toEqual([1, `${sentence}\n`]);
  });
});
