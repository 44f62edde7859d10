import { existsSync, readdirSync, readFileSync } from "node:fs";
import { rmdir } from "node:fs/promises";
import { mustRun, runCommand } from "./command.ts";
import {
  GUESTS,
  LAN_PREFIX,
  MACHINES,
  OPERATOR_ADDRESS,
  PLATFORM_ID,
  namespaceFile,
  namespaceName,
} from "./layout.ts";
import type { AnyMachineName, MachinePlan } from "./layout.ts";

/** A place with an address on the LAN. */
export type LanMember = AnyMachineName | "operator";

/** Makes the bridge and the operator's workplace unless they are there. */
export async function ensureLan(): Promise<void> {
  const ports = await bridgePorts();
  if (ports === undefined) {
    await removeNamespace("lan");
    const lan = namespaceName("lan");
    await mustRun("make the LAN", ["ip", "netns", "add", lan]);
    await mustRun("make the bridge", ["ip", "-netns", lan, "-batch", "-"], {
      stdin: "link set lo up\nlink add br0 type bridge\nlink set br0 up\n",
    });
  }
  if (ports?.has("operator") !== true) await join("operator", OPERATOR_ADDRESS, []);
}

/** Members whose link to the bridge is there; undefined while there is no whole LAN. */
export async function bridgePorts(): Promise<ReadonlySet<string> | undefined> {
  if (!existsSync(namespaceFile("lan"))) return undefined;
  const listing = await runCommand([
    ...["ip", "-netns", namespaceName("lan"), "-json", "link", "show"],
  ]);
  if (listing.exitCode !== 0) return undefined;
  const links = JSON.parse(listing.stdout) as readonly { ifname: string; operstate: string }[];
  // The bridge is made last, so where it is everything is.
  if (!links.some(({ ifname }) => ifname === "br0")) return undefined;
  const up = links.filter(({ ifname, operstate }) => ifname !== "br0" && operstate === "UP");
  return new Set(
    up
      .map(({ ifname }) => ifname)
      .filter((name) => existsSync(`/run/netns/flux-${PLATFORM_ID}-${name}`)),
  );
}

/** Makes a machine's network namespace, joined to the bridge. */
export async function joinLan(machine: MachinePlan): Promise<void> {
  await join(machine.name, machine.address, [
    // A process of the machine itself that asks for a service address needs some route before the
    // service's rules can turn the packet.
    ...(machine.cluster === undefined ? [] : [`route add ${machine.cluster.serviceCidr} dev eth0`]),
  ]);
}

async function join(
  member: LanMember,
  address: string,
  furtherLines: readonly string[],
): Promise<void> {
  const lan = namespaceName("lan");
  const own = namespaceName(member);
  await leaveLan(member);
  await mustRun(`make the network of ${member}`, ["ip", "netns", "add", own]);
  await mustRun(`join ${member} to the LAN`, ["ip", "-netns", lan, "-batch", "-"], {
    stdin: `link add name ${member} type veth peer name eth0 netns ${own}
link set dev ${member} master br0 up
`,
  });
  await mustRun(`give ${member} its address`, ["ip", "-netns", own, "-batch", "-"], {
    stdin: `link set lo up
link set dev eth0 address ${hardwareAddress(address)}
address add ${address}/${String(LAN_PREFIX)} dev eth0
link set eth0 up
${furtherLines.join("\n")}
`,
  });
}

/**
 * The same hardware address in every life: neighbours that remember another one would send to
 * nobody for up to ten seconds after a reboot.
 */
function hardwareAddress(address: string): string {
  const bytes = address.split(".").map((byte) => Number(byte).toString(16).padStart(2, "0"));
  return ["02", "f1", ...bytes].join(":");
}

/** Removes a member's network namespace and its link, if they are there. */
export async function leaveLan(member: LanMember): Promise<void> {
  if (existsSync(namespaceFile("lan"))) {
    // Deleting one end deletes the other; the namespace alone would free its links only later.
    await runCommand(["ip", "-netns", namespaceName("lan"), "link", "delete", "dev", member]);
  }
  await removeNamespace(member);
}

/** Removes every network namespace of this platform, and the mount that `ip netns` made for them. */
export async function removeLan(): Promise<void> {
  for (const machine of [...MACHINES, ...GUESTS]) await removeNamespace(machine.name);
  await removeNamespace("operator");
  await removeNamespace("lan");
  const folder = "/run/netns";
  if (!existsSync(folder) || readdirSync(folder).length > 0) return;
  const isMount = readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .some((line) => line.split(" ")[4] === folder);
  if (isMount) await mustRun("unmount /run/netns", ["umount", folder]);
  await rmdir(folder);
}

async function removeNamespace(owner: LanMember | "lan"): Promise<void> {
  if (!existsSync(namespaceFile(owner))) return;
  await mustRun(`remove the network of ${owner}`, ["ip", "netns", "delete", namespaceName(owner)]);
}

/** Lets no packet pass between two members, in either direction. Done at once; safe to repeat. */
export async function cutLink(a: LanMember, b: LanMember): Promise<void> {
  await changeCut(a, b, [
    `add rule ${cutChain(a, b)} iifname "${a}" oifname "${b}" drop`,
    `add rule ${cutChain(a, b)} iifname "${b}" oifname "${a}" drop`,
  ]);
}

/** Lets packets pass again between two members. Safe to repeat. */
export async function healLink(a: LanMember, b: LanMember): Promise<void> {
  await changeCut(a, b, [`delete chain ${cutChain(a, b)}`]);
}

/** The frames of each pair pass a chain of their own on the bridge; the order of the two is one. */
function cutChain(a: LanMember, b: LanMember): string {
  return `bridge cut ${[a, b].sort().join("_to_").replaceAll("-", "_")}`;
}

/**
 * Changes the rules of a pair. They name the bridge's ports: addresses could be those of pods, or
 * be changed on the way.
 */
async function changeCut(a: LanMember, b: LanMember, lines: readonly string[]): Promise<void> {
  const chain = cutChain(a, b);
  await mustRun(`change the link between ${a} and ${b}`, inNamespace("lan", ["nft", "-f", "-"]), {
    stdin: `add table bridge cut
add chain ${chain} { type filter hook forward priority 0; policy accept; }
flush chain ${chain}
${lines.join("\n")}
`,
  });
}

/** The command line that runs a command in one of the platform's network namespaces. */
export function inNamespace(owner: LanMember | "lan", argv: readonly string[]): readonly string[] {
  return ["nsenter", `--net=${namespaceFile(owner)}`, "--", ...argv];
}

/** Whether network namespaces of this platform exist at all. */
export function lanExists(): boolean {
  return existsSync(namespaceFile("lan")) && existsSync(namespaceFile("operator"));
}

/** Names of the network namespaces of this platform that exist. */
export function existingNamespaces(): readonly string[] {
  if (!existsSync("/run/netns")) return [];
  return readdirSync("/run/netns").filter((name) => name.startsWith(`flux-${PLATFORM_ID}-`));
}
