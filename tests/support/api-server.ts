/**
 * A real Kubernetes API server with its controllers on loopback, on a database of its own in a temporary folder.
 *
 * There is no machine behind it that runs containers: a stand-in for the kubelet says of every pod that it runs,
 * so that controllers and waits go their real way.
 */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { once } from "node:events";
import { closeSync, existsSync, openSync } from "node:fs";
import { chmod, chown, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { BIN } from "../../embedded/paths.ts";
import { ApiError, ApiServer } from "../../embedded/plugins/kubernetes/api-server.ts";
import { clusterAccess, parseKubeconfig } from "../../embedded/plugins/kubernetes/kubeconfig.ts";
import { objects, pick, pickText } from "../../embedded/plugins/kubernetes/pick.ts";
import type { Properties } from "../../embedded/plugins/provider.ts";

const POSTGRES_BIN = "/usr/lib/postgresql/15/bin";
const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 10_000;
const NODE = "stand-in";

/** An image of this name never starts, so that failing waits can be shown. */
export const MISSING_IMAGE = "docker.io/local/missing:1";

export interface TestCluster {
  readonly kubeconfig: string;
  /** For looking at, and changing, what the plugin made, behind its back. */
  readonly api: ApiServer;
  stop(): Promise<void>;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

interface Started {
  readonly name: string;
  readonly process: ChildProcess;
  readonly log: string;
}

class Processes {
  readonly #folder: string;
  readonly #started: Started[] = [];
  constructor(folder: string) {
    this.#folder = folder;
  }

  start(name: string, command: string, args: readonly string[], user?: Owner): void {
    if (!existsSync(command)) {
      throw new Error(
        `Test cluster: program "${name}" must be at ${command}, got nothing there. Build the toolchain first.`,
      );
    }
    const log = join(this.#folder, `${name}.log`);
    const output = openSync(log, "a");
    const child = spawn(command, args, {
      cwd: this.#folder,
      stdio: ["ignore", output, output],
      ...(user ?? {}),
    });
    closeSync(output);
    this.#started.push({ name, process: child, log });
  }

  /** Waits until `ready` says so; a program that ended meanwhile fails with the end of its log. */
  async until(what: string, ready: () => Promise<boolean>): Promise<void> {
    const deadline = Date.now() + START_TIMEOUT_MS;
    while (!(await ready())) {
      const ended = this.#started.find(({ process }) => process.exitCode !== null);
      if (ended !== undefined || Date.now() > deadline) {
        const { name, log } = ended ?? this.#started.at(-1) ?? { name: what, log: "" };
        const text = log === "" ? "" : await readFile(log, "utf8");
        throw new Error(
          `Test cluster: ${what} did not come up; ${name} said:\n${text.slice(-2000)}`,
        );
      }
      await sleep(50);
    }
  }

  /** Ends everything that was started, last first, by its own process id. */
  async stop(): Promise<void> {
    for (const { process } of [...this.#started].reverse()) {
      if (process.exitCode !== null || process.signalCode !== null) continue;
      const ended = once(process, "exit");
      process.kill("SIGTERM");
      await Promise.race([ended, sleep(STOP_TIMEOUT_MS)]);
      if (process.exitCode === null && process.signalCode === null) {
        process.kill("SIGKILL");
        await ended;
      }
    }
  }
}

interface Owner {
  readonly uid: number;
  readonly gid: number;
}

async function postgresUser(): Promise<Owner> {
  const line = (await readFile("/etc/passwd", "utf8"))
    .split("\n")
    .find((entry) => entry.startsWith("postgres:"));
  const [, , uid, gid] = line?.split(":") ?? [];
  if (uid === undefined || gid === undefined) {
    throw new Error(
      'Test cluster: the user "postgres" must exist, got none. Install the Debian package postgresql-15.',
    );
  }
  return { uid: Number(uid), gid: Number(gid) };
}

async function run(command: string, args: readonly string[], user: Owner): Promise<void> {
  const child = spawn(command, args, { stdio: ["ignore", "ignore", "pipe"], ...user });
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (errors += text));
  const [code] = (await once(child, "close")) as [number];
  if (code !== 0)
    throw new Error(`Test cluster: ${command} ended with exit code ${code}: ${errors}`);
}

/**
 * Starts everything and waits until the API server answers.
 *
 * @param definitions custom resource definitions that are there before the controllers start: the garbage collector
 *   looks for new ones only every half a minute, and until then no object of theirs can go.
 */
export async function startTestCluster(
  definitions: readonly Properties[] = [],
): Promise<TestCluster> {
  const folder = await mkdtemp(join(tmpdir(), "embedded-api-"));
  const processes = new Processes(folder);
  const cleanUp = async (): Promise<void> => {
    await processes.stop();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    const owner = await postgresUser();
    const [databasePort, kinePort, apiPort] = [
      await freePort(),
      await freePort(),
      await freePort(),
    ];
    await chmod(folder, 0o755);
    const database = join(folder, "database");
    await mkdir(database, { mode: 0o700 });
    await chown(database, owner.uid, owner.gid);
    const initialize = [
      "-D",
      database,
      "--auth=trust",
      "--no-sync",
      "--encoding=UTF8",
      "--locale=C",
    ];
    await run(join(POSTGRES_BIN, "initdb"), initialize, owner);
    const settings = [`port=${databasePort}`, "listen_addresses=127.0.0.1", "fsync=off"];
    const options = [...settings, `unix_socket_directories=${database}`, "max_connections=50"];
    processes.start(
      "postgres",
      join(POSTGRES_BIN, "postgres"),
      ["-D", database, ...options.flatMap((option) => ["-c", option])],
      owner,
    );
    const ready = ["-h", "127.0.0.1", "-p", String(databasePort), "-q"];
    await processes.until("PostgreSQL", () =>
      run(join(POSTGRES_BIN, "pg_isready"), ready, owner).then(
        () => true,
        () => false,
      ),
    );
    const kineAddress = `127.0.0.1:${kinePort}`;
    processes.start("kine", join(BIN, "kine"), [
      `--endpoint=postgres://postgres@127.0.0.1:${databasePort}/kine?sslmode=disable`,
      `--listen-address=tcp://${kineAddress}`,
      "--metrics-bind-address=0",
    ]);

    const token = randomBytes(16).toString("hex");
    await writeFile(join(folder, "tokens.csv"), `${token},admin,admin,system:masters\n`, {
      mode: 0o600,
    });
    const keys = generateKeyPairSync("rsa", {
      modulusLength: 2048,
      publicKeyEncoding: { type: "spki", format: "pem" },
      privateKeyEncoding: { type: "pkcs8", format: "pem" },
    });
    await writeFile(join(folder, "sa.key"), keys.privateKey, { mode: 0o600 });
    await writeFile(join(folder, "sa.pub"), keys.publicKey);
    processes.start("kube-apiserver", join(BIN, "kube-apiserver"), [
      `--etcd-servers=http://${kineAddress}`,
      "--bind-address=127.0.0.1",
      `--secure-port=${apiPort}`,
      `--cert-dir=${join(folder, "certificates")}`,
      "--service-cluster-ip-range=10.43.0.0/16",
      `--service-account-key-file=${join(folder, "sa.pub")}`,
      `--service-account-signing-key-file=${join(folder, "sa.key")}`,
      "--service-account-issuer=https://kubernetes.default.svc",
      "--authorization-mode=RBAC",
      "--endpoint-reconciler-type=none",
      `--token-auth-file=${join(folder, "tokens.csv")}`,
      "--profiling=false",
    ]);
    const kubeconfig = JSON.stringify({
      apiVersion: "v1",
      kind: "Config",
      clusters: [
        {
          name: "test",
          cluster: { server: `https://127.0.0.1:${apiPort}`, "insecure-skip-tls-verify": true },
        },
      ],
      users: [{ name: "admin", user: { token } }],
      contexts: [{ name: "test", context: { cluster: "test", user: "admin" } }],
      "current-context": "test",
    });
    const kubeconfigFile = join(folder, "kubeconfig");
    await writeFile(kubeconfigFile, kubeconfig, { mode: 0o600 });
    const api = new ApiServer(await clusterAccess(parseKubeconfig(kubeconfig), {}));
    await processes.until("the API server", () =>
      api.request("GET", "/readyz").then(
        () => true,
        () => false,
      ),
    );
    for (const body of definitions) {
      await api.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", {
        body,
      });
    }
    processes.start("kube-controller-manager", join(BIN, "kube-controller-manager"), [
      `--kubeconfig=${kubeconfigFile}`,
      // Nobody renews a lease for the stand-in node, and its pods must stay.
      "--controllers=*,-node-lifecycle-controller,-certificatesigningrequest-signing-controller",
      "--leader-elect=false",
      "--bind-address=127.0.0.1",
      "--secure-port=0",
      `--service-account-private-key-file=${join(folder, "sa.key")}`,
      "--kube-api-qps=200",
      "--kube-api-burst=400",
    ]);
    const kubelet = new StandInKubelet(api);
    await kubelet.start();
    await processes.until("the default namespace's service account", () =>
      api.request("GET", "/api/v1/namespaces/default/serviceaccounts/default").then(
        () => true,
        () => false,
      ),
    );
    return {
      kubeconfig,
      api,
      stop: async () => {
        await kubelet.stop();
        api.close();
        await cleanUp();
      },
    };
  } catch (error) {
    await cleanUp();
    throw error;
  }
}

/** Says what a kubelet would say, for one node that takes every pod. */
class StandInKubelet {
  readonly #api: ApiServer;
  readonly #stopped = new AbortController();
  #loop: Promise<void> | undefined;
  constructor(api: ApiServer) {
    this.#api = api;
  }

  async start(): Promise<void> {
    const resources = { cpu: "16", memory: "64Gi", pods: "500" };
    const body = { apiVersion: "v1", kind: "Node", metadata: { name: NODE } };
    await this.#api.request("POST", "/api/v1/nodes", { body });
    await this.#api.request("PATCH", `/api/v1/nodes/${NODE}`, {
      body: { spec: { taints: null } },
      contentType: "application/merge-patch+json",
    });
    await this.#api.request("PATCH", `/api/v1/nodes/${NODE}/status`, {
      body: {
        status: {
          capacity: resources,
          allocatable: resources,
          conditions: [{ type: "Ready", status: "True", reason: "StandIn", message: "always" }],
        },
      },
      contentType: "application/merge-patch+json",
    });
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopped;
    while (!signal.aborted) {
      try {
        for await (const { type, object } of this.#api.watch("/api/v1/pods", {}, signal)) {
          if (type === "ADDED" || type === "MODIFIED") await this.#attend(object);
        }
      } catch (error) {
        if (!signal.aborted && !(error instanceof ApiError)) throw error;
      }
    }
  }

  async #attend(pod: Properties): Promise<void> {
    const namespace = pickText(pod, "metadata", "namespace");
    const name = pickText(pod, "metadata", "name");
    const path = `/api/v1/namespaces/${namespace}/pods/${name}`;
    try {
      if (pick(pod, "metadata", "deletionTimestamp") !== undefined) {
        await this.#api.request("DELETE", path, { query: { gracePeriodSeconds: "0" } });
      } else if (pick(pod, "spec", "nodeName") === undefined) {
        await this.#api.request("POST", `${path}/binding`, {
          body: {
            apiVersion: "v1",
            kind: "Binding",
            metadata: { name, namespace },
            target: { apiVersion: "v1", kind: "Node", name: NODE },
          },
        });
      } else if (
        pick(pod, "status", "phase") === "Pending" &&
        pick(pod, "status", "podIP") === undefined
      ) {
        await this.#api.request("PATCH", `${path}/status`, {
          body: { status: podStatus(pod) },
          contentType: "application/merge-patch+json",
        });
      }
    } catch (error) {
      // The pod went, or changed, in between: its next event comes.
      if (!(error instanceof ApiError) || ![404, 409].includes(error.code)) throw error;
    }
  }
}

