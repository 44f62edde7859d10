// Runs inside another network namespace, with this computer's files: nothing of it needs to lie in a pod's image.
// Reads one request from standard input. Probes are answered at once, as JSON; a listener lives until its input ends.
import { createSocket } from "node:dgram";
import { connect, createServer } from "node:net";
import { createInterface } from "node:readline";
import pg from "pg";

/** What is tried. */
export type Probe =
  | { readonly kind: "tcp" | "udp"; readonly host: string; readonly port: number }
  | {
      readonly kind: "sql";
      readonly host: string;
      readonly port: number;
      readonly user: string;
      readonly password: string;
      readonly database: string;
      /** Certificate of the server's authority, PEM. */
      readonly ca: string;
      /** Taken on with SET ROLE first. @default none */
      readonly role?: string;
      /** @default "select 1" */
      readonly statement?: string;
    };

export type Probes<Name extends string> = { readonly [name in Name]: Probe };

/**
 * What came of each probe: "connected" for TCP and "answered" for UDP; for SQL the first value of the first row, or
 * "done". Otherwise "no answer", or the code of the error: the system's, or PostgreSQL's SQLSTATE.
 */
export type Outcomes<Name extends string> = { readonly [name in Name]: string };

/** One port that answers. */
export interface Listening {
  readonly address: string;
  readonly port: number;
}

/** Long enough for a SYN that was lost once to be sent again. */
const PATIENCE_MS = 2_500;
const NOTHING = "no answer";

async function attempt(probe: Probe): Promise<string> {
  switch (probe.kind) {
    case "tcp":
      return attemptTcp(probe.host, probe.port);
    case "udp":
      return attemptUdp(probe.host, probe.port);
    case "sql":
      return attemptSql(probe);
  }
}

/** SQL one after the other: a tenant's logins may have few connections at once. */
async function attemptAll(probes: Probes<string>): Promise<Outcomes<string>> {
  const outcomes: { [name: string]: string } = {};
  const sql = Object.entries(probes).filter(([, { kind }]) => kind === "sql");
  const others = Object.entries(probes).filter(([, { kind }]) => kind !== "sql");
  await Promise.all([
    ...others.map(async ([name, probe]) => (outcomes[name] = await attempt(probe))),
    (async () => {
      for (const [name, probe] of sql) outcomes[name] = await attempt(probe);
    })(),
  ]);
  return outcomes;
}

async function attemptTcp(host: string, port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const end = (outcome: string): void => {
      socket.destroy();
      resolve(outcome);
    };
    socket.setTimeout(PATIENCE_MS, () => {
      end(NOTHING);
    });
    socket.once("connect", () => {
      end("connected");
    });
    socket.once("error", (error: NodeJS.ErrnoException) => {
      end(error.code ?? error.message);
    });
  });
}

async function attemptUdp(host: string, port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = createSocket("udp4");
    const end = (outcome: string): void => {
      clearTimeout(timer);
      socket.close();
      resolve(outcome);
    };
    const timer = setTimeout(() => {
      end(NOTHING);
    }, PATIENCE_MS);
    socket.once("message", () => {
      end("answered");
    });
    socket.once("error", (error: NodeJS.ErrnoException) => {
      end(error.code ?? error.message);
    });
    // A question for the name server, and for everybody else some bytes: the name of the root, type NS.
    socket.send(Buffer.from("001501000001000000000000" + "0000020001", "hex"), port, host);
  });
}

async function attemptSql(probe: Extract<Probe, { kind: "sql" }>): Promise<string> {
  const { host, port, user, password, database, ca, role, statement = "select 1" } = probe;
  const client = new pg.Client({
    ...{ host, port, user, password, database, ssl: { ca } },
    connectionTimeoutMillis: 2 * PATIENCE_MS,
  });
  // What ends a connection that is not in use is told by the query that fails of it.
  client.on("error", () => undefined);
  try {
    await client.connect();
    // In a message of its own: several statements in one are one transaction.
    if (role !== undefined) await client.query(`set role ${pg.escapeIdentifier(role)}`);
    const results = [await client.query<unknown[]>({ text: statement, rowMode: "array" })].flat();
    const value = results.at(-1)?.rows[0]?.[0];
    return value === undefined ? "done" : `${value as string}`;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function listen({ address, port }: Listening): Promise<void> {
  const tcp = createServer((socket) => {
    socket.on("error", () => socket.destroy());
    socket.pipe(socket);
  });
  const udp = createSocket("udp4");
  udp.on("message", (message, from) => {
    udp.send(message, from.port, from.address);
  });
  await Promise.all([
    new Promise<void>((resolve, reject) => {
      tcp.once("error", reject).listen(port, address, resolve);
    }),
    new Promise<void>((resolve, reject) => {
      udp.once("error", reject);
      udp.bind(port, address, resolve);
    }),
  ]);
}

const lines = createInterface({ input: process.stdin });
lines.once("line", (line) => {
  const { probes = {}, listening } = JSON.parse(line) as {
    probes?: Probes<string>;
    listening?: readonly Listening[];
  };
  if (listening !== undefined) {
    void Promise.all(listening.map(listen)).then(() => process.stdout.write("listening\n"));
    lines.once("close", () => process.exit());
    return;
  }
  void attemptAll(probes).then((outcomes) => process.stdout.write(JSON.stringify(outcomes)));
});
