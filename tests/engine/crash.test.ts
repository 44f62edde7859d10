import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { changeCounts, deploy, destroy, preview, runOnStack } from "../../embedded/deploy.ts";
import { type LocalStack, writeTenantStack } from "../../embedded/local-fleet.ts";
import type { MachineFacts, PlatformFacts } from "../../embedded/machines/platform.ts";
import { killedRun } from "../support/killed-run.ts";
import { kubectl, platform, query } from "../support/platform.ts";

const TENANT = "crash-tenant";

/** The engine is killed after creating so many, each time in a run of its own on what the one before left. */
const KILL_AFTER = [2, 8, 8, 8];

describe("an engine that is killed in the middle of an up", () => {
  let facts: PlatformFacts;
  let location: MachineFacts;
  let stack: LocalStack;

  beforeAll(async () => {
    facts = await platform();
    location = facts.machines["nl-1"];
    stack = await writeTenantStack({ name: TENANT, location: "nl-1", plan: "lite" });
  });

  afterAll(() => destroy(stack, facts));

  it("leaves no process behind, and the next up converges with nothing doubled or orphaned", async () => {
    for (const created of KILL_AFTER) {
      expect(await killedRun("up", stack, facts, created)).toBeGreaterThanOrEqual(created);
    }
    await deploy(stack, facts);

    const same = await preview(stack, facts);
    expect(Object.keys(changeCounts(same.stdout))).toEqual(["unchanged"]);
    expect(
      await query(
        location,
        `select 'role' as kind, count(*)::int as found from pg_roles where rolname like '%crash_tenant'
         union all select 'database', count(*)::int from pg_database where datname like '%crash_tenant'
         order by kind`,
      ),
    ).toEqual([
      { kind: "database", found: 1 },
      { kind: "role", found: 4 },
    ]);

    const recorded = (
      JSON.parse((await runOnStack(["stack", "export"], stack, facts)).stdout) as {
        deployment: { resources: { type: string; id?: string }[] };
      }
    ).deployment.resources;
    for (const kind of ["secrets", "networkpolicies", "cronjobs", "serviceaccounts", "services"]) {
      const found = JSON.parse(
        await kubectl(location, "get", kind, "--namespace", `tenant-${TENANT}`, "-o", "json"),
      ) as { items: { kind: string; metadata: { name: string } }[] };
      const names = found.items
        .map((item) => `tenant-${TENANT}/${item.metadata.name}`)
        // Kubernetes makes this one in every namespace.
        .filter((name) => !name.endsWith("/default"));
      const kinds = new Set(found.items.map((item) => item.kind));
      const ids = recorded
        .filter(({ type }) => kinds.has(type.split(":").at(-1) ?? ""))
        .map(({ id }) => id);
      expect([...names].sort()).toEqual([...ids].sort());
    }
  });
});
