import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { closeSync, existsSync, openSync, readFileSync } from "node:fs";
import { mkdir, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { runCommand } from "./command.ts";
import type { CommandOptions, CommandResult } from "./command.ts";
import { makeGroups, removeGroups } from "./control-groups.ts";
import { untilTrue } from "./deadline.ts";
import { dataFolder, openDisk } from "./disk.ts";
import { bridgePorts, joinLan, leaveLan } from "./lan.ts";
import {
  CACHE,
  CHECKOUT,
  DOMAIN,
  INSIDE,
  INSIDE_ETC,
  MACHINES,
  OPERATOR_ADDRESS,
  machineFolder,
  machinePlan,
  namespaceFile,
} from "./layout.ts";
import type { AnyMachineName, MachinePlan } from "./layout.ts";
import { MachineError } from "./machine-error.ts";
import { isAlive, parseIdentity } from "./process-identity.ts";
import type { ProcessIdentity } from "./process-identity.ts";
import { writeSettings } from "./settings-file.ts";
import { writeServices } from "./service.ts";
import type { Service } from "./service.ts";

/** Seconds a machine gets to end its services before everything on it is ended by force. */
const SHUTDOWN_SECONDS = 15;
const BOOT_SECONDS = 15;

/** Folders of a machine's disk; boot.sh shows each where Debian or Kubernetes has it. */
const DATA_PARTS = ["kubelet", "postgresql", "etc-postgresql", "fluxbilling", "volumes", "root"];

/** The first process of a running machine. */
export function machineProcess(name: AnyMachineName): ProcessIdentity | undefined {
  const file = join(machineFolder(name), "pid");
  if (!existsSync(file)) return undefined;
  const identity = parseIdentity(readFileSync(file, "utf8"));
  return identity !== undefined && isAlive(identity) ? identity : undefined;
}

/** Makes the folders of a machine and the files that name it and its neighbours. */
export async function prepareMachine(machine: MachinePlan): Promise<void> {
  const folder = machineFolder(machine.name);
  for (const part of ["root", "upper", "work", "etc", "log", "containerd"]) {
    await mkdir(join(folder, part), { recursive: true });
  }
  await openDisk(machine.name);
  for (const part of DATA_PARTS) {
    await mkdir(join(dataFolder(machine.name), part), {
      recursive: true,
      mode: part === "root" ? 0o700 : 0o755,
    });
  }
  for (const part of ["bin", "images", "programs"])
    await mkdir(join(CACHE, part), { recursive: true });
  const neighbours = MACHINES.map(({ name, address }) => `${address} ${name} ${name}.${DOMAIN}`);
  await writeSettings(
    join(folder, "etc", "hosts"),
    `127.0.0.1 localhost
::1 localhost ip6-localhost ip6-loopback
${OPERATOR_ADDRESS} operator operator.${DOMAIN}
${neighbours.join("\n")}
`,
  );
  await writeSettings(join(folder, "etc", "hostname"), `${machine.name}\n`);
  // No name server: the names of the LAN are in /etc/hosts and nothing beyond it can be reached.
  await writeSettings(join(folder, "etc", "resolv.conf"), `search ${DOMAIN}\n`);
}

/**
 * Starts a machine with these services, unless exactly that runs already.
 *
 * Whatever a crash or an earlier, different definition left is cleared away first. Returns whether
 * it had to be started. Does not wait for the services.
 *
 * @param programs files on the host that the services run: where one is replaced, the machine is
 * started again
 */
export async function bootMachine(
  machine: MachinePlan,
  services: readonly Service[],
  programs: readonly string[],
): Promise<boolean> {
  const folder = machineFolder(machine.name);
  const definition = await definitionOf(machine, services, programs);
  const definitionFile = join(folder, "definition");
  const isJoined = (await bridgePorts())?.has(machine.name) === true;
  if (isJoined && machineProcess(machine.name) !== undefined) {
    if (existsSync(definitionFile) && (await readFile(definitionFile, "utf8")) === definition) {
      return false;
    }
  }
  await haltMachine(machine.name, "shutdown");
  await rm(join(folder, "services"), { recursive: true, force: true });
  await rm(definitionFile, { force: true });
  // The kernel keeps its notes on the overlay here and refuses those of a different mount.
  await rm(join(folder, "work"), { recursive: true, force: true });
  await mkdir(join(folder, "work"));
  await writeServices(join(folder, "services"), services);
  await joinLan(machine);
  const groups = makeGroups(machine.name);

  const bootLog = join(folder, "log", "boot.log");
  const log = openSync(bootLog, "w", 0o600);
  const child = spawn(
    "sh",
    [
      "-euc",
      `for file in $JOIN_FILES; do echo $$ > "$file"; done
exec nsenter --net="$NETWORK" -- unshare --mount --pid --uts --ipc --cgroup --fork -- sh "$BOOT"`,
    ],
    {
      // A session of its own: a terminal that closes does not take the machine along.
      detached: true,
      cwd: "/",
      stdio: ["ignore", log, log],
      env: {
        PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
        JOIN_FILES: groups.joinFiles.join(" "),
        GROUP_MOUNTS: groups.mounts.join(" "),
        NETWORK: namespaceFile(machine.name),
        BOOT: join(import.meta.dirname, "boot.sh"),
        MACHINE_NAME: machine.name,
        MACHINE: folder,
        CHECKOUT,
      },
    },
  );
  closeSync(log);
  let ended = false;
  child.once("exit", () => (ended = true));
  child.once("error", () => (ended = true));
  child.unref();
  const details = {
    step: `boot ${machine.name}`,
    logFile: bootLog,
    wayOut: "The end of the log names the mount or the program that is missing.",
  };
  await untilTrue(
    `Machine "${machine.name}": must boot within ${String(BOOT_SECONDS)} s, got no first process.`,
    BOOT_SECONDS,
    details,
    () => {
      if (ended) {
        const words = readFileSync(bootLog, "utf8").trim().split("\n").slice(-2).join(" | ");
        throw new MachineError(
          `Machine "${machine.name}": its first process must run on, got an end (${words}).`,
          details,
        );
      }
      const identity = machineProcess(machine.name);
      return identity !== undefined && programOf(identity) === "s6-svscan";
    },
  );
  await writeFile(definitionFile, definition);
  return true;
}

/** A fingerprint of everything a running machine was started from. */
async function definitionOf(
  machine: MachinePlan,
  services: readonly Service[],
  programs: readonly string[],
): Promise<string> {
  const hash = createHash("sha256");
  hash.update(JSON.stringify([machine, services]));
  for (const program of programs) {
    const { size, mtimeMs } = await stat(program);
    hash.update(JSON.stringify([program, size, mtimeMs]));
  }
  hash.update(await readFile(join(import.meta.dirname, "boot.sh")));
  const etc = join(machineFolder(machine.name), "etc");
  for (const entry of (await readdir(etc, { recursive: true, withFileTypes: true })).sort((a, b) =>
    join(a.parentPath, a.name).localeCompare(join(b.parentPath, b.name)),
  )) {
    if (!entry.isFile()) continue;
    hash.update(entry.name).update(await readFile(join(entry.parentPath, entry.name)));
  }
  return hash.digest("hex");
}

function programOf(identity: ProcessIdentity): string | undefined {
  try {
    return readFileSync(`/proc/${String(identity.pid)}/comm`, "utf8").trim();
  } catch {
    return undefined;
  }
}

/**
 * Ends a machine with everything on it, and clears away its network namespace and control groups.
 * Its data stay, and its disk stays open. Safe to repeat.
 *
 * "shutdown" lets services end cleanly first; "crash" is a power cut.
 */
export async function haltMachine(name: AnyMachineName, how: "shutdown" | "crash"): Promise<void> {
  const first = machineProcess(name);
  if (first !== undefined) {
    const alive = (): boolean => isAlive(first);
    if (how === "shutdown") {
      process.kill(first.pid, "SIGTERM");
      const end = performance.now() + SHUTDOWN_SECONDS * 1000;
      while (alive() && performance.now() < end) await new Promise((r) => setTimeout(r, 20));
    }
    if (alive()) process.kill(first.pid, "SIGKILL");
    await untilTrue(
      `Machine "${name}": its first process ${String(first.pid)} must end, got none.`,
      10,
      { step: `stop ${name}`, wayOut: "Look with ps what it waits for, then stop again." },
      () => !alive(),
    );
  }
  await rm(join(machineFolder(name), "pid"), { force: true });
  await removeGroups(name);
  await leaveLan(name);
}

/** Forgets everything a halted machine has stored. */
export async function eraseMachine(name: AnyMachineName): Promise<void> {
  await rm(machineFolder(name), { recursive: true, force: true });
}

/** The command line that runs a command on a machine, as root, in all its namespaces. */
export function onMachine(name: AnyMachineName, argv: readonly string[]): readonly string[] {
  const first = machineProcess(name);
  if (first === undefined) {
    throw new MachineError(`Machine "${name}": must run, got no process.`, {
      step: `run ${argv[0] ?? ""} on ${name}`,
      wayOut: "Start the machine first.",
    });
  }
  const settings = [
    `PATH=${INSIDE}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
    "HOME=/root",
    "LANG=C.UTF-8",
    ...(machinePlan(name).cluster === undefined
      ? []
      : [`KUBECONFIG=${INSIDE_ETC}/kubernetes/admin.kubeconfig`]),
  ];
  return [
    ...["nsenter", "--target", String(first.pid)],
    ...["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--wdns=/", "--"],
    ...["env", "-i", ...settings, ...argv],
  ];
}

/** Runs a command on a machine, as root, to its end. */
export async function runOn(
  name: AnyMachineName,
  argv: readonly string[],
  options: Pick<CommandOptions, "stdin" | "timeoutSeconds"> = {},
): Promise<CommandResult> {
  return runCommand(onMachine(name, argv), options);
}
