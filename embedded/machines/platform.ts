import { existsSync, readFileSync } from "node:fs";
import { chmod, mkdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  API_SUBJECT,
  CLUSTER_PROGRAMS,
  addonsReadiness,
  clusterReadiness,
  ensureAddons,
  haveAddons,
  kubeconfigFileOf,
  prepareCluster,
} from "../cluster/cluster.ts";
import { ensureStandIns } from "../cluster/stand-ins.ts";
import { copyImages, ensureImageTemplate, importImages } from "../cluster/image-store.ts";
import { ensureAuthority } from "./authority.ts";
import type { KeyPair } from "./authority.ts";
import type { CommandOptions, CommandResult } from "./command.ts";
import { removeParentGroups } from "./control-groups.ts";
import { closeDisk, dataFolder } from "./disk.ts";
import { checkHost } from "./host.ts";
import {
  cutLink as cutLanLink,
  ensureLan,
  healLink as healLanLink,
  inNamespace,
  lanExists,
  removeLan,
} from "./lan.ts";
import type { LanMember } from "./lan.ts";
import {
  GUESTS,
  MACHINES,
  PLATFORM,
  PLATFORM_ID,
  machineFolder,
  machinePlan,
  namespaceName,
  serviceLog,
} from "./layout.ts";
import type { AnyMachineName, GuestName, MachineName, MachinePlan } from "./layout.ts";
import {
  bootMachine,
  eraseMachine,
  haltMachine,
  machineProcess,
  prepareMachine,
  runOn as runOnMachine,
} from "./machine.ts";
import { MachineError, explained } from "./machine-error.ts";
import { withPlatformLock } from "./platform-lock.ts";
import {
  ADMIN_USER,
  POSTGRES_PORT,
  ensurePostgresTemplate,
  preparePostgres,
  preparePostgresPrograms,
} from "./postgres.ts";
import { untilReady } from "./readiness.ts";
import type { Readiness } from "./readiness.ts";
import type { Service } from "./service.ts";
import { together } from "./together.ts";
import { SSH_KEY_FILE, SSH_PORT, ensureSshKey, hostKeyOf, prepareSshHost } from "./ssh-host.ts";

export type { MachineName } from "./layout.ts";
export type { LanMember } from "./lan.ts";

/** How to reach one machine. Addresses exist inside the platform's network namespaces alone. */
export interface MachineFacts {
  readonly name: AnyMachineName;
  readonly address: string;
  readonly ssh: {
    readonly host: string;
    readonly port: number;
    readonly user: string;
    readonly privateKeyFile: string;
    /** The machine's public host key: "ssh-ed25519 AAAA…". */
    readonly hostKey: string;
  };
  /** Absent on a machine without PostgreSQL server. */
  readonly postgres?: {
    readonly host: string;
    readonly port: number;
    readonly adminUser: string;
    /** Holds the password and a line feed; readable by root alone. */
    readonly adminPasswordFile: string;
    readonly caFile: string;
  };
  /** Absent on a machine without Kubernetes. */
  readonly cluster?: {
    /** Cluster administrator's; readable by root alone. */
    readonly kubeconfigFile: string;
    readonly podCidr: string;
    readonly serviceCidr: string;
    readonly clusterDnsAddress: string;
    /** Where the ingress listens on ports 80 and 443. */
    readonly ingressAddress: string;
  };
}

/** Where everything of the platform is. */
export interface PlatformFacts {
  /** Tells the platforms of two checkouts on one computer apart. */
  readonly id: string;
  /** Name of the network namespace from which the machines can be reached. */
  readonly operatorNamespace: string;
  readonly machines: Readonly<Record<MachineName, MachineFacts>>;
  /** The certificate authority of all PostgreSQL servers. */
  readonly caFile: string;
}

/** How a platform is started. */
export interface StartOptions {
  /** Called as steps are done: which machine, what it has now. */
  readonly onProgress?: (machine: string, step: string) => void;
}

const AUTHORITY: KeyPair = {
  certificateFile: join(PLATFORM, "ca", "ca.crt"),
  keyFile: join(PLATFORM, "ca", "ca.key"),
};
const FACTS_FILE = join(PLATFORM, "platform.json");
/** Time for a machine that boots; three of them at once on two busy cores take their time. */
const READY_SECONDS = 240;
/** Time for a machine that ran already. */
const ADOPT_SECONDS = 60;

/**
 * Starts the platform, or what of it does not run, and waits until all of it answers.
 *
 * Safe to repeat: what runs is adopted, what crashed is started again with its data. Throws a
 * `MachineError` that names the step, the log file and the way out.
 */
