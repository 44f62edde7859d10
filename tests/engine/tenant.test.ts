import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { changeCounts, deploy, destroy, preview } from "../../embedded/deploy.ts";
import { type LocalStack, TENANT_DOMAIN, writeTenantStack } from "../../embedded/local-fleet.ts";
import type { MachineFacts, PlatformFacts } from "../../embedded/machines/platform.ts";
import { ask, handshake, kubectl, platform, query } from "../support/platform.ts";

const TENANT = "probe-tenant";
const HOST = `${TENANT}.${TENANT_DOMAIN}`;

describe("a tenant's stack", () => {
  let facts: PlatformFacts;
  let location: MachineFacts;
  let stack: LocalStack;

  beforeAll(async () => {
    facts = await platform();
    location = facts.machines["nl-1"];
    stack = await writeTenantStack({ name: TENANT, location: "nl-1", plan: "lite" });
    await deploy(stack, facts);
  });

  afterAll(async () => {
    await destroy(stack, facts);
    expect(await kubectl(location, "get", "namespaces", "-o", "name")).not.toContain(TENANT);
    const left = await query(
      location,
      `select rolname as name from pg_roles where rolname like '%probe_tenant%'
       union all select datname from pg_database where datname like '%probe_tenant%'`,
    );
    expect(left).toEqual([]);
  });

  it("previews no change once it is deployed", async () => {
    const run = await preview(stack, facts);
    expect(run.exitCode).toBe(0);
    expect(Object.keys(changeCounts(run.stdout))).toEqual(["unchanged"]);
    expect(run.stdout).not.toContain("can't run policy");
  });

  it("answers over HTTPS from the tenant's own database", async () => {
    const answer = await ask(location.address, HOST);
    expect(answer.status).toBe(200);
    expect(answer.protocol).toBe("TLSv1.3");
    expect(answer.body).toContain(TENANT);
    const connected = await query<{ roles: string[] }>(
      location,
      "select array_agg(distinct usename::text) as roles from pg_stat_activity where datname = $1",
      ["tenant_probe_tenant"],
    );
    expect(connected).toEqual([{ roles: ["app_probe_tenant"] }]);
  });

  it("refuses TLS 1.2 and sets HSTS", async () => {
    expect(await handshake(location.address, HOST, "TLSv1.3")).toBe("TLSv1.3");
    expect(await handshake(location.address, HOST, "TLSv1.2")).toBe(
      "ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION",
    );
    const { headers } = await ask(location.address, HOST);
    expect(headers["strict-transport-security"]).toBe("max-age=31536000; includeSubDomains");
  });

  it("keeps the root key out of its state, its settings and its namespace", async () => {
    const root = readFileSync(stack.environment.SETTINGS_ENCRYPTION_KEY_FILE, "utf8").trim();
    const forms = [root, Buffer.from(root, "base64").toString("hex")];
    const { runOnStack } = await import("../../embedded/deploy.ts");
    const state = await runOnStack(["stack", "export", "--show-secrets"], stack, facts);
    const objects = await kubectl(
      location,
      ...["get", "secrets,configmaps,deployments,cronjobs"],
      ...["--namespace", `tenant-${TENANT}`, "-o", "json"],
    );
    expect(state.stdout).toContain("RandomPassword");
    expect(objects).toContain("CronJob");
    for (const form of forms) {
      expect(state.stdout).not.toContain(form);
      expect(objects).not.toContain(form);
      expect(readFileSync(stack.configFile, "utf8")).not.toContain(form);
    }
  });
});
