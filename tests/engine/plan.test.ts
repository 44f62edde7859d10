import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { changeCounts, destroy, runOnStack } from "../../embedded/deploy.ts";
import { policyPack } from "../../embedded/engine/policy-pack.ts";
import { type LocalStack, writeTenantStack } from "../../embedded/local-fleet.ts";
import type { PlatformFacts } from "../../embedded/machines/platform.ts";
import { kubectl, platform } from "../support/platform.ts";

const TENANT = { name: "planned", location: "nl-1", plan: "lite" };

describe("a plan that was approved", () => {
  let facts: PlatformFacts;
  let stack: LocalStack;
  let folder: string;
  let plan: string;

  beforeAll(async () => {
    facts = await platform();
    stack = await writeTenantStack(TENANT);
    folder = await mkdtemp(join(tmpdir(), "plan-"));
    plan = join(folder, "plan.json");
  });

  afterAll(async () => {
    await destroy(stack, facts);
    await rm(folder, { recursive: true });
  });

  it("is what is applied, and holds no secret in clear", async () => {
    const previewed = await runOnStack(
      ["preview", "--policy-pack", policyPack(), "--save-plan", plan],
      stack,
      facts,
    );
    expect(previewed.exitCode).toBe(0);
    expect(await readFile(plan, "utf8")).not.toMatch(/PRIVATE KEY|SCRAM-SHA-256\$/);
    const applied = await up();
    expect([applied.exitCode, changeCounts(applied.stdout)["created"] ?? 0]).toEqual([
      0,
      Number(/(\d+) to create/.exec(previewed.stdout)?.[1]),
    ]);
  });

  it("lets nothing else be applied", async () => {
    const before = await quota();
    await runOnStack(["preview", "--save-plan", plan], stack, facts);
    await writeTenantStack({ ...TENANT, plan: "business" });
    const refused = await up();
    expect(refused.exitCode).not.toBe(0);
    expect(refused.stdout + refused.stderr).toContain("violates plan");
    expect(await quota()).toBe(before);
  });

  async function up(): ReturnType<typeof runOnStack> {
    return runOnStack(
      ["up", "--yes", "--skip-preview", "--policy-pack", policyPack(), "--plan", plan],
      stack,
      facts,
    );
  }

  async function quota(): Promise<string> {
    return kubectl(
      facts.machines["nl-1"],
      ...[
        "get",
        "resourcequota",
        "--namespace",
        "tenant-planned",
        "-o",
        "jsonpath={.items[*].spec}",
      ],
    );
  }
});
