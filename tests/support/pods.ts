import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { text } from "node:stream/consumers";

import { namespaceFile } from "../../embedded/machines/layout.ts";
import type { MachineFacts } from "../../embedded/machines/platform.ts";
import { kubectl } from "./platform.ts";
import type { Listening, Outcomes, Probes } from "./probe.ts";

const PROBE = join(import.meta.dirname, "probe.ts");

/** A process of a pod, by this computer's number: its folder in /proc shows the pod's network and files. */
export interface PodProcess {
  readonly pid: number;
  readonly program: string;
}

/** Where probes are sent from: a pod's network, or a machine's own. */
export type Place = PodProcess | MachineFacts;

/** The processes of one pod, that of its sandbox among them. */
export async function processesOfPod(
  machine: MachineFacts,
  namespace: string,
  ...selector: readonly string[]
): Promise<readonly PodProcess[]> {
  const uid = await kubectl(
    machine,
    ...["get", "pod", "--namespace", namespace, ...selector],
    ...["-o", "jsonpath={.metadata.uid}{.items[0].metadata.uid}"],
  );
  if (uid === "") throw new Error(`Namespace ${namespace} must have a pod ${selector.join(" ")}`);
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => readOrNothing(`/proc/${pid}/cgroup`).includes(`pod${uid}`))
    .map((pid) => ({ pid: Number(pid), program: readOrNothing(`/proc/${pid}/comm`).trim() }));
}

/** Any process of a pod: the network is the same for all of them. */
export async function processOfPod(
  machine: MachineFacts,
  namespace: string,
  ...selector: readonly string[]
): Promise<PodProcess> {
  const [first] = await processesOfPod(machine, namespace, ...selector);
  if (first === undefined) throw new Error(`Pod ${selector.join(" ")} must have a process`);
  return first;
}

/** A process may end between the listing and the reading. */
function readOrNothing(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    if (["ENOENT", "ESRCH"].includes((error as NodeJS.ErrnoException).code ?? "")) return "";
    throw error;
  }
}

/** Sends probes from inside a pod's network, or a machine's; each answers under its own name. */
export async function probeFrom<Name extends string>(
  place: Place,
  probes: Probes<Name>,
): Promise<Outcomes<Name>> {
  const child = startIn(place);
  child.stdin.end(JSON.stringify({ probes }));
  const [told] = await Promise.all([text(child.stdout), once(child, "close")]);
  return JSON.parse(told) as Outcomes<Name>;
}

/** Answers on addresses of a place, TCP and UDP, with whatever is sent; ends what it returns. */
export async function listenIn(
  place: Place,
  listening: readonly Listening[],
): Promise<() => Promise<void>> {
  const child = startIn(place);
  child.stdin.write(`${JSON.stringify({ listening })}\n`);
  await once(child.stdout, "data");
  return async () => {
    const ended = once(child, "close");
    child.stdin.end();
    await ended;
  };
}

function startIn(place: Place): ChildProcessByStdio<Writable, Readable, null> {
  const network = "pid" in place ? `/proc/${place.pid}/ns/net` : namespaceFile(place.name);
  return spawn("nsenter", [`--net=${network}`, "--", process.execPath, PROBE], {
    stdio: ["pipe", "pipe", "inherit"],
  });
}