function podStatus(pod: Properties): Properties {
  const now = new Date().toISOString().replace(/\.\d+Z$/, "Z");
  const specs = objects(pick(pod, "spec", "containers"));
  const ends = pick(pod, "spec", "restartPolicy") === "Never";
  const missing = specs.some(({ image }) => image === MISSING_IMAGE);
  const state: Properties = missing
    ? {
        waiting: {
          reason: "ErrImageNeverPull",
          message: `Container image "${MISSING_IMAGE}" is not present with pull policy of Never`,
        },
      }
    : ends
      ? { terminated: { exitCode: 0, reason: "Completed", startedAt: now, finishedAt: now } }
      : { running: { startedAt: now } };
  const ready = !missing && !ends;
  return {
    phase: missing ? "Pending" : ends ? "Succeeded" : "Running",
    podIP: "192.0.2.1",
    podIPs: [{ ip: "192.0.2.1" }],
    startTime: now,
    conditions: ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map((type) => ({
      type,
      status: ready || type === "PodScheduled" || type === "Initialized" ? "True" : "False",
      lastTransitionTime: now,
    })),
    containerStatuses: specs.map(({ name, image }) => ({
      name: name ?? "",
      image: image ?? "",
      imageID: "stand-in",
      ready,
      started: ready,
      restartCount: 0,
      state,
    })),
  };
}
