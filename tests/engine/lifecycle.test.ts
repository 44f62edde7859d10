import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse, stringify } from "yaml";

import { changeCounts, deploy, destroy, preview, runOnStack } from "../../embedded/deploy.ts";
import { pulumiFailure } from "../../embedded/engine/engine.ts";
import { policyPack } from "../../embedded/engine/policy-pack.ts";
import {
  LOCAL_FLEET,
  type LocalStack,
  localStackOf,
  writeTenantStack,
} from "../../embedded/local-fleet.ts";
import type { MachineFacts, PlatformFacts } from "../../embedded/machines/platform.ts";
import { PLANS, planQuota } from "../../model/plan.ts";
import { killedRun } from "../support/killed-run.ts";
import { type Answer, ask, kubectl, platform, query, until } from "../support/platform.ts";
import {
  askAsOperator,
  onMachine,
  secretsOf,
  type TestTenant,
  testTenant,
  volumeFolder,
} from "../support/tenants.ts";

const NAME = "life-tenant";
const SETTING = "canary of a setting";
const FILE = "canary of a file\n";

/** A stack's settings file as YAML holds it. */
interface Settings {
  config: { [key: string]: unknown };
}

/** What a tenant has that no change of its settings may touch. */
interface Belongings {
  /** Ids that a replacement would change. */
  readonly ids: { readonly [what: string]: string };
  readonly rows: readonly unknown[];
  readonly settings: readonly unknown[];
  readonly file: string;
  /** Every Secret with its content, in base64. */
  readonly secrets: { readonly [file: string]: string };
}

