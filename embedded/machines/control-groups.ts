import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmdirSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { PLATFORM_ID } from "./layout.ts";
import type { AnyMachineName } from "./layout.ts";
import { MachineError } from "./machine-error.ts";

interface Hierarchy {
  readonly folder: string;
  readonly version: 1 | 2;
  /** The mount options that name a version 1 hierarchy: "cpu,cpuacct" or "none,name=systemd". */
  readonly options: string;
}

const MIB = 1024 * 1024;

/** The group that holds the groups of all machines, in every hierarchy. */
const PARENT = `flux-${PLATFORM_ID}`;

function hierarchies(): readonly Hierarchy[] {
  const found: Hierarchy[] = [];
  for (const line of readFileSync("/proc/self/mountinfo", "utf8").split("\n")) {
    const [before = "", after = ""] = line.split(" - ");
    const folder = before.split(" ")[4];
    const [type, , superOptions = ""] = after.split(" ");
    if (folder === undefined) continue;
    if (type === "cgroup2") found.push({ folder, version: 2, options: "" });
    if (type !== "cgroup") continue;
    const options = superOptions
      .split(",")
      .filter(
        (option) => !["rw", "ro", "xattr", "release_agent", "clone_children"].includes(option),
      )
      .filter((option) => !option.startsWith("release_agent="));
    const named = options.some((option) => option.startsWith("name="));
    found.push({ folder, version: 1, options: (named ? ["none", ...options] : options).join(",") });
  }
  return found;
}

/**
 * Makes the control groups of a machine.
 *
 * Returns the files that the machine's first process writes itself into, and the mounts that show
 * the machine its own groups: "<folder name>:<options>" for version 1, ":" for version 2 alone.
 */
export function makeGroups(name: AnyMachineName): {
  readonly joinFiles: readonly string[];
  readonly mounts: readonly string[];
} {
  const all = hierarchies();
  if (all.length === 0) {
    throw new MachineError(`Machine "${name}": control groups must be mounted, got none.`, {
      step: "make control groups",
      wayOut: "Mount cgroup2 on /sys/fs/cgroup, then start again.",
    });
  }
  const onlyVersion2 = all.every((hierarchy) => hierarchy.version === 2);
  for (const { folder, version, options } of all) {
    for (const group of [join(folder, PARENT), join(folder, PARENT, name)]) {
      mkdirSync(group, { recursive: true });
      const parent = join(group, "..");
      if (version === 1 && options.split(",").includes("cpuset")) {
        // A version 1 cpuset starts empty and takes no process before it has both.
        for (const file of ["cpuset.cpus", "cpuset.mems"]) {
          writeFileSync(join(group, file), readFileSync(join(parent, file)));
        }
      }
      if (group.endsWith(PARENT)) giveShare(group);
      if (onlyVersion2) {
        const controllers = readFileSync(join(parent, "cgroup.controllers"), "utf8").trim();
        const enable = controllers.split(" ").filter((controller) => controller !== "");
        writeFileSync(
          join(parent, "cgroup.subtree_control"),
          enable.map((controller) => `+${controller}`).join(" "),
        );
      }
    }
  }
  return {
    joinFiles: all.map(({ folder }) => join(folder, PARENT, name, "cgroup.procs")),
    mounts: onlyVersion2
      ? [":"]
      : all.map(({ folder, options }) => `${basename(folder)}:${options}`),
  };
}

/**
 * Weighs the machines' processor time. The group of all of them is dozens of programs, and with the
 * share of one it would starve beside whatever else the computer does.
 */
function giveShare(group: string): void {
  for (const [file, share] of [
    ["cpu.shares", "4096"],
    ["cpu.weight", "400"],
  ] as const) {
    if (existsSync(join(group, file))) writeFileSync(join(group, file), share);
  }
}

/**
 * Memory that a machine's processes and their shared segments hold, in MiB, without what files have in the page cache.
 *
 * @param group of those on the machine, such as "kubepods". @default all of the machine
 */
export function heldMib(name: AnyMachineName, group = ""): number {
  for (const { folder, version } of hierarchies()) {
    const file = join(folder, PARENT, name, group, "memory.stat");
    if (!existsSync(file)) continue;
    const text = readFileSync(file, "utf8");
    const bytes = (key: string): number =>
      Number(new RegExp(`^${key} (\\d+)$`, "m").exec(text)?.[1] ?? NaN);
    return version === 1
      ? (bytes("total_rss") + bytes("total_shmem")) / MIB
      : (bytes("anon") + bytes("shmem")) / MIB;
  }
  throw new MachineError(`Machine "${name}": its memory must be counted, got no memory.stat.`, {
    step: "read control groups",
    wayOut: "Start the kernel with the memory controller of control groups.",
  });
}

/** Ends every process left in a machine's control groups and removes the groups. */
export async function removeGroups(name: AnyMachineName): Promise<void> {
  const end = performance.now() + 10_000;
  for (const { folder } of hierarchies()) {
    const group = join(folder, PARENT, name);
    while (existsSync(group)) {
      for (const pid of processesBelow(group)) {
        try {
          process.kill(pid, "SIGKILL");
        } catch {
          // It ended by itself.
        }
      }
      try {
        removeBelow(group);
      } catch (cause) {
        if (performance.now() > end) {
          throw new MachineError(`Machine "${name}": control group ${group} must be empty.`, {
            step: "remove control groups",
            wayOut: `End the processes that ${group}/cgroup.procs names, then stop again.`,
            cause,
          });
        }
        await sleep(20);
      }
    }
  }
}

/** Removes the group that held the machines' groups, once those are gone. */
export function removeParentGroups(): void {
  for (const { folder } of hierarchies()) {
    const group = join(folder, PARENT);
    if (existsSync(group)) rmdirSync(group);
  }
}

function processesBelow(group: string): readonly number[] {
  const own = readFileSync(join(group, "cgroup.procs"), "utf8").split("\n").filter(Boolean);
  return [...own.map(Number), ...children(group).flatMap((child) => processesBelow(child))];
}

function removeBelow(group: string): void {
  for (const child of children(group)) removeBelow(child);
  rmdirSync(group);
}

function children(group: string): readonly string[] {
  return readdirSync(group, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => join(group, entry.name));
}