export async function startPlatform(options: StartOptions = {}): Promise<PlatformFacts> {
  const onProgress = options.onProgress ?? (() => undefined);
  await checkHost();
  return withPlatformLock(async () => {
    await mkdir(PLATFORM, { recursive: true });
    await chmod(PLATFORM, 0o700);
    await together([
      ensureSshKey(),
      ensureAuthority(AUTHORITY, "FluxBilling embedded platform"),
      ensurePostgresTemplate(),
      ensureImageTemplate(),
      ensureStandIns(),
      ensureLan(),
    ]);
    await together(MACHINES.map(async (machine) => bring(machine, onProgress)));
    return writeFacts();
  }).catch((error: unknown) => {
    throw explained(error, "start the platform");
  });
}

/** Ends every machine and clears away every process, mount, namespace, link and control group. Data stay. */
export async function stopPlatform(): Promise<void> {
  await withPlatformLock(stopAll);
}

/** Stops the platform and forgets all its data, keys and logs. */
export async function destroyPlatform(): Promise<void> {
  await withPlatformLock(async () => {
    await stopAll();
    for (const { name } of [...MACHINES, ...GUESTS]) await eraseMachine(name);
    await rm(PLATFORM, { recursive: true, force: true });
  });
}

async function stopAll(): Promise<void> {
  await together([...MACHINES, ...GUESTS].map(async ({ name }) => end(name, "shutdown")));
  removeParentGroups();
  await removeLan();
}

/** Facts of the running platform; undefined unless every machine of it runs. */
export async function platformFacts(): Promise<PlatformFacts | undefined> {
  const running = lanExists() && MACHINES.every(({ name }) => machineProcess(name) !== undefined);
  if (!running || !existsSync(FACTS_FILE)) return Promise.resolve(undefined);
  return Promise.resolve(JSON.parse(readFileSync(FACTS_FILE, "utf8")) as PlatformFacts);
}

/** The command line that runs a command at the operator's workplace, where all machines are reachable. */
export function asOperator(argv: readonly string[], facts?: PlatformFacts): readonly string[] {
  return facts === undefined
    ? inNamespace("operator", argv)
    : ["nsenter", `--net=/run/netns/${facts.operatorNamespace}`, "--", ...argv];
}

/** Starts one machine and waits until all of it answers. The platform must have been started before. */
export async function startMachine(
  name: MachineName,
  onProgress: (machine: string, step: string) => void = () => undefined,
): Promise<void> {
  await withPlatformLock(async () => {
    await bring(machinePlan(name), onProgress);
  }).catch((error: unknown) => {
    throw explained(error, `start ${name}`);
  });
}

/** Ends one machine: cleanly, or as by a power cut. Its data stay. */
export async function stopMachine(name: MachineName, how: "shutdown" | "crash"): Promise<void> {
  await withPlatformLock(async () => {
    await end(name, how);
  });
}

/**
 * Adds a machine that the platform does not have to its LAN: bare, with SSH and an encrypted disk alone. Nobody but
 * the caller knows of it; {@link removeGuest} takes it away.
 */
export async function addGuest(name: GuestName): Promise<MachineFacts> {
  return withPlatformLock(async () => {
    await bring(machinePlan(name), () => undefined);
    return factsOf(machinePlan(name));
  }).catch((error: unknown) => {
    throw explained(error, `start ${name}`);
  });
}

/** Ends a guest and forgets everything that it has stored. Safe to repeat. */
export async function removeGuest(name: GuestName): Promise<void> {
  await withPlatformLock(async () => {
    await end(name, "shutdown");
    await eraseMachine(name);
  });
}

/** Lets no packet pass between two machines (or a machine and the operator), in either direction. */
export async function cutLink(a: LanMember, b: LanMember): Promise<void> {
  await cutLanLink(a, b);
}

/** Lets packets pass again. Links heal by themselves only when the platform stops. */
export async function healLink(a: LanMember, b: LanMember): Promise<void> {
  await healLanLink(a, b);
}

/** Runs a command on a machine, as root, inside all its namespaces, to its end. */
export async function runOn(
  machine: AnyMachineName,
  argv: readonly string[],
  options: Pick<CommandOptions, "stdin" | "timeoutSeconds"> = {},
): Promise<CommandResult> {
  return runOnMachine(machine, argv, options);
}

async function end(name: AnyMachineName, how: "shutdown" | "crash"): Promise<void> {
  await haltMachine(name, how);
  await closeDisk(name);
}

