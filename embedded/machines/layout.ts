import { createHash } from "node:crypto";
import { realpathSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../paths.ts";

/** The machines of the platform. */
export type MachineName = "master" | "standby" | "nl-1" | "fi-1";
/** Machines that a test adds for itself and takes away again. */
export type GuestName = "bare-1";
/** Any machine of the LAN. */
export type AnyMachineName = MachineName | GuestName;

/** Addresses of a machine's Kubernetes. */
export interface ClusterPlan {
  /** Value of the node label `topology.kubernetes.io/region`. */
  readonly region: string;
  /** Value of the node label `fluxbilling.dev/location`. */
  readonly location: string;
  readonly podCidr: string;
  /** The cluster's end of the pod bridge. */
  readonly podGateway: string;
  readonly serviceCidr: string;
  /** First address of the service range: the API server as pods see it. */
  readonly apiServiceAddress: string;
  /** Tenth address of the service range. */
  readonly clusterDnsAddress: string;
}

/** What a machine is meant to be. */
export interface MachinePlan {
  readonly name: AnyMachineName;
  /** Its address on the LAN. */
  readonly address: string;
  /** Whether a PostgreSQL server runs on it; its programs are on every machine. */
  readonly postgres: boolean;
  readonly cluster?: ClusterPlan;
}

/** Prefix length of the LAN that joins the machines. */
export const LAN_PREFIX = 24;
export const LAN_CIDR = `10.77.0.0/${String(LAN_PREFIX)}`;
/** Address of the platform engineer's workplace: a network namespace, not a machine. */
export const OPERATOR_ADDRESS = "10.77.0.2";
/** Domain of the machines' names: `nl-1.flux.test`. */
export const DOMAIN = "flux.test";

/** All machines; the order is the order of every listing. */
export const MACHINES: readonly (MachinePlan & { readonly name: MachineName })[] = [
  {
    name: "master",
    address: "10.77.0.10",
    postgres: true,
    cluster: clusterPlan("eu-central", "master", 81, 91),
  },
  { name: "standby", address: "10.77.0.11", postgres: false },
  {
    name: "nl-1",
    address: "10.77.0.21",
    postgres: true,
    cluster: clusterPlan("eu-west", "nl-1", 82, 92),
  },
  {
    name: "fi-1",
    address: "10.77.0.31",
    postgres: true,
    cluster: clusterPlan("eu-north", "fi-1", 83, 93),
  },
];

/** What guests are: bare, with SSH and an encrypted disk alone. */
export const GUESTS: readonly MachinePlan[] = [
  { name: "bare-1", address: "10.77.0.41", postgres: false },
];

function clusterPlan(
  region: string,
  location: string,
  pods: number,
  services: number,
): ClusterPlan {
  return {
    region,
    location,
    podCidr: `10.${String(pods)}.0.0/20`,
    podGateway: `10.${String(pods)}.0.1`,
    serviceCidr: `10.${String(services)}.0.0/20`,
    apiServiceAddress: `10.${String(services)}.0.1`,
    clusterDnsAddress: `10.${String(services)}.0.10`,
  };
}

/** The plan of one machine. */
export function machinePlan(name: AnyMachineName): MachinePlan {
  const plan = [...MACHINES, ...GUESTS].find((machine) => machine.name === name);
  if (plan === undefined) {
    throw new Error(
      `Machine "${name}": the name must be one of ${MACHINES.map((m) => m.name).join(", ")}.`,
    );
  }
  return plan;
}

/** The checkout this platform belongs to. */
export const CHECKOUT = realpathSync(ROOT);
/** Everything generated; ignored by git. */
export const CACHE = join(CHECKOUT, ".cache");
/** State of the platform: keys, data, logs. Readable by root alone. */
export const PLATFORM = join(CACHE, "platform");

/** Tells this checkout's namespaces and control groups from those of another checkout. */
export const PLATFORM_ID = createHash("sha256").update(CHECKOUT).digest("hex").slice(0, 6);

/** The network namespace of a machine, of the operator or of the LAN's bridge. */
export function namespaceName(owner: AnyMachineName | "operator" | "lan"): string {
  return `flux-${PLATFORM_ID}-${owner}`;
}

/** Where `ip netns` keeps a namespace. */
export function namespaceFile(owner: AnyMachineName | "operator" | "lan"): string {
  return `/run/netns/${namespaceName(owner)}`;
}

/** Folder of one machine below {@link PLATFORM}. */
export function machineFolder(name: AnyMachineName): string {
  return join(PLATFORM, "machines", name);
}

/** The log of one service of a machine, on the host. */
export function serviceLog(name: AnyMachineName, service: string): string {
  return join(machineFolder(name), "log", service, "current");
}

/** Where a machine sees the read-only parts of the cache: bin, images, programs. */
export const INSIDE = "/opt/fluxbilling";
/** Where a machine sees its own keys and settings. */
export const INSIDE_ETC = "/etc/fluxbilling";
