import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { changeCounts, deploy, destroy, preview, runOnStack } from "../../embedded/deploy.ts";
import { type LocalStack, TENANT_DOMAIN, writeTenantStack } from "../../embedded/local-fleet.ts";
import type { MachineFacts, PlatformFacts } from "../../embedded/machines/platform.ts";
import { ask, handshake, kubectl, platform, query } from "../support/platform.ts";
import { identityIn, secretsOf, testTenant } from "../support/tenants.ts";

const TENANT = "probe-tenant";
const HOST = `${TENANT}.${TENANT_DOMAIN}`;

describe("a tenant's stack", () => {
  let facts: PlatformFacts;
  let location: MachineFacts;
  let stack: LocalStack;
  let folder: string;

  beforeAll(async () => {
    facts = await platform();
    location = facts.machines["nl-1"];
    folder = mkdtempSync(join(tmpdir(), "identity-"));
    const identity = identityIn(folder, location);
    stack = await writeTenantStack({ name: TENANT, location: "nl-1", plan: "lite", ...identity });
    await deploy(stack, facts);
  });

  afterAll(async () => {
    await destroy(stack, facts);
    rmSync(folder, { recursive: true });
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

  it("runs an application that has taken in identity, mail and meters, and says no secret of them", async () => {
    const { status, body } = await ask(location.address, HOST, { path: "/attest" });
    expect(status).toBe(200);
    expect(JSON.parse(body)).toMatchObject({
      identity: {
        callback: `https://${HOST}`,
        providers: [
          { kind: "oidc", name: "work" },
          { kind: "saml", name: "partner" },
          { kind: "ldap", name: "directory" },
        ],
        registration: "open",
        secondFactor: ["operator", "owner"],
        accessSeconds: 3_600,
        refreshSeconds: 30 * 86_400,
      },
      session: { maxAgeSeconds: 7 * 86_400 },
      mail: { host: "smtp.example.com", port: 587, startTls: "required" },
      meters: { dataRetentionDays: 7, executionsPerMonth: 1_000, replaysPerMonth: 100 },
    });
    expect(body).not.toContain("-of-the-test");
    const { headers } = await ask(location.address, HOST);
    expect(String(headers["set-cookie"])).toContain("Max-Age=604800");
  });

  it("reaches a directory beside HTTPS and the relay, for one of its providers is one", async () => {
    const ports = await kubectl(
      location,
      ...["get", "networkpolicy", "allow-app", "--namespace", `tenant-${TENANT}`],
      ...["-o", "jsonpath={.spec.egress[2].ports[*].port}"],
    );
    expect(ports).toBe("443 587 636");
  });

  it("rolls onto a secret that was changed where it is kept, loses no call, and leaves the former one nowhere", async () => {
    const credentials = async (): Promise<ReadonlyMap<string, string | undefined>> => {
      const secrets = await secretsOf(testTenant(TENANT, location));
      const kept = [...secrets].filter(([name]) => name.startsWith("credentials-"));
      return new Map(kept.map(([name, files]) => [name, files.get("mail-password")?.toString()]));
    };
    const before = await credentials();
    expect([...before.values()]).toEqual(["password-of-the-test"]);
    writeFileSync(join(folder, "password"), "another-of-the-test\n");
    const answers = await statusesWhile(async () => {
      await deploy(stack, facts);
      // The former pod ends after the new one is ready.
      await delay(5_000);
    });
    expect(answers).toEqual([200]);
    const after = await credentials();
    expect([...after.values()]).toEqual(["another-of-the-test"]);
    expect([...after.keys()]).not.toEqual([...before.keys()]);
    const mounted = await kubectl(
      location,
      ...["get", "deployment", "app", "--namespace", `tenant-${TENANT}`],
      ...[
        "-o",
        "jsonpath={.spec.template.spec.volumes[?(@.name=='credentials')].secret.secretName}",
      ],
    );
    expect([...after.keys()]).toEqual([mounted]);
    const state = await runOnStack(["stack", "export"], stack, facts);
    expect(state.stdout).toContain(mounted);
    expect(state.stdout).not.toContain("-of-the-test");
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

  /** What the tenant's page answers while something goes on, each status once. */
  async function statusesWhile(goesOn: () => Promise<void>): Promise<readonly number[]> {
    const statuses = new Set<number>();
    const ended = goesOn();
    while ((await Promise.race([ended.then(() => "ended"), delay(100)])) !== "ended") {
      statuses.add((await ask(location.address, HOST)).status);
    }
    return [...statuses];
  }
});