// One tenant goes through its whole life, so each step starts where the one before has ended.
describe("a tenant's life, the engine killed once in the middle of each step", () => {
  let facts: PlatformFacts;
  let location: MachineFacts;
  let tenant: TestTenant;
  let kept: Belongings;
  const folder = mkdtempSync(join(tmpdir(), "lifecycle-"));

  beforeAll(async () => {
    facts = await platform();
    location = facts.machines["nl-1"];
    tenant = testTenant(NAME, location);
  });

  afterAll(async () => {
    rmSync(folder, { recursive: true });
    await destroy(tenant.stack, facts);
  });

  it("is created", async () => {
    await change({ plan: "lite" }, 10);
    const answer = await ask(location.address, tenant.host);
    expect(answer.status).toBe(200);
    expect(answer.body).toContain('<dd id="plan">lite</dd>');
    expect(await bounds()).toEqual(boundsOf("lite"));

    for (const subject of ["first", "second"]) {
      const path = `/records?subject=${subject}`;
      const added = await askAsOperator(tenant, { method: "POST", path, body: '{"kept":true}' });
      expect(added.status).toBe(200);
    }
    const put = await askAsOperator(tenant, {
      ...{ method: "PUT", path: "/settings/kept", body: SETTING },
    });
    expect(put.status).toBe(204);
    await onMachine(location, ["tee", `${await volumeFolder(tenant)}/kept.txt`], FILE);
    kept = await belongings();
    expect(kept.rows).toHaveLength(2);
    expect(kept.settings).toHaveLength(1);
    expect(kept.file).toBe(FILE);
    expect(Object.keys(kept.secrets)).toContain("keys-1-1/settings-1");
  });

  it("is upgraded: limits change in place, nothing is replaced, and nothing is lost", async () => {
    await change({ plan: "business" }, 2);
    expect(await bounds()).toEqual(boundsOf("business"));
    const answer = await ask(location.address, tenant.host);
    expect(answer.body).toContain('<dd id="plan">business</dd>');
    await expectNothingLost();
  });

  it("is downgraded the same way", async () => {
    await change({ plan: "lite" }, 2);
    expect(await bounds()).toEqual(boundsOf("lite"));
    const answer = await ask(location.address, tenant.host);
    expect(answer.body).toContain('<dd id="plan">lite</dd>');
    await expectNothingLost();
  });

  it("is suspended: no pods, a 402 with a clear page and the security headers, and nothing lost", async () => {
    await change({ plan: "lite", suspended: true }, 1);
    await until("no pod of the tenant", 30_000, async () => (await pods()).length === 0);
    const accept = { html: "text/html,application/xhtml+xml,*/*;q=0.8", json: "application/json" };
    const asked = async (path: string, wish: string, method = "GET"): Promise<Answer> => {
      // As somebody who is signed in: none of it is for the page.
      const headers = { accept: wish, cookie: "session=canary", authorization: "Bearer canary" };
      const answer = await ask(location.address, tenant.host, { path, method, headers });
      expect([answer.status, answer.protocol]).toEqual([402, "TLSv1.3"]);
      expect(answer.headers).toMatchObject({
        "strict-transport-security": "max-age=31536000; includeSubDomains",
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
      });
      return answer;
    };
    // The page is the location's, and nothing has waited for its pod.
    await until("the page", 30_000, async () =>
      (await asked("/", accept.html)).body.includes("suspended"),
    );
    for (const path of ["/", "/attest", "/live"]) {
      const page = await asked(path, accept.html);
      expect(page.headers["content-type"]).toBe("text/html; charset=utf-8");
      expect(page.headers["content-security-policy"]).toContain("default-src 'none'; style-src");
      expect(page.body).toContain("<h1>This instance is suspended</h1>");
      expect(page.body).toContain("Nothing is deleted");
      expect(page.body).toContain("ask the operator who runs it");
      const problem = await asked(path, accept.json, "POST");
      expect(problem.headers["content-type"]).toBe("application/problem+json");
      expect(JSON.parse(problem.body)).toMatchObject({
        ...{ type: "policy", status: 402 },
        detail: expect.stringContaining("This instance is suspended.") as string,
      });
    }
    expect(await pods()).toEqual([]);
    expect(await belongings()).toEqual(kept);
  });

  it("is resumed with all that it had", async () => {
    await change({ plan: "lite" }, 1);
    expect((await ask(location.address, tenant.host)).status).toBe(200);
    await expectNothingLost();
  });

  it("does not move by a plain up: the preview says that it is a move, and neither does a thing", async () => {
    const stack = await settingsOf({ plan: "lite", location: "fi-1" });
    const refusal =
      `Tenant "${NAME}": location must stay "nl-1" in zone eu, where its data is, got "fi-1" in zone eu. ` +
      "Set fluxbilling:tenant.location and zone back; moving a tenant is an operation of its own.";
    expect(await refusalOf(stack)).toBe(refusal);
    const up = await runOnStack(
      ["up", "--yes", "--skip-preview", "--policy-pack", policyPack()],
      stack,
      facts,
    );
    expect(up.exitCode).not.toBe(0);
    expect(pulumiFailure(stack.name, up).message).toBe(refusal);
    expect(await kubectl(facts.machines["fi-1"], "get", "namespaces", "-o", "name")).not.toContain(
      NAME,
    );
    await expectNothingLost();
  });

  it("does not leave its zone without a contract's reference, and with one not by a plain up", async () => {
    const fleetFile = fleetWithLocationIn("us");
    const abroad = { plan: "lite", location: "fi-1", zone: "us" };
    expect(await refusalOf(variant(await settingsOf(abroad), { fleetFile }))).toBe(
      `Tenant "${NAME}": zone us must come with a contract's reference, got none. ` +
        "Set fluxbilling:tenant.contractRef, or leave the zone at eu.",
    );
    const contracted = await settingsOf({ ...abroad, contractRef: "C-2026/17" });
    expect(await refusalOf(variant(contracted, { fleetFile }))).toBe(
      `Tenant "${NAME}": location must stay "nl-1" in zone eu, where its data is, got "fi-1" in zone us. ` +
        "Set fluxbilling:tenant.location and zone back; moving a tenant is an operation of its own.",
    );
    // The tenant's own zone in a fleet that has its location elsewhere now.
    expect(await refusalOf(variant(await settingsOf({ location: "fi-1" }), { fleetFile }))).toBe(
      `Tenant "${NAME}": location must lie in zone eu, got "fi-1" in zone us. Choose nl-1.`,
    );
    await expectNothingLost();
  });

  it("is deleted with everything that was its own", async () => {
    const folderOfFiles = await volumeFolder(tenant);
    await settingsOf({ plan: "lite" });
    expect(await killedRun("destroy", tenant.stack, facts, 3)).toBeGreaterThanOrEqual(3);
    await destroy(tenant.stack, facts);
    expect(await kubectl(location, "get", "namespaces", "-o", "name")).not.toContain(NAME);
    expect(await databasesAndRoles()).toEqual([]);
    await until("no volume of the tenant", 30_000, async () => {
      const volumes = await kubectl(location, "get", "pv", "-o", "jsonpath={..claimRef.namespace}");
      return !volumes.split(" ").includes(tenant.namespace);
    });
    expect(
      // What ls says as it fails is the answer that is asked for.
      await onMachine(location, ["sh", "-c", `ls -d ${folderOfFiles} 2>&1 || true`]),
    ).toContain("No such file");
  });

  it("is created again: empty, under the same names, with the key that its name has", async () => {
    await change({ plan: "lite" }, 10);
    expect((await ask(location.address, tenant.host)).status).toBe(200);
    const anew = await belongings();
    expect([anew.rows, anew.settings, anew.file]).toEqual([[], [], ""]);
    for (const [what, id] of Object.entries(anew.ids)) expect(id).not.toBe(kept.ids[what]);
    expect(anew.secrets["keys-1-1/settings-1"]).toBe(kept.secrets["keys-1-1/settings-1"]);
    expect(anew.secrets["contract-seed-1/session"]).not.toBe(
      kept.secrets["contract-seed-1/session"],
    );
    expect(await databasesAndRoles()).toHaveLength(5);
  });

  /** Writes the tenant's settings. */
  async function settingsOf(settings: {
    readonly [key: string]: string | number | boolean;
  }): Promise<LocalStack> {
    return writeTenantStack({ name: NAME, location: "nl-1", ...settings });
  }

  /**
   * Brings the tenant to its settings in two runs: one is killed after so many changes, the next has to converge
   * without replacing or deleting what holds data.
   */
  async function change(
    settings: { readonly [key: string]: string | number | boolean },
    killAfter: number,
  ): Promise<void> {
    const stack = await settingsOf(settings);
    expect(await killedRun("up", stack, facts, killAfter)).toBeGreaterThanOrEqual(killAfter);
    expect(Object.keys(await deploy(stack, facts))).not.toContain("replaced");
    const again = await preview(stack, facts);
    expect(Object.keys(changeCounts(again.stdout))).toEqual(["unchanged"]);
  }

  async function expectNothingLost(): Promise<void> {
    expect(await belongings()).toEqual(kept);
    const read = await askAsOperator(tenant, { path: "/settings/kept" });
    expect([read.status, read.body]).toEqual([200, SETTING]);
  }

  async function refusalOf(stack: LocalStack): Promise<string> {
    const run = await preview(stack, facts);
    expect(run.exitCode).not.toBe(0);
    return pulumiFailure(stack.name, run).message;
  }

  /** The same stack with other project settings, from a file of the test's own. */
  function variant(stack: LocalStack, changed: { readonly [key: string]: unknown }): LocalStack {
    const settings = parse(readFileSync(stack.configFile, "utf8")) as Settings;
    for (const [key, value] of Object.entries(changed)) {
      settings.config[`fluxbilling:${key}`] = value;
    }
    const configFile = join(folder, `Pulumi.${stack.name}.yaml`);
    writeFileSync(configFile, stringify(settings));
    return { ...stack, configFile };
  }

  /** Settings of the fleet with fi-1, and a store for it, in another zone. */
  function fleetWithLocationIn(zone: string): string {
    const settings = parse(readFileSync(localStackOf(LOCAL_FLEET).configFile, "utf8")) as Settings;
    const fleet = settings.config["fluxbilling:fleet"] as {
      backupStores: { [name: string]: object };
      locations: { [name: string]: object };
    };
    const abroad = { ...fleet.locations["fi-1"], zone, backupStore: "abroad" };
    fleet.locations["fi-1"] = abroad;
    const { address } = abroad as { address?: string };
    fleet.backupStores["abroad"] = { ...fleet.backupStores["master"], zone, address };
    const file = join(folder, "Pulumi.local.yaml");
    writeFileSync(file, stringify(settings));
    return file;
  }

  async function belongings(): Promise<Belongings> {
    const [database] = await query<{ database: string; roles: string }>(
      location,
      `select oid::text as database,
         (select string_agg(oid::text, ' ' order by rolname) from pg_roles where rolname like '%life_tenant') as roles
       from pg_database where datname = $1`,
      [tenant.database],
    );
    const uid = (...what: string[]): Promise<string> =>
      kubectl(location, "get", ...what, "-o", "jsonpath={.metadata.uid}");
    const inside = ["--namespace", tenant.namespace];
    const folderOfFiles = await volumeFolder(tenant);
    return {
      ids: {
        namespace: await uid("namespace", tenant.namespace),
        volume: await uid("pvc", "files", ...inside),
        keys: await uid("secret", "keys-1-1", ...inside),
        database: database?.database ?? "",
        roles: database?.roles ?? "",
      },
      rows: await query(location, "select * from app.records order by id", [], tenant.database),
      settings: await query(location, "select * from app.settings", [], tenant.database),
      // Without a file there is nothing to read, and that is what a tenant begins with.
      file: await onMachine(location, ["sh", "-c", `cat ${folderOfFiles}/* 2>/dev/null || true`]),
      secrets: Object.fromEntries(
        [...(await secretsOf(tenant))].flatMap(([secret, files]) =>
          [...files].map(([file, content]) => [`${secret}/${file}`, content.toString("base64")]),
        ),
      ),
    };
  }

  /** What the plan decides, as cluster and server have it. */
  async function bounds(): Promise<object> {
    const inside = ["--namespace", tenant.namespace];
    const { hard } = (await object("resourcequota", "plan", ...inside)).spec;
    const { replicas } = (await object("deployment", "app", ...inside)).spec;
    const { rateLimit } = (await object("middleware", "rate-limit", ...inside)).spec;
    const [role] = await query<{ connections: number }>(
      location,
      "select rolconnlimit as connections from pg_roles where rolname = $1",
      [tenant.appRole],
    );
    return { hard, replicas, rateLimit, connections: role?.connections, pods: await podsReady() };
  }

  function boundsOf(name: keyof typeof PLANS): object {
    const plan = PLANS[name];
    return {
      hard: planQuota(plan),
      replicas: plan.replicas,
      rateLimit: { average: plan.requestsPerSecond, burst: plan.requestsPerSecond * 2 },
      connections: plan.databaseConnections,
      pods: plan.replicas,
    };
  }

  async function object(
    ...what: string[]
  ): Promise<{ spec: { [field: string]: unknown }; status: { [field: string]: unknown } }> {
    return JSON.parse(await kubectl(location, "get", ...what, "-o", "json")) as {
      spec: { [field: string]: unknown };
      status: { [field: string]: unknown };
    };
  }

  async function podsReady(): Promise<unknown> {
    const { status } = await object("deployment", "app", "--namespace", tenant.namespace);
    return status["readyReplicas"];
  }

  async function pods(): Promise<string[]> {
    const names = await kubectl(
      location,
      "get",
      "pods",
      "--namespace",
      tenant.namespace,
      "-o",
      "name",
    );
    return names.split("\n").filter((name) => name !== "");
  }

  async function databasesAndRoles(): Promise<unknown[]> {
    return query(
      location,
      `select rolname as name from pg_roles where rolname like '%life_tenant'
       union all select datname from pg_database where datname like '%life_tenant'`,
    );
  }
});
