import { describe, expect, it } from "vitest";
import { RULES } from "../../policies/rules.ts";
import { fleetResources, GOOD_IDENTITY, hostResources, tenantResources } from "../support/good.ts";
import { judged, say } from "../support/judge.ts";
import type { Registered } from "../support/construct.ts";

/** Every violation of every rule of the pack over a stack. */
function violations(resources: readonly Registered[]): readonly string[] {
  return RULES.flatMap((rule) => say(rule, judged(resources)));
}

describe("the policy pack", () => {
  it("finds nothing in a good fleet", async () => {
    expect(violations(await fleetResources())).toEqual([]);
  });

  it("finds nothing in a host that is prepared", async () => {
    expect(violations(await hostResources())).toEqual([]);
  });

  it("finds nothing in a good tenant", async () => {
    expect(violations(await tenantResources())).toEqual([]);
  });

  it("finds nothing in a suspended tenant", async () => {
    expect(violations(await tenantResources({ suspended: true }))).toEqual([]);
  });

  it("finds nothing in a tenant that speaks MQTT and replays, of any plan, shut or not", async () => {
    for (const more of [{}, { plan: "business" }, { suspended: true }]) {
      expect(violations(await tenantResources({ mqtt: true, replay: true, ...more }))).toEqual([]);
    }
  });

  it("finds nothing in a tenant of the largest plan with rotated keys and secrets", async () => {
    const settings = { plan: "business", keyGeneration: 3, secretGeneration: 2 };
    expect(violations(await tenantResources(settings))).toEqual([]);
  });

  it("finds nothing in a tenant with identity providers of every kind and a relay for mail", async () => {
    expect(violations(await tenantResources(GOOD_IDENTITY))).toEqual([]);
  });
});
