import { execFile, spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Answer, Question, Request, Target } from "./pod-agent.ts";

/** The range of the test pods. */
export const POD_CIDR = "10.42.9.0/24";
/** The node's own addresses: towards its pods, and on the LAN. */
export const GATEWAY = "10.42.9.1";
export const NODE = "192.0.2.1";
/** Addresses of the one host beyond the node, which plays the metadata service and the internet as well. */
export const NEIGHBOUR = "192.0.2.9";
export const METADATA = "169.254.169.254";
export const INTERNET = "203.0.113.10";
export const PRIVATE = "10.0.0.8";
/** A service address that the node's own NAT sends to the pod `SERVICE_POD`. */
export const SERVICE = "10.96.0.10";
export const SERVICE_POD = "10.42.9.3";
/** Every test pod, the node and the neighbour serve TCP and UDP on these. */
export const PORTS = [80, 443, 5432] as const;

/** How long an allowed packet may take on a machine that is busy with something else. */
const PATIENCE_MS = 5_000;
/** How long a forbidden packet is given to arrive all the same, once the allowed ones are through. */
const GRACE_MS = 20;

export interface Probe extends Target {
  readonly from: string;
}

/**
 * Pods, a node and a neighbour as network namespaces, wired as the CNI plugin `ptp` wires them, with source NAT
 * towards the neighbour and one service address.
 */
export class PodBench {
  readonly #prefix = `fxnp-${process.pid}-${randomBytes(3).toString("hex")}`;
  readonly #agents = new Map<string, Agent>();
  readonly #namespaces: string[] = [];
  #tokens = 0;

  /**
   * @param pods address by name; a pod of any name can be asked to send, beside `node` and `neighbour`
   */
  static async start(pods: Readonly<Record<string, string>>): Promise<PodBench> {
    await clearAwayDeadBenches();
    const bench = new PodBench();
    try {
      await bench.#wire(pods);
    } catch (error) {
      await bench.stop();
      throw error;
    }
    return bench;
  }

  /** Path of the node's network namespace. */
  get nodeNamespace(): string {
    return this.#namespace("node");
  }

  /** Runs a program inside the node's network namespace and gives its output. */
  inNode(program: string, args: readonly string[], input?: string): Promise<string> {
    return run("ip", ["netns", "exec", this.nodeNamespace, program, ...args], input);
  }

