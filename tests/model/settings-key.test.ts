import { hkdfSync } from "node:crypto";
import { describe, expect, it } from "vitest";
import { Refusal } from "../../model/refusal.ts";
import {
  checkRootKey,
  deriveTenantKey,
  parseRootKey,
  rootKeyId,
  tenantKeyInfo,
} from "../../model/settings-key.ts";
import type { KeyPurpose } from "../../model/settings-key.ts";
import { tenantName } from "../../model/tenant-name.ts";

const ROOT = parseRootKey("11".repeat(32), "test");
const ACME = tenantName("acme");

describe("parseRootKey", () => {
  it("takes hexadecimal and base64 of the same bytes as the same key", () => {
    const base64 = Buffer.alloc(32, 0x11).toString("base64");
    expect(parseRootKey(`${base64}\n`, "test")).toEqual(ROOT);
  });

  it.each(["", "short", "11".repeat(31), "zz".repeat(32), Buffer.alloc(24).toString("base64")])(
    "refuses %j without repeating it",
    (text) => {
      expect(() => parseRootKey(text, "SETTINGS_ENCRYPTION_KEY")).toThrow(
        new Refusal(
          "ROOT_KEY",
          `Root key "SETTINGS_ENCRYPTION_KEY": must be 32 bytes as 64 hexadecimal digits or in base64, got ${text.length} characters of another form. Make one with \`openssl rand -base64 32\`, or give the key that the fleet was made with.`,
        ),
      );
    },
  );
});

describe("checkRootKey", () => {
  it("takes the fleet's own key", () => {
    expect(() => {
      checkRootKey(ROOT, "prod", rootKeyId(ROOT));
    }).not.toThrow();
  });

  it("refuses another key and names both by their ids", () => {
    expect(() => {
      checkRootKey(ROOT, "prod", "0".repeat(16));
    }).toThrow(
      new Refusal(
        "ROOT_KEY",
        `Fleet "prod": SETTINGS_ENCRYPTION_KEY must be the key with id 0000000000000000, got the key with id ${rootKeyId(ROOT)}. Give the key that the fleet was made with; for a new fleet, set fluxbilling:fleet.settingsKeyId to "${rootKeyId(ROOT)}".`,
      ),
    );
  });
});

describe("deriveTenantKey", () => {
  it("gives what HKDF-SHA-256 of RFC 5869 gives for the documented info string", () => {
    const expected = hkdfSync("sha256", ROOT, "", "fluxbilling/v1/tenant/acme/settings/1", 32);
    expect(deriveTenantKey(ROOT, ACME, "settings", 1)).toEqual(Buffer.from(expected));
  });

  it("never changes for the same tenant, purpose and generation", () => {
    expect(deriveTenantKey(ROOT, ACME, "settings", 1).toString("hex")).toBe(
      "4b3acba7fe62586503f53a703a0c53ddaf948992ff14a596be7c409007624c5b",
    );
  });

  it("gives another key for every other tenant, purpose, generation and root", () => {
    const other = parseRootKey("12".repeat(32), "test");
    const purposes: KeyPurpose[] = [
      "settings",
      "attributes-primary",
      "attributes-deterministic",
      "attributes-salt",
      "secret-names",
    ];
    const keys = [ROOT, other].flatMap((root) =>
      [ACME, tenantName("acme-1")].flatMap((tenant) =>
        purposes.flatMap((purpose) =>
          [1, 2, 11].map((generation) =>
            deriveTenantKey(root, tenant, purpose, generation).toString("hex"),
          ),
        ),
      ),
    );
    expect(new Set(keys).size).toBe(keys.length);
  });
});

describe("tenantKeyInfo", () => {
  it("tells the format, the tenant, the purpose and the generation", () => {
    expect(tenantKeyInfo(ACME, "attributes-salt", 3)).toBe(
      "fluxbilling/v1/tenant/acme/attributes-salt/3",
    );
  });
});
