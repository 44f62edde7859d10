import { execFile, spawn } from "node:child_process";
import { mkdirSync, watch } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { KubeConfig } from "@kubernetes/client-node";
import { withCniAddresses } from "./cni-addresses.ts";
import { cidrRange } from "./ipv4-ranges.ts";
import { ResourceMirror } from "../cluster/resource-mirror.ts";
import { TABLE, rulesetFor } from "./ruleset.ts";
import type { Namespace, NetworkPolicy, Pod } from "./ruleset.ts";

/** Changes come in bursts: a pod's start alone is five of them. */
const DEBOUNCE_MS = 50;
const RETRY_MS = 1_000;

interface Settings {
  readonly kubeconfig: string;
  readonly podCidr: string;
  readonly nodeName: string;
  readonly cniResults: string;
}

function readSettings(environment: NodeJS.ProcessEnv): Settings {
  const required = (name: string): string => {
    const value = environment[name];
    if (value !== undefined && value !== "") return value;
    throw new Error(
      `Setting "${name}": it must be given, got nothing. Set it in the environment (see embedded/network-policy/README.md).`,
    );
  };
  const podCidr = required("POD_CIDR");
  if (cidrRange(podCidr) === undefined) {
    throw new Error(
      `Setting "POD_CIDR": it must be an IPv4 range such as 10.42.1.0/24, got ${podCidr}. Set it to what host-local hands out.`,
    );
  }
  return {
    kubeconfig: required("KUBECONFIG"),
    podCidr,
    nodeName: required("NODE_NAME"),
    cniResults: environment["CNI_RESULTS"] ?? "/var/lib/cni/results",
  };
}

function readKubeconfig(file: string): KubeConfig {
  const config = new KubeConfig();
  try {
    config.loadFromFile(file);
  } catch (cause) {
    throw new Error(
      `Kubeconfig "${file}": it must be a readable kubeconfig, got ${messageOf(cause)}. Point KUBECONFIG at the cluster's own.`,
      { cause },
    );
  }
  return config;
}

/** Puts the rules in force; rejects with what nft says about rules that it does not take. */
function load(ruleset: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const nft = spawn("nft", ["-f", "-"], { stdio: ["pipe", "ignore", "pipe"] });
    let complaint = "";
    nft.stderr.on("data", (chunk: Buffer) => (complaint += chunk.toString()));
    nft.on("error", reject);
    // A refusal comes by exit code; without a listener a pipe closed early would end this process instead.
    nft.stdin.on("error", () => undefined);
    nft.on("close", (code) => {
      if (code === 0) resolve();
      else reject(new Error(`nft ended with ${code}: ${complaint.trim()}`));
    });
    nft.stdin.end(ruleset);
  });
}

async function tableIsThere(): Promise<boolean> {
  try {
    const { stdout } = await promisify(execFile)("nft", ["list", "tables"]);
    return stdout.split("\n").includes(`table ${TABLE}`);
  } catch (cause) {
    throw new Error(
      `Program "nft": it must be installed and allowed to read the packet filter, got ${messageOf(cause).trim()}. Install the Debian package nftables and run as root.`,
      { cause },
    );
  }
}

async function enforce(settings: Settings, signal: AbortSignal): Promise<void> {
  const log = (line: string): void => {
    console.log(`${new Date().toISOString()} ${settings.nodeName} ${line}`);
  };
  const config = readKubeconfig(settings.kubeconfig);

  let rulesInForce = "";
  let wake = Promise.withResolvers<undefined>();
  const changed = (): void => {
    wake.resolve(undefined);
  };

  // A restart keeps the rules of before; on a machine that has none, pods wait until the cluster is known.
  if (await tableIsThere()) {
    log("the rules in force stay until the cluster is read");
  } else {
    await load(rulesetFor({ namespaces: [], pods: [], policies: [], podCidr: settings.podCidr }));
    log("no rules in force: nothing passes to or from a pod until the cluster is read");
  }

  const mirror = <T extends Namespace | Pod | NetworkPolicy>(path: string): ResourceMirror<T> =>
    new ResourceMirror<T>(config, path, changed, log);
  const namespaces = mirror<Namespace>("/api/v1/namespaces");
  const pods = mirror<Pod>("/api/v1/pods");
  const policies = mirror<NetworkPolicy>("/apis/networking.k8s.io/v1/networkpolicies");
  for (const resource of [namespaces, pods, policies]) void resource.run(signal);

  mkdirSync(settings.cniResults, { recursive: true, mode: 0o700 });
  watch(settings.cniResults, { signal }, changed);

  for (;;) {
    await wake.promise;
    await delay(DEBOUNCE_MS);
    wake = Promise.withResolvers<undefined>();
    if (
      namespaces.objects === undefined ||
      pods.objects === undefined ||
      policies.objects === undefined
    ) {
      continue;
    }
    try {
      const begunAt = performance.now();
      const ruleset = rulesetFor({
        namespaces: namespaces.objects,
        pods: withCniAddresses(pods.objects, settings.cniResults),
        policies: policies.objects,
        podCidr: settings.podCidr,
      });
      if (ruleset === rulesInForce) continue;
      await load(ruleset);
      rulesInForce = ruleset;
      log(
        `rules in force: ${policies.objects.length} policies over ${pods.objects.length} pods, ` +
          `${Math.round(performance.now() - begunAt)} ms`,
      );
    } catch (error) {
      log(`the rules of before stay in force: ${messageOf(error)}`);
      setTimeout(changed, RETRY_MS);
    }
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

const stop = new AbortController();
for (const name of ["SIGTERM", "SIGINT"] as const) {
  process.on(name, () => {
    // The rules stay: a machine whose enforcer is down keeps its pods apart.
    stop.abort();
    process.exit(0);
  });
}
try {
  await enforce(readSettings(process.env), stop.signal);
} catch (error) {
  console.error(messageOf(error));
  process.exit(1);
}
