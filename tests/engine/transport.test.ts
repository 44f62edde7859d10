import { readFileSync } from "node:fs";
import { connect } from "node:tls";
import { beforeAll, describe, expect, it } from "vitest";
import pg from "pg";

import type { MachineFacts, PlatformFacts } from "../../embedded/machines/platform.ts";
import { localStackOf, LOCAL_FLEET, TENANT_DOMAIN } from "../../embedded/local-fleet.ts";
import { SECURITY_HEADERS } from "../../model/headers.ts";
import { MQTTS_PORT } from "../../model/network.ts";
import {
  type Answer,
  ask,
  handshake,
  kubectl,
  platform,
  query,
  until,
} from "../support/platform.ts";
import { probeFrom } from "../support/pods.ts";
import { neighbours, onMachine, type TestTenant } from "../support/tenants.ts";
import { parse } from "yaml";

const CLUSTERS = ["master", "nl-1", "fi-1"] as const;
/** How long a device waits for an answer that may never come. */
const DEVICE_PATIENCE_MS = 2_000;
const HSTS = `max-age=${SECURITY_HEADERS.stsSeconds}; includeSubDomains`;

/** What a TLS stack says whose floor is higher than what it is offered. */
const TOO_OLD = "ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION";

describe("the way in", () => {
  let facts: PlatformFacts;
  let a: TestTenant;
  let b: TestTenant;

  beforeAll(async () => {
    ({ facts, a, b } = await neighbours());
  });

  it("has hosts of both tenants among those that the tests below ask", async () => {
    const hosts = await hostsOf(facts.machines["nl-1"]);
    expect(hosts).toEqual(expect.arrayContaining([a.host, b.host, unknownHost("nl-1")]));
  });

  it("tells a tenant who calls, whatever the caller says of himself", async () => {
    const client = async (headers: { [name: string]: string }): Promise<string | undefined> =>
      /id="client">([^<]*)</.exec((await ask(a.location.address, a.host, { headers })).body)?.[1];
    const caller = await client({});
    expect(caller).toMatch(/^\d+\.\d+\.\d+\.\d+$/);
    expect(caller).not.toMatch(/^10\.(81|82|83|91|92|93)\./);
    for (const name of ["X-Forwarded-For", "X-Real-Ip", "Forwarded"]) {
      expect(await client({ [name]: name === "Forwarded" ? "for=192.0.2.7" : "192.0.2.7" })).toBe(
        caller,
      );
    }
  });

  describe.each(CLUSTERS)("of %s", (name) => {
    it("speaks TLS 1.3 with every host, known and unknown, and nothing older with any", async () => {
      const machine = facts.machines[name];
      const hosts = await hostsOf(machine);
      expect(hosts.length).toBeGreaterThan(0);
      for (const host of hosts) {
        expect([host, await handshake(machine.address, host, "TLSv1.3")]).toEqual([
          host,
          "TLSv1.3",
        ]);
        expect([host, await handshake(machine.address, host, "TLSv1.2")]).toEqual([host, TOO_OLD]);
      }
    });

    it("answers every host with HSTS and the security headers, known and unknown, found and not found", async () => {
      const machine = facts.machines[name];
      for (const host of await hostsOf(machine)) {
        for (const path of ["/", "/nothing-here", "/.well-known/nothing"]) {
          expectSecurityHeaders(await ask(machine.address, host, { path }));
        }
      }
      expect((await ask(machine.address, unknownHost(name))).status).toBe(404);
    });

    it("gives a stranger's name no handshake at all", async () => {
      const { address } = facts.machines[name];
      for (const host of ["stranger.example", "localhost"]) {
        expect(await handshake(address, host, "TLSv1.3")).toMatch(/^ERR_SSL_/);
      }
    });

    it("answers another host in the request than in the handshake with 404 and HSTS", async () => {
      const { address } = facts.machines[name];
      const serverName = unknownHost(name);
      for (const host of ["stranger.example", address]) {
        const answer = await ask(address, host, { serverName });
        expect(answer.status).toBe(404);
        expectSecurityHeaders(answer);
      }
    });

    it("sends whoever comes without TLS to HTTPS, and serves nothing there", async () => {
      const machine = facts.machines[name];
      for (const host of [...(await hostsOf(machine)), "stranger.example", machine.address]) {
        for (const path of ["/", "/attest", "/ping", "/dashboard/", "/metrics"]) {
          const answer = await ask(machine.address, host, { path, isPlain: true });
          expect([answer.status, answer.headers["location"], answer.body]).toEqual([
            301,
            `https://${host}${path}`,
            "Moved Permanently",
          ]);
        }
      }
    });

    it("has no port but those that prove themselves by TLS 1.3 or SSH, and the one that redirects", async () => {
      const machine = facts.machines[name];
      const mqtts = name === "master" ? [] : [MQTTS_PORT];
      const ports = [22, 80, 443, 5432, 6443, ...mqtts, 10_250];
      expect(await openPorts(machine)).toEqual(ports);
      for (const port of [443, 6443, ...mqtts, 10_250]) {
        const host = [443, MQTTS_PORT].includes(port) ? unknownHost(name) : name;
        expect(await handshake(machine.address, host, "TLSv1.3", port)).toBe("TLSv1.3");
        expect(await handshake(machine.address, host, "TLSv1.2", port)).toBe(TOO_OLD);
      }
    });

    it("refuses PostgreSQL over TLS 1.2 and without TLS, and speaks TLS 1.3", async () => {
      const machine = facts.machines[name];
      expect(await enterPostgres(machine, { minVersion: "TLSv1.3" })).toBe("TLSv1.3");
      expect(await enterPostgres(machine, { maxVersion: "TLSv1.2" })).toBe(
        "tlsv1 alert protocol version",
      );
      expect(await enterPostgres(machine, false)).toBe("28000");
    });

    it("has no connection to PostgreSQL from anywhere but TLS 1.3", async () => {
      const connections = await query<{ version: string | null; count: number }>(
        facts.machines[name],
        `select version, count(*)::int from pg_stat_ssl join pg_stat_activity using (pid)
         where client_addr is not null group by version`,
      );
      expect(connections.map(({ version }) => version)).toEqual(["TLSv1.3"]);
    });
  });

  describe("for a device that speaks MQTT", () => {
    it("leads to the application of a tenant that speaks it, by TLS 1.3 and nothing older", async () => {
      const { address } = b.location;
      // Not authorised: the application's own word, for a device that brings no session.
      expect(await connack(address, b.host, "TLSv1.3")).toBe("20020005");
      expect(await connack(address, b.host, "TLSv1.2")).toBe(TOO_OLD);
      const [cookie = ""] = (await ask(address, b.host)).headers["set-cookie"] ?? [];
      const session = /=([^;]+)/.exec(cookie)?.[1] ?? "none";
      expect(await connack(address, b.host, "TLSv1.3", session)).toBe("20020000");
    });

    it("leads nowhere for any other host", async () => {
      const { address } = a.location;
      // Each keeps the device waiting as long as it is ready to.
      const answers = await Promise.all([
        connack(address, a.host, "TLSv1.3"),
        connack(address, unknownHost("nl-1"), "TLSv1.3"),
        connack(facts.machines["fi-1"].address, b.host, "TLSv1.3"),
        connack(address, b.host, "TLSv1.3", undefined, 443),
      ]);
      expect(answers.filter((answer) => answer.startsWith("20"))).toEqual([]);
      expect(await connack(address, "stranger.example", "TLSv1.3")).toMatch(/^ERR_SSL_/);
    });

    it("leads there by MQTT alone", async () => {
      const { address } = b.location;
      const answer = await answerOf(address, b.host, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
      expect(answer).toMatch(/^(|ECONNRESET)$/);
    });
  });

  it("has the security headers on an answer that the rate limit gives, too", async () => {
    const { address } = b.location;
    const answers = await Promise.all(
      Array.from({ length: 120 }, () => ask(address, b.host, { path: "/live" })),
    );
    const limited = answers.filter(({ status }) => status === 429);
    expect(limited.length).toBeGreaterThan(0);
    for (const answer of answers) expectSecurityHeaders(answer);
    // The others are let alone: the limit is the tenant's own.
    expect((await ask(address, a.host)).status).toBe(200);
    await until(
      "the limit is over",
      10_000,
      async () => (await ask(address, b.host)).status === 200,
    );
  });
});

/**
 * What comes back for a CONNECT of MQTT 3.1.1, in hexadecimal, or the code of the error.
 *
 * @param session Brought as the password. @default none
 */
async function connack(
  address: string,
  host: string,
  version: "TLSv1.2" | "TLSv1.3",
  session?: string,
  port: number = MQTTS_PORT,
): Promise<string> {
  const text = (value: string): Buffer => {
    const length = Buffer.alloc(2);
    length.writeUInt16BE(value.length);
    return Buffer.concat([length, Buffer.from(value)]);
  };
  const flags = session === undefined ? 0x02 : 0xc2;
  const body = Buffer.concat([
    ...[text("MQTT"), Buffer.from([4, flags, 0, 60]), text("device")],
    ...(session === undefined ? [] : [text("someone"), text(session)]),
  ]);
  // More than 127 bytes take two for their length.
  const length =
    body.length < 0x80 ? [body.length] : [(body.length & 0x7f) | 0x80, body.length >> 7];
  const goodbye = Buffer.from(session === undefined ? [] : [0xe0, 0]);
  const sent = Buffer.concat([Buffer.from([0x10, ...length]), body, goodbye]);
  return answerOf(address, host, sent, { version, port });
}

/** What comes back over TLS for some bytes until the other side ends, in hexadecimal; nothing where it does not answer. */
async function answerOf(
  address: string,
  host: string,
  sent: string | Buffer,
  {
    version = "TLSv1.3",
    port = MQTTS_PORT,
  }: { readonly version?: "TLSv1.2" | "TLSv1.3"; readonly port?: number } = {},
): Promise<string> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    const socket = connect({
      ...{ host: address, port, servername: host, rejectUnauthorized: false },
      ...{ minVersion: version, maxVersion: version },
    });
    socket.once("secureConnect", () => socket.write(sent));
    socket.on("data", (chunk: Buffer) => chunks.push(chunk));
    socket.setTimeout(DEVICE_PATIENCE_MS, () => socket.destroy());
    socket.once("error", (error: NodeJS.ErrnoException) => {
      resolve(error.code ?? error.message);
    });
    socket.once("close", () => {
      resolve(Buffer.concat(chunks).toString("hex"));
    });
  });
}

