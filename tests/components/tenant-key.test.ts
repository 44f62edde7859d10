import { describe, expect, it } from "vitest";
import { deriveTenantKey } from "../../model/settings-key.ts";
import { tenantName } from "../../model/tenant-name.ts";
import { inputOf } from "../support/construct.ts";
import type { Registered } from "../support/construct.ts";
import { TEST_ROOT_KEY, tenantResources } from "../support/good.ts";

const ACME = tenantName("acme");

/** One input of one Secret. */
function secret(resources: readonly Registered[], name: string, path: string): unknown {
  return inputOf(resources, "kubernetes:core/v1:Secret", name, path);
}

/** The files of a Secret, decoded. */
function files(resources: readonly Registered[], name: string): Record<string, string> {
  const data = secret(resources, name, "data") as Record<string, string>;
  return Object.fromEntries(
    Object.entries(data).map(([file, base64]) => [
      file,
      Buffer.from(base64, "base64").toString("latin1"),
    ]),
  );
}

describe("TenantKey", () => {
  it("holds every version of the ring and says which one encrypts", async () => {
    const resources = await tenantResources({ keyGeneration: 3, oldestKeyGeneration: 2 });
    const key = (purpose: Parameters<typeof deriveTenantKey>[2], generation: number): string =>
      deriveTenantKey(TEST_ROOT_KEY, ACME, purpose, generation).toString("latin1");
    expect(secret(resources, "acme-key-keys", "metadata.name")).toBe("keys-2-3");
    expect(secret(resources, "acme-key-keys", "immutable")).toBe(true);
    expect(files(resources, "acme-key-keys")).toEqual({
      active: "3",
      "settings-2": key("settings", 2),
      "settings-3": key("settings", 3),
      "attributes-primary": key("attributes-primary", 1),
      "attributes-deterministic": key("attributes-deterministic", 1),
      "attributes-salt": key("attributes-salt", 1),
    });
  });

  it("derives another key for another tenant", async () => {
    const [acme, other] = [await tenantResources(), await tenantResources({ name: "acme-2" })];
    expect(secret(acme, "acme-key-keys", "data.settings-1")).not.toBe(
      secret(other, "acme-2-key-keys", "data.settings-1"),
    );
  });

  it("lets the root key into no resource, in no form", async () => {
    const all = JSON.stringify(await tenantResources({ keyGeneration: 2 }));
    const forms = ["hex", "base64", "latin1"] as const;
    expect(forms.filter((form) => all.includes(TEST_ROOT_KEY.toString(form)))).toEqual([]);
  });

  it("keeps the previous random secrets beside the new ones", async () => {
    const resources = await tenantResources({ secretGeneration: 3 });
    expect(secret(resources, "acme-key-contract", "metadata.name")).toBe("contract-3");
    expect(files(resources, "acme-key-contract")).toEqual({
      session: "password-of-acme-key-session-3",
      "session-previous": "password-of-acme-key-session-2",
      token: "password-of-acme-key-token-3",
      "token-previous": "password-of-acme-key-token-2",
      webhook: "password-of-acme-key-webhook-3",
      "webhook-previous": "password-of-acme-key-webhook-2",
    });
  });

  it("makes nothing whose id, which the state shows, is a secret", async () => {
    const resources = await tenantResources();
    const kinds = resources.map(({ type }) => type).filter((type) => type.startsWith("random:"));
    expect(new Set(kinds)).toEqual(new Set(["random:index/randomPassword:RandomPassword"]));
  });
});
