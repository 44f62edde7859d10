import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Refusal } from "../../model/refusal.ts";
import {
  isTenantName,
  TENANT_NAME_MAX_LENGTH,
  tenantName,
  tenantNames,
  tenantStackName,
} from "../../model/tenant-name.ts";

const NAMES = fc.stringMatching(/^[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,8}){0,3}$/).filter(isTenantName);

describe("tenantName", () => {
  it.each(["ab", "acme", "acme-2", "a1-b2-c3", "a".repeat(TENANT_NAME_MAX_LENGTH)])(
    "takes %s",
    (name) => {
      expect(tenantName(name)).toBe(name);
    },
  );

  it.each([
    "",
    "a",
    "Acme",
    "1acme",
    "-acme",
    "acme-",
    "ac--me",
    "ac_me",
    "ac.me",
    "acme\n",
    "äcme",
    "a".repeat(TENANT_NAME_MAX_LENGTH + 1),
  ])("refuses %j", (name) => {
    expect(() => tenantName(name)).toThrow(Refusal);
  });

  it("says what a name must be and what to do", () => {
    expect(() => tenantName("Acme!")).toThrow(
      new Refusal(
        "TENANT_NAME",
        'Tenant "Acme!": the name must be 2 to 40 small letters, digits and single hyphens, start with a letter and end with a letter or digit, got 5 characters. Choose another name.',
      ),
    );
  });
});

describe("tenantNames", () => {
  it("names everything after the tenant", () => {
    expect(tenantNames(tenantName("acme-2"))).toEqual({
      namespace: "tenant-acme-2",
      database: "tenant_acme_2",
      ownerRole: "owner_acme_2",
      appRole: "app_acme_2",
      backupRole: "backup_acme_2",
    });
  });

  it("gives no two tenants, and no two kinds of role, the same name", () => {
    fc.assert(
      fc.property(fc.uniqueArray(NAMES, { minLength: 2, maxLength: 8 }), (names) => {
        const all = names.flatMap((name) => Object.values<string>({ ...tenantNames(name) }));
        expect(new Set(all).size).toBe(all.length);
      }),
    );
  });

  it("fits every name into its limit without cutting", () => {
    const longest = tenantName("a".repeat(TENANT_NAME_MAX_LENGTH));
    for (const name of Object.values<string>({ ...tenantNames(longest) })) {
      expect(name.length).toBeLessThanOrEqual(63);
      expect(name).toContain(longest);
    }
  });
});

describe("tenantStackName", () => {
  it("is the fleet and the tenant", () => {
    expect(tenantStackName("prod", tenantName("acme"))).toBe("prod.acme");
  });
});
