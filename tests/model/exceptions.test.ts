import { describe, expect, it } from "vitest";
import {
  exceptionFaults,
  exceptionFor,
  EXCEPTIONS,
  exceptionTenant,
} from "../../model/exceptions.ts";
import { REVIEWED_PACK } from "../../model/policy-pack.ts";

const NOW = new Date("2026-03-01T12:00:00Z");
const GOOD = {
  tenant: "acme",
  rule: "image-by-digest",
  reason: "The old image has no digest yet.",
  approver: "security",
  endDate: "2026-03-01",
};

describe("exceptionFaults", () => {
  it("finds nothing until the end of the last day", () => {
    expect(exceptionFaults(GOOD, NOW)).toEqual([]);
    expect(exceptionFaults(GOOD, new Date("2026-03-01T23:59:59Z"))).toEqual([]);
  });

  it.each([
    [{ endDate: "2026-02-28" }, "endDate must not have passed, got 2026-02-28"],
    [{ endDate: "2026-02-30" }, "endDate must be a day, YYYY-MM-DD, got 2026-02-30"],
    [{ endDate: "1.4.2026" }, "endDate must be a day, YYYY-MM-DD, got 1.4.2026"],
    [{ endDate: "2026-06-01" }, "endDate must be at most 90 days ahead, got 2026-06-01"],
    [{ reason: " " }, "reason must be given, got none"],
    [{ approver: "" }, "approver must be given, got none"],
  ])("refuses %j", (spoilt, fault) => {
    expect(exceptionFaults({ ...GOOD, ...spoilt }, NOW)).toEqual([fault]);
  });
});

describe("exceptionFor", () => {
  it("finds the one of the tenant and the rule", () => {
    expect(exceptionFor([GOOD], "acme", "image-by-digest", NOW)).toBe(GOOD);
    expect(exceptionFor([GOOD], "other", "image-by-digest", NOW)).toBeUndefined();
    expect(exceptionFor([GOOD], "acme", "type-is-known", NOW)).toBeUndefined();
  });

  it("finds none that has a fault", () => {
    expect(
      exceptionFor([{ ...GOOD, endDate: "2026-02-28" }], "acme", GOOD.rule, NOW),
    ).toBeUndefined();
  });
});

describe("exceptionTenant", () => {
  it.each([
    ["local", "fleet"],
    ["local.acme", "acme"],
    ["prod.acme-nl", "acme-nl"],
    ["prod.host.nl-2", "host.nl-2"],
  ])("reads the stack %s as %s", (stack, tenant) => {
    expect(exceptionTenant(stack)).toBe(tenant);
  });
});

describe("the exceptions in force", () => {
  it("are about rules of the pack", () => {
    const rules: readonly string[] = REVIEWED_PACK.rules;
    expect(EXCEPTIONS.filter(({ rule }) => !rules.includes(rule))).toEqual([]);
  });
});
