import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { request as requestPlainly } from "node:http";
import { request } from "node:https";
import { join } from "node:path";
import { connect, type TLSSocket } from "node:tls";
import { promisify } from "node:util";
import pg from "pg";

import {
  type MachineFacts,
  type PlatformFacts,
  platformFacts,
} from "../../embedded/machines/platform.ts";
import { BIN } from "../../embedded/paths.ts";

const run = promisify(execFile);

/** The running platform; its absence is a failure, never a reason to skip. */
export async function platform(): Promise<PlatformFacts> {
  const facts = await platformFacts();
  if (facts === undefined) throw new Error("The platform must run: npm test starts it");
  return facts;
}

/** Rows of a query as the administrator of a machine's PostgreSQL, over TLS with the name checked. */
export async function query<Row extends pg.QueryResultRow>(
  machine: MachineFacts,
  sql: string,
  values: readonly unknown[] = [],
  database = "postgres",
): Promise<Row[]> {
  const { postgres } = machine;
  if (postgres === undefined) throw new Error(`Machine ${machine.name} must have a PostgreSQL`);
  const client = new pg.Client({
    host: postgres.host,
    port: postgres.port,
    user: postgres.adminUser,
    password: readFileSync(postgres.adminPasswordFile, "utf8").trim(),
    database,
    ssl: { ca: readFileSync(postgres.caFile, "utf8") },
  });
  await client.connect();
  try {
    return (await client.query<Row>(sql, [...values])).rows;
  } finally {
    await client.end();
  }
}

/** What kubectl prints on a machine's cluster. Fails with kubectl's own words. */
export async function kubectl(machine: MachineFacts, ...args: string[]): Promise<string> {
  const { cluster } = machine;
  if (cluster === undefined) throw new Error(`Machine ${machine.name} must have a cluster`);
  const { stdout } = await run(
    join(BIN, "kubectl"),
    ["--kubeconfig", cluster.kubeconfigFile, ...args],
    { maxBuffer: 64 * 1024 * 1024 },
  );
  return stdout;
}

/** Applies a list of objects as they are written. */
export async function apply(machine: MachineFacts, ...objects: object[]): Promise<void> {
  const { cluster } = machine;
  if (cluster === undefined) throw new Error(`Machine ${machine.name} must have a cluster`);
  const child = run(join(BIN, "kubectl"), [
    ...["--kubeconfig", cluster.kubeconfigFile],
    ...["apply", "-f", "-"],
  ]);
  child.child.stdin?.end(JSON.stringify({ apiVersion: "v1", kind: "List", items: objects }));
  await child;
}

/** What a host behind an ingress answers. */
export interface Answer {
  readonly status: number;
  readonly headers: { readonly [name: string]: string | string[] | undefined };
  readonly body: string;
  /** Version of TLS; null without. */
  readonly protocol: string | null;
}

/** How a host is asked, where it is not a plain GET. */
export interface Question {
  /** @default "/" */
  readonly path?: string;
  /** @default "GET" */
  readonly method?: string;
  readonly headers?: { readonly [name: string]: string };
  readonly body?: string;
  /** Name in the TLS handshake. @default the host */
  readonly serverName?: string;
  /** Whether to come without TLS, to port 80. @default false */
  readonly isPlain?: boolean;
}

/** Asks a host by its name at an ingress's address, as a browser would that resolves the name to it. */
export async function ask(address: string, host: string, question: Question = {}): Promise<Answer> {
  const { path = "/", method = "GET", headers = {}, body, serverName = host, isPlain } = question;
  const how = { host: address, path, method, headers: { ...headers, host }, agent: false } as const;
  return new Promise((resolve, reject) => {
    const call =
      isPlain === true
        ? requestPlainly({ ...how, port: 80 })
        : request({ ...how, port: 443, servername: serverName, rejectUnauthorized: false });
    call.once("response", (response) => {
      let text = "";
      const protocol = isPlain === true ? null : (response.socket as TLSSocket).getProtocol();
      response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
      response.on("end", () => {
        const { statusCode = 0 } = response;
        resolve({ status: statusCode, headers: response.headers, body: text, protocol });
      });
    });
    call.on("error", reject);
    call.end(body);
  });
}

/** The outcome of a TLS handshake held to one version: the protocol agreed on, or the error's code. */
export async function handshake(
  address: string,
  host: string,
  version: "TLSv1.2" | "TLSv1.3",
  port = 443,
): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({
      host: address,
      port,
      servername: host,
      minVersion: version,
      maxVersion: version,
      rejectUnauthorized: false,
    });
    socket.once("secureConnect", () => {
      resolve(socket.getProtocol() ?? "none");
      socket.destroy();
    });
    socket.once("error", (error: NodeJS.ErrnoException) => {
      resolve(error.code ?? error.message);
    });
  });
}

/** Waits until a condition holds; tells after how many milliseconds it first did. */
export async function until(
  what: string,
  withinMs: number,
  holds: () => Promise<boolean>,
): Promise<number> {
  const startedAt = performance.now();
  for (;;) {
    if (await holds()) return performance.now() - startedAt;
    if (performance.now() - startedAt > withinMs) {
      throw new Error(`${what}: must hold within ${withinMs} ms`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
