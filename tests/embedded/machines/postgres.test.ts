import { readFileSync } from "node:fs";
import type { ConnectionOptions } from "node:tls";
import pg from "pg";
import { describe, expect, it } from "vitest";
import type { MachineFacts } from "../../../embedded/machines/platform.ts";
import { platform, query } from "../../support/platform.ts";

const SERVERS = ["master", "nl-1", "fi-1"] as const;

/** The TLS version of a connection, or the words of the refusal. */
async function attempt(
  { postgres }: MachineFacts,
  change: { readonly ssl?: ConnectionOptions | false; readonly password?: string } = {},
): Promise<string> {
  if (postgres === undefined) throw new Error("The machine must have a PostgreSQL");
  const client = new pg.Client({
    host: postgres.host,
    port: postgres.port,
    user: postgres.adminUser,
    database: "postgres",
    password: change.password ?? readFileSync(postgres.adminPasswordFile, "utf8").trim(),
    ssl:
      change.ssl === false ? false : { ca: readFileSync(postgres.caFile, "utf8"), ...change.ssl },
  });
  try {
    await client.connect();
    const { rows } = await client.query<{ version: string }>(
      "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    );
    await client.end();
    return rows[0]?.version ?? "none";
  } catch (error) {
    // OpenSSL's own words are more than the code that stands for all of them.
    const alert = /tlsv1 alert [a-z ]+/.exec(String(error))?.[0];
    return alert ?? (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

async function server(name: (typeof SERVERS)[number]): Promise<MachineFacts> {
  return (await platform()).machines[name];
}

describe.each(SERVERS)("the PostgreSQL of %s", (name) => {
  it("takes the administrator over TLS 1.3", async () => {
    expect(await attempt(await server(name))).toBe("TLSv1.3");
  });

  it("refuses TLS 1.2", async () => {
    expect(await attempt(await server(name), { ssl: { maxVersion: "TLSv1.2" } })).toBe(
      "tlsv1 alert protocol version",
    );
  });

  it("refuses a connection without TLS", async () => {
    // 28000: invalid_authorization_specification, before any password is asked for.
    expect(await attempt(await server(name), { ssl: false })).toBe("28000");
  });

  it("refuses a wrong password", async () => {
    // 28P01: invalid_password.
    expect(await attempt(await server(name), { password: "wrong" })).toBe("28P01");
  });

  it("shows a certificate that no other authority vouches for", async () => {
    expect(await attempt(await server(name), { ssl: { ca: [] } })).toBe(
      "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
    );
  });

  it("keeps passwords as SCRAM verifiers only", async () => {
    expect(
      await query(
        await server(name),
        "SELECT rolname FROM pg_authid WHERE rolpassword NOT LIKE 'SCRAM-SHA-256$%'",
      ),
    ).toEqual([]);
  });

  it("lets a tenant's role into the database of its own name and into no other", async () => {
    const facts = await server(name);
    await query(facts, "CREATE ROLE gate_test LOGIN PASSWORD 'gate'");
    await query(facts, "CREATE DATABASE gate_test OWNER gate_test");
    const enter = async (database: string): Promise<string> => {
      const client = new pg.Client({
        host: facts.postgres?.host ?? "",
        port: facts.postgres?.port ?? 0,
        user: "gate_test",
        password: "gate",
        database,
        ssl: { ca: readFileSync(facts.postgres?.caFile ?? "", "utf8") },
      });
      try {
        await client.connect();
        await client.end();
        return "in";
      } catch (error) {
        return (error as NodeJS.ErrnoException).code ?? String(error);
      }
    };
    try {
      expect(await enter("gate_test")).toBe("in");
      expect(await enter("postgres")).toBe("28000");
      expect(await enter("kine")).toBe("28000");
    } finally {
      await query(facts, "DROP DATABASE gate_test");
      await query(facts, "DROP ROLE gate_test");
    }
  });
});