  /** Runs a program inside a pod's network namespace and gives its output. */
  inPod(name: string, program: string, args: readonly string[]): Promise<string> {
    return run("ip", ["netns", "exec", this.#namespace(name), program, ...args]);
  }

  /** Puts a ruleset in force on the node. */
  async load(ruleset: string): Promise<void> {
    await this.inNode("nft", ["-f", "-"], ruleset);
  }

  /**
   * Sends one token per probe and says which came back. Waits for those that are expected to, and gives the others
   * a moment to prove the expectation wrong.
   */
  async reach<P extends Probe>(
    probes: readonly P[],
    expected: readonly P[],
  ): Promise<readonly P[]> {
    const sent = probes.map((probe) => ({ probe, token: `token-${(this.#tokens += 1)}` }));
    const senders = [...new Set(probes.map((probe) => probe.from))];
    const echoes = async (): Promise<Set<string>> =>
      new Set(
        (await Promise.all(senders.map((name) => this.ask(name, { kind: "echoed" })))).flat(),
      );

    await Promise.all(
      senders.map((name) =>
        this.ask(name, {
          kind: "send",
          probes: sent
            .filter(({ probe }) => probe.from === name)
            .map(({ probe, token }) => ({
              protocol: probe.protocol,
              address: probe.address,
              port: probe.port,
              token,
            })),
        }),
      ),
    );
    const awaited = sent.filter(({ probe }) => expected.includes(probe)).map(({ token }) => token);
    const deadline = performance.now() + PATIENCE_MS;
    let echoed = await echoes();
    while (!awaited.every((token) => echoed.has(token)) && performance.now() < deadline) {
      await delay(5);
      echoed = await echoes();
    }
    await delay(GRACE_MS);
    echoed = await echoes();
    const arrived = await this.#receivedAnywhere();
    await Promise.all(senders.map((name) => this.ask(name, { kind: "close" })));
    // What arrives without an answer got through as well.
    return sent
      .filter(
        ({ token, probe }) =>
          echoed.has(token) || (arrived.has(token) && !expected.includes(probe)),
      )
      .map(({ probe }) => probe);
  }

  /** Whether a token sent by `send` shows at `at`: among what was echoed to it, or what reached its servers. */
  async passes(
    send: { readonly from: string; readonly request: (token: string) => Request },
    at: { readonly name: string; readonly kind: "echoed" | "received" },
    withinMs: number,
  ): Promise<boolean> {
    const token = `token-${(this.#tokens += 1)}`;
    await this.ask(send.from, send.request(token));
    const deadline = performance.now() + withinMs;
    do {
      if ((await this.ask(at.name, { kind: at.kind })).includes(token)) return true;
      await delay(5);
    } while (performance.now() < deadline);
    return false;
  }

  /** Puts a request to the agent in a pod, in `node` or in `neighbour`. */
  ask(name: string, request: Request): Promise<readonly string[]> {
    const agent = this.#agents.get(name);
    if (agent === undefined)
      throw new Error(`Test pod "${name}": it must be on the bench, got none.`);
    return agent.ask(request);
  }

  /** Ends every process and network namespace of the bench. */
  async stop(): Promise<void> {
    await Promise.all([...this.#agents.values()].map((agent) => agent.stop()));
    for (const namespace of this.#namespaces) await run("ip", ["netns", "del", namespace]);
    this.#namespaces.length = 0;
  }

  async #receivedAnywhere(): Promise<Set<string>> {
    const lists = await Promise.all(
      [...this.#agents.values()].map((agent) => agent.ask({ kind: "received" })),
    );
    return new Set(lists.flat());
  }

  #namespace(name: string): string {
    return `${this.#prefix}-${name}`;
  }

  async #wire(pods: Readonly<Record<string, string>>): Promise<void> {
    const names = Object.keys(pods);
    for (const name of ["node", "neighbour", ...names]) {
      const namespace = this.#namespace(name);
      await run("ip", ["netns", "add", namespace]);
      this.#namespaces.push(namespace);
    }
    const batch = (name: string, lines: readonly string[]): Promise<string> =>
      run("ip", ["-n", this.#namespace(name), "-batch", "-"], `${lines.join("\n")}\n`);

    await batch("node", [
      "link set lo up",
      `link add eth0 type veth peer name eth0 netns ${this.#namespace("neighbour")}`,
      "link set eth0 up",
      `address add ${NODE}/24 dev eth0`,
      `route add default via ${NEIGHBOUR}`,
      ...Object.entries(pods).flatMap(([name, address]) => [
        `link add veth-${name} type veth peer name eth0 netns ${this.#namespace(name)}`,
        `link set veth-${name} up`,
        // A fixed link-local address lets a pod try the way around.
        "address add fe80::1/64 dev veth-" + name + " nodad",
        `address add ${GATEWAY}/32 dev veth-${name}`,
        `route add ${address}/32 dev veth-${name}`,
      ]),
    ]);
    await batch("neighbour", [
      "link set lo up",
      "link set eth0 up",
      `address add ${NEIGHBOUR}/24 dev eth0`,
      ...[METADATA, INTERNET, PRIVATE].map((address) => `address add ${address}/32 dev lo`),
      // So that a test can come from beyond the node to a pod.
      `route add ${POD_CIDR} via ${NODE}`,
    ]);
    for (const [name, address] of Object.entries(pods)) {
      await batch(name, [
        "link set lo up",
        "link set eth0 up",
        "address add fe80::2/64 dev eth0 nodad",
        `address add ${address}/24 dev eth0 noprefixroute`,
        `route add ${GATEWAY}/32 dev eth0 src ${address}`,
        `route add default via ${GATEWAY}`,
      ]);
    }
    await this.inNode("sysctl", ["-qw", "net.ipv4.ip_forward=1"]);
    await this.load(
      `table ip nat_of_the_bench {
        chain services { type nat hook prerouting priority dstnat
          ip daddr ${SERVICE} dnat to ${SERVICE_POD}
        }
        chain outward { type nat hook postrouting priority srcnat
          oifname "eth0" ip saddr ${POD_CIDR} masquerade
          ip saddr ${SERVICE_POD} ip daddr ${SERVICE_POD} masquerade
        }
      }\n`,
    );
    for (const name of ["node", "neighbour", ...names]) {
      this.#agents.set(name, await Agent.start(this.#namespace(name)));
    }
    await Promise.all(
      ["node", "neighbour", ...names].flatMap((name) =>
        PORTS.map((port) => this.ask(name, { kind: "listen", port })),
      ),
    );
  }
}

/** A test run that was killed could not take its network namespaces along. */
async function clearAwayDeadBenches(): Promise<void> {
  for (const line of (await run("ip", ["netns", "list"])).split("\n")) {
    const [, namespace, pid] = /^(fxnp-(\d+)-\S+)/.exec(line) ?? [];
    if (namespace !== undefined && !existsSync(`/proc/${pid}`)) {
      await run("ip", ["netns", "del", namespace]);
    }
  }
}

class Agent {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, PromiseWithResolvers<readonly string[]>>();
  #questions = 0;

  static async start(namespace: string): Promise<Agent> {
    const child = spawn(
      "ip",
      ["netns", "exec", namespace, process.execPath, join(import.meta.dirname, "pod-agent.ts")],
      { stdio: ["ignore", "inherit", "inherit", "ipc"] },
    );
    await new Promise((resolve, reject) => child.once("spawn", resolve).once("error", reject));
    return new Agent(child);
  }

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.on("message", (message) => {
      const answer = message as Answer;
      const waiting = this.#waiting.get(answer.number);
      this.#waiting.delete(answer.number);
      if (answer.error === undefined) waiting?.resolve(answer.tokens);
      else waiting?.reject(new Error(answer.error));
    });
    child.on("exit", () => {
      for (const waiting of this.#waiting.values()) waiting.reject(new Error("the agent ended"));
    });
  }

  ask(request: Request): Promise<readonly string[]> {
    const waiting = Promise.withResolvers<readonly string[]>();
    const question: Question = { number: (this.#questions += 1), request };
    this.#waiting.set(question.number, waiting);
    this.#child.send(question);
    return waiting.promise;
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.disconnect();
    await ended;
  }
}

function run(program: string, args: readonly string[], input = ""): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(program, args, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`${program} ${args.join(" ")}: ${stderr}`, { cause: error }));
    });
    // A program that does not read its input closes it; whether it did its work, its exit code says.
    child.stdin?.on("error", () => undefined).end(input);
  });
}