function expectSecurityHeaders({ headers, protocol }: Answer): void {
  expect(protocol).toBe("TLSv1.3");
  expect(headers["strict-transport-security"]).toBe(HSTS);
  expect(headers["x-content-type-options"]).toBe("nosniff");
  expect(headers["x-frame-options"]).toBe("DENY");
  expect(headers["referrer-policy"]).toBe(SECURITY_HEADERS.referrerPolicy);
}

/** Every host that a cluster's ingress has a route for, and one that it has none for. */
async function hostsOf(machine: MachineFacts): Promise<string[]> {
  const { items } = JSON.parse(
    await kubectl(
      machine,
      ...["get", "ingresses,ingressroutes.traefik.io", "--all-namespaces", "-o", "json"],
    ),
  ) as {
    items: {
      spec: {
        rules?: { host?: string }[];
        routes?: { match: string }[];
      };
    }[];
  };
  const served = items.flatMap(({ spec }) => [
    ...(spec.rules ?? []).map(({ host }) => host ?? ""),
    ...(spec.routes ?? []).flatMap(({ match }) =>
      [...match.matchAll(/Host\(`([^`]+)`\)/g)].map(([, host = ""]) => host),
    ),
  ]);
  expect(served).not.toContain("");
  return [...served, unknownHost(machine.name)];
}

/** A host that the cluster's certificate covers and that nothing serves. */
function unknownHost(machine: string): string {
  const { config } = parse(readFileSync(localStackOf(LOCAL_FLEET).configFile, "utf8")) as {
    config: { "fluxbilling:fleet": { panelDomain: string } };
  };
  const { panelDomain } = config["fluxbilling:fleet"];
  return `nobody.${machine === "master" ? panelDomain : TENANT_DOMAIN}`;
}

/** The TCP ports that a machine answers on from outside: those it listens on, and those that lead to its ingress. */
async function openPorts(machine: MachineFacts): Promise<number[]> {
  const leading = { http: 80, https: 443, mqtts: MQTTS_PORT };
  const probes = Object.entries(leading).map(
    ([name, port]) => [name, { kind: "tcp", host: machine.address, port }] as const,
  );
  // From another machine: a machine's own calls to its ports go another way.
  const { standby } = (await platform()).machines;
  const outcomes = await probeFrom(standby, Object.fromEntries(probes));
  const led = probes.filter(([name]) => outcomes[name] === "connected").map(([, { port }]) => port);

  const listening = await onMachine(machine, ["ss", "-Hltn"]);
  const ports = listening
    .split("\n")
    .map((line) => line.trim().split(/\s+/)[3] ?? "")
    .filter((address) => address !== "" && !/^(127\.|\[::1\])/.test(address))
    .map((address) => Number(address.slice(address.lastIndexOf(":") + 1)));
  return [...new Set([...ports, ...led])].sort((one, other) => one - other);
}

/** The version of TLS that PostgreSQL agrees on, or the code of the refusal. */
async function enterPostgres(
  { name, postgres }: MachineFacts,
  tls: { readonly minVersion?: "TLSv1.3"; readonly maxVersion?: "TLSv1.2" } | false,
): Promise<string> {
  if (postgres === undefined) throw new Error(`Machine ${name} must have a PostgreSQL`);
  const client = new pg.Client({
    host: postgres.host,
    port: postgres.port,
    user: postgres.adminUser,
    password: readFileSync(postgres.adminPasswordFile, "utf8").trim(),
    database: "postgres",
    ssl: tls === false ? false : { ca: readFileSync(postgres.caFile, "utf8"), ...tls },
  });
  try {
    await client.connect();
    const { rows } = await client.query<{ version: string }>(
      "select version from pg_stat_ssl where pid = pg_backend_pid()",
    );
    await client.end();
    return rows[0]?.version ?? "none";
  } catch (error) {
    // OpenSSL's own words are more than the code that stands for all of them.
    const alert = /tlsv1 alert [a-z ]+/.exec(String(error))?.[0];
    return alert ?? (error as NodeJS.ErrnoException).code ?? String(error);
  }
}
