// Runs in the operator's network namespace: the platform's addresses exist nowhere else. Reads a
// ProbeRequest from standard input, writes one line `{"check": <index>}` per check that passed, in
// the order of passing, and ends when all passed or the time is over.
import { readFileSync } from "node:fs";
import { Agent, request } from "node:https";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectTls } from "node:tls";

/** Something that must answer before a platform counts as running. */
export type Check =
  | { readonly kind: "ssh"; readonly host: string; readonly port: number }
  | {
      /** A server that gets as far as asking this user for a password, over verified TLS. */
      readonly kind: "postgres";
      readonly host: string;
      readonly port: number;
      readonly user: string;
      readonly caFile: string;
    }
  | {
      /** An API server that answers 200 on a path. */
      readonly kind: "kubernetes";
      readonly host: string;
      readonly port: number;
      readonly caFile: string;
      readonly certificateFile: string;
      readonly keyFile: string;
      readonly path: string;
      /**
       * What the answer must show: a node that has reported itself ready since `since`, or a list
       * of pods that are all ready, with containers that were started since.
       */
      readonly shows?: { readonly ready: "node" | "pods"; readonly since: string };
    };

/** What the probe is asked. */
export interface ProbeRequest {
  readonly seconds: number;
  readonly checks: readonly Check[];
}

const ATTEMPT_MS = 3000;
/** Between attempts. A handshake costs an API server that is just starting what it needs itself. */
const PAUSE_MS = { ssh: 60, postgres: 60, kubernetes: 200 } as const;
const agent = new Agent({ keepAlive: true });

async function attempt(check: Check): Promise<boolean> {
  switch (check.kind) {
    case "ssh":
      return answersSsh(check.host, check.port);
    case "postgres":
      return answersPostgres(check);
    case "kubernetes":
      return answersKubernetes(check);
  }
}

async function answersSsh(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const finish = (good: boolean): void => {
      socket.destroy();
      resolve(good);
    };
    socket.setTimeout(ATTEMPT_MS, () => {
      finish(false);
    });
    socket.once("data", (data) => {
      finish(data.toString("latin1").startsWith("SSH-2.0"));
    });
    socket.once("error", () => {
      finish(false);
    });
    socket.once("close", () => {
      finish(false);
    });
  });
}

async function answersPostgres(check: Extract<Check, { kind: "postgres" }>): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: check.host, port: check.port });
    const finish = (good: boolean): void => {
      socket.destroy();
      resolve(good);
    };
    socket.setTimeout(ATTEMPT_MS, () => {
      finish(false);
    });
    socket.once("error", () => {
      finish(false);
    });
    socket.once("close", () => {
      finish(false);
    });
    socket.once("connect", () => {
      // SSLRequest: length 8, code 80877103.
      socket.write(Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]));
    });
    socket.once("data", (answer: Buffer) => {
      if (answer.toString("latin1") !== "S") {
        finish(false);
        return;
      }
      const secure = connectTls(
        { socket, ca: readFileSync(check.caFile), host: check.host },
        () => {
          const words = Buffer.from(`user\0${check.user}\0database\0postgres\0\0`);
          const head = Buffer.alloc(8);
          head.writeInt32BE(words.length + 8, 0);
          head.writeInt32BE(196608, 4);
          secure.write(Buffer.concat([head, words]));
        },
      );
      // "R" asks for a password; "E" is a server that starts, stops or refuses.
      secure.once("data", (reply: Buffer) => {
        finish(reply.toString("latin1", 0, 1) === "R");
      });
      secure.once("error", () => {
        finish(false);
      });
    });
  });
}

async function answersKubernetes(check: Extract<Check, { kind: "kubernetes" }>): Promise<boolean> {
  return new Promise((resolve) => {
    const asked = request(
      {
        host: check.host,
        port: check.port,
        path: check.path,
        ca: readFileSync(check.caFile),
        cert: readFileSync(check.certificateFile),
        key: readFileSync(check.keyFile),
        timeout: ATTEMPT_MS,
        agent,
      },
      (response) => {
        text(response).then(
          (body) => {
            resolve(response.statusCode === 200 && showsReady(body, check.shows));
          },
          () => {
            resolve(false);
          },
        );
      },
    );
    asked.once("timeout", () => {
      asked.destroy();
    });
    asked.once("error", () => {
      resolve(false);
    });
    asked.end();
  });
}

interface Condition {
  readonly type: string;
  readonly status: string;
  readonly lastHeartbeatTime?: string;
}

interface Node {
  readonly status?: { readonly conditions?: readonly Condition[] };
}

interface Pods {
  readonly items: readonly {
    readonly metadata: { readonly deletionTimestamp?: string };
    readonly status: {
      readonly phase?: string;
      readonly conditions?: readonly Condition[];
      readonly containerStatuses?: readonly {
        readonly state: { readonly running?: { readonly startedAt: string } };
      }[];
    };
  }[];
}

function showsReady(body: string, shows: Extract<Check, { kind: "kubernetes" }>["shows"]): boolean {
  if (shows === undefined) return true;
  // Kubernetes' times are whole seconds.
  const from = Math.floor(Date.parse(shows.since) / 1000) * 1000;
  const isReady = (conditions: readonly Condition[] | undefined): Condition | undefined =>
    conditions?.find(({ type, status }) => type === "Ready" && status === "True");
  if (shows.ready === "node") {
    const node = JSON.parse(body) as Node;
    return Date.parse(isReady(node.status?.conditions)?.lastHeartbeatTime ?? "") >= from;
  }
  return (JSON.parse(body) as Pods).items
    .filter(({ status }) => status.phase !== "Succeeded")
    .every(
      ({ metadata, status }) =>
        metadata.deletionTimestamp === undefined &&
        isReady(status.conditions) !== undefined &&
        (status.containerStatuses ?? []).every(
          ({ state }) => Date.parse(state.running?.startedAt ?? "") >= from,
        ),
    );
}

const { seconds, checks } = JSON.parse(await text(process.stdin)) as ProbeRequest;
const end = performance.now() + seconds * 1000;
const results = await Promise.all(
  checks.map(async (check, index) => {
    while (performance.now() < end) {
      if (await attempt(check)) {
        process.stdout.write(`${JSON.stringify({ check: index })}\n`);
        return true;
      }
      await sleep(PAUSE_MS[check.kind]);
    }
    return false;
  }),
);
process.exit(results.every(Boolean) ? 0 : 1);
