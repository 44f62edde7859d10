import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { createWriteStream } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { BIN } from "../../../embedded/paths.ts";
import type { PodBench } from "./pod-bench.ts";

const READY_WITHIN_MS = 60_000;

/** A real kube-apiserver on a kine of its own, on the loopback interface of a bench's node. */
export class ApiServer {
  readonly #bench: PodBench;
  readonly #folder: string;
  #kine: ChildProcess | undefined;
  #server: ChildProcess | undefined;

  /** @param folder an empty folder of the test's own, for its keys, its database and its logs */
  constructor(bench: PodBench, folder: string) {
    this.#bench = bench;
    this.#folder = folder;
  }

  get kubeconfig(): string {
    return join(this.#folder, "kubeconfig");
  }

  /** Writes keys and kubeconfig and starts the datastore; the API server itself stays down. */
  async prepare(): Promise<void> {
    const token = randomBytes(16).toString("hex");
    const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    await Promise.all([
      writeFile(join(this.#folder, "tokens.csv"), `${token},admin,admin,system:masters\n`),
      writeFile(
        join(this.#folder, "service-account.key"),
        privateKey.export({ type: "pkcs8", format: "pem" }),
      ),
      writeFile(
        this.kubeconfig,
        JSON.stringify({
          apiVersion: "v1",
          kind: "Config",
          "current-context": "bench",
          contexts: [{ name: "bench", context: { cluster: "bench", user: "admin" } }],
          clusters: [
            {
              name: "bench",
              cluster: { server: "https://127.0.0.1:6443", "insecure-skip-tls-verify": true },
            },
          ],
          users: [{ name: "admin", user: { token } }],
        }),
      ),
    ]);
    const database = join(this.#folder, "kine.db");
    this.#kine = this.#spawn("kine", [
      `--listen-address=unix://${this.#folder}/kine.sock`,
      `--endpoint=sqlite://${database}?_pragma=busy_timeout(30000)&_pragma=journal_mode(WAL)`,
      "--metrics-bind-address=0",
    ]);
  }

  /** Starts the API server and waits until it is ready. */
  async start(): Promise<void> {
    this.#server = this.#spawn("kube-apiserver", [
      `--etcd-servers=unix://${this.#folder}/kine.sock`,
      `--cert-dir=${this.#folder}/certificates`,
      "--bind-address=127.0.0.1",
      "--advertise-address=127.0.0.1",
      "--secure-port=6443",
      "--service-cluster-ip-range=10.96.0.0/16",
      "--service-account-issuer=https://bench",
      `--service-account-key-file=${this.#folder}/service-account.key`,
      `--service-account-signing-key-file=${this.#folder}/service-account.key`,
      "--authorization-mode=AlwaysAllow",
      `--token-auth-file=${this.#folder}/tokens.csv`,
      "--disable-admission-plugins=ServiceAccount",
      "--endpoint-reconciler-type=none",
    ]);
    const deadline = performance.now() + READY_WITHIN_MS;
    for (;;) {
      try {
        await this.kubectl(["get", "--raw", "/readyz"]);
        return;
      } catch (error) {
        if (performance.now() > deadline) throw error;
        await delay(200);
      }
    }
  }

  /** Ends the API server without a farewell. */
  async kill(): Promise<void> {
    await end(this.#server);
    this.#server = undefined;
  }

  /** Ends everything. */
  async stop(): Promise<void> {
    await this.kill();
    await end(this.#kine);
  }

  kubectl(args: readonly string[], input?: string): Promise<string> {
    return this.#bench.inNode(
      join(BIN, "kubectl"),
      ["--kubeconfig", this.kubeconfig, ...args],
      input,
    );
  }

  /** Creates or changes objects. */
  async apply(...objects: readonly object[]): Promise<void> {
    await this.kubectl(
      ["apply", "--server-side", "-f", "-"],
      JSON.stringify({ apiVersion: "v1", kind: "List", items: objects }),
    );
  }

  #spawn(program: string, args: readonly string[]): ChildProcess {
    const child = spawn(
      "ip",
      ["netns", "exec", this.#bench.nodeNamespace, join(BIN, program), ...args],
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    const log = createWriteStream(join(this.#folder, `${program}.log`), { flags: "a" });
    child.stdout.pipe(log, { end: false });
    child.stderr.pipe(log, { end: false });
    return child;
  }
}

async function end(child: ChildProcess | undefined): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await ended;
}
