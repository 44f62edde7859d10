import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import {
  changeCounts,
  deploy,
  destroy,
  preview,
  runOnStack,
  settle,
} from "../../embedded/deploy.ts";
import { pulumiEnvironment } from "../../embedded/engine/engine.ts";
import { PULUMI_BIN } from "../../embedded/engine/plugins.ts";
import { policyPack } from "../../embedded/engine/policy-pack.ts";
import { type LocalStack, writeTenantStack } from "../../embedded/local-fleet.ts";
import type { MachineFacts, PlatformFacts } from "../../embedded/machines/platform.ts";
import { ROOT } from "../../embedded/paths.ts";
import { kubectl, platform, query, until } from "../support/platform.ts";

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
      const told = await killedUp(stack, created);
      expect(told).toBeGreaterThanOrEqual(created);
      await until("no process of the run", 10_000, () => Promise.resolve(processesOf(stack) === 0));
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

  /** Kills the CLI as soon as it has told of so many creations in the update; tells how many it told of. */
  async function killedUp(target: LocalStack, afterCreated: number): Promise<number> {
    await settle(target, facts);
    const child = spawn(
      join(PULUMI_BIN, "pulumi"),
      [
        ...["up", "--yes", "--skip-preview", "--non-interactive", "--policy-pack", policyPack()],
        ...["--stack", target.name, "--config-file", target.configFile],
      ],
      {
        cwd: ROOT,
        env: { ...pulumiEnvironment(), ...target.environment, FLUX_CRASH_TEST: target.name },
        stdio: ["ignore", "pipe", "inherit"],
      },
    );
    let told = 0;
    let text = "";
    return new Promise((resolve) => {
      child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
        text += chunk;
        told = [...text.matchAll(/ created \(/g)].length;
        if (told >= afterCreated) child.kill("SIGKILL");
      });
      child.once("close", () => {
        resolve(told);
      });
    });
  }
});

/** Living processes that carry the mark of the killed run in their environment. */
function processesOf(stack: LocalStack): number {
  const mark = `FLUX_CRASH_TEST=${stack.name}`;
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && name !== String(process.pid))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").includes(mark);
      } catch (error) {
        // Ended meanwhile, or not a process of this user's making at all.
        if (["ENOENT", "ESRCH", "EACCES"].includes((error as NodeJS.ErrnoException).code ?? ""))
          return false;
        throw error;
      }
    }).length;
}
