import { describe, expect, it } from "vitest";
import { RULES } from "../../policies/rules.ts";
import { fleetResources, tenantResources } from "../support/good.ts";
import { judge, judged, judgeStack } from "../support/judge.ts";
import type { Judged } from "../support/judge.ts";

/** Every violation of every rule of the pack over a stack. */
async function violations(resources: readonly Judged[]): Promise<readonly string[]> {
  const messages: string[] = [];
  for (const rule of RULES) {
    if ("validateStack" in rule) {
      messages.push(...(await judgeStack(rule, resources)));
    } else {
      for (const resource of resources) {
        messages.push(...(await judge(rule, resource)));
      }
    }
  }
  return messages;
}

describe("the policy pack", () => {
  it("finds nothing in a good fleet", async () => {
    expect(await violations(judged(await fleetResources()))).toEqual([]);
  });

  it("finds nothing in a good tenant", async () => {
    expect(await violations(judged(await tenantResources()))).toEqual([]);
  });

  it("finds nothing in a suspended tenant", async () => {
    expect(await violations(judged(await tenantResources({ suspended: true })))).toEqual([]);
  });

  it("finds nothing in a tenant of the largest plan with rotated keys and secrets", async () => {
    const settings = { plan: "business", keyGeneration: 3, secretGeneration: 2 };
    expect(await violations(judged(await tenantResources(settings)))).toEqual([]);
  });
});