async function bring(
  machine: MachinePlan,
  onProgress: (machine: string, step: string) => void,
): Promise<void> {
  const { name, cluster } = machine;
  const folder = machineFolder(name);
  await prepareMachine(machine);
  const services: Service[] = [await prepareSshHost(machine, join(folder, "etc"))];
  if (machine.postgres) {
    services.push((await preparePostgres(machine, folder, AUTHORITY)).service);
  } else {
    services.push(await preparePostgresPrograms(dataFolder(name)));
  }
  if (cluster !== undefined) {
    await copyImages(machine, await ensureImageTemplate());
    services.push(...(await prepareCluster(machine, cluster)));
  }
  onProgress(name, "prepared");
  const bootTime = new Date();
  const programs = cluster === undefined ? [] : CLUSTER_PROGRAMS;
  const started = await bootMachine(machine, services, programs);
  onProgress(name, started ? "booted" : "adopted");
  const answers = ({ subject }: Readiness): void => {
    onProgress(name, `${subject} answers`);
  };
  try {
    await untilUseful(machine, started ? bootTime : undefined, answers);
  } catch (error) {
    if (started || !(error instanceof MachineError)) throw error;
    // What ran was there and yet of no use: a fresh start is the remedy, with the data kept.
    onProgress(name, `is started again: ${error.step} failed`);
    await haltMachine(name, "shutdown");
    await bring(machine, onProgress);
  }
}

/** @param bootTime when the machine was booted; undefined for one that ran already */
async function untilUseful(
  machine: MachinePlan,
  bootTime: Date | undefined,
  answers: (ready: Readiness) => void,
): Promise<void> {
  const { cluster } = machine;
  const seconds = bootTime === undefined ? ADOPT_SECONDS : READY_SECONDS;
  const since = bootTime ?? new Date(0);
  const wanted = [...readinessOf(machine)];
  if (cluster === undefined) {
    await untilReady(wanted, seconds, answers);
    return;
  }
  wanted.push(...clusterReadiness(machine, since));
  if (haveAddons(machine)) wanted.push(addonsReadiness(machine, since));
  // Add-ons need the API alone: they are on their way while the node is still coming up.
  let addons: Promise<boolean> | undefined;
  const answered = untilReady(wanted, seconds, (ready) => {
    answers(ready);
    if (ready.subject !== API_SUBJECT) return;
    addons = ensureAddons(machine, cluster);
    // Its failure is thrown below, where it is awaited; until then it must not count as unheard.
    addons.catch(() => undefined);
  });
  await together([answered, importImages(machine)]);
  if (await addons) await untilReady([addonsReadiness(machine, since)], READY_SECONDS, answers);
}

function readinessOf(machine: MachinePlan): readonly Readiness[] {
  const { name, address } = machine;
  const wanted: Readiness[] = [
    {
      machine: name,
      subject: "sshd",
      check: { kind: "ssh", host: address, port: SSH_PORT },
      logFile: serviceLog(name, "sshd"),
    },
  ];
  if (machine.postgres) {
    wanted.push({
      machine: name,
      subject: "PostgreSQL",
      check: {
        kind: "postgres",
        host: address,
        port: POSTGRES_PORT,
        user: ADMIN_USER,
        caFile: AUTHORITY.certificateFile,
      },
      logFile: serviceLog(name, "postgresql"),
    });
  }
  return wanted;
}

async function writeFacts(): Promise<PlatformFacts> {
  const entries: [MachineName, MachineFacts][] = [];
  for (const machine of MACHINES) entries.push([machine.name, await factsOf(machine)]);
  const facts: PlatformFacts = {
    id: PLATFORM_ID,
    operatorNamespace: namespaceName("operator"),
    machines: Object.fromEntries(entries) as Record<MachineName, MachineFacts>,
    caFile: AUTHORITY.certificateFile,
  };
  await writeFile(`${FACTS_FILE}.new`, `${JSON.stringify(facts, undefined, 2)}\n`);
  await rename(`${FACTS_FILE}.new`, FACTS_FILE);
  return facts;
}

async function factsOf(machine: MachinePlan): Promise<MachineFacts> {
  const { name, address } = machine;
  const folder = machineFolder(name);
  return {
    name,
    address,
    ssh: {
      host: address,
      port: SSH_PORT,
      user: "root",
      privateKeyFile: SSH_KEY_FILE,
      hostKey: await hostKeyOf(join(folder, "etc")),
    },
    ...(machine.postgres
      ? {
          postgres: {
            host: address,
            port: POSTGRES_PORT,
            adminUser: ADMIN_USER,
            adminPasswordFile: join(folder, "postgres-admin-password"),
            caFile: AUTHORITY.certificateFile,
          },
        }
      : {}),
    ...(machine.cluster === undefined
      ? {}
      : {
          cluster: {
            kubeconfigFile: kubeconfigFileOf(machine),
            podCidr: machine.cluster.podCidr,
            serviceCidr: machine.cluster.serviceCidr,
            clusterDnsAddress: machine.cluster.clusterDnsAddress,
            ingressAddress: address,
          },
        }),
  };
}
