import { describe, expect, it } from "vitest";
import { deriveTenantKey } from "../../model/settings-key.ts";
import { tenantName } from "../../model/tenant-name.ts";
import { inputsOf } from "../support/construct.ts";
import { TEST_ROOT_KEY, tenantResources } from "../support/good.ts";

const SECRET = "kubernetes:core/v1:Secret";
const ACME = tenantName("acme");

function text(base64: string): string {
  return Buffer.from(base64, "base64").toString();
}

describe("TenantKey", () => {
  it("holds every version of the ring and says which one encrypts", async () => {
    const settings = { keyGeneration: 3, oldestKeyGeneration: 2 };
    const secrets = inputsOf(await tenantResources(settings), SECRET);
    const { metadata, immutable, data } = secrets["acme-key-keys"];
    expect([metadata.name, immutable, Object.keys(data).toSorted(), text(data.active)]).toEqual([
      "keys-2-3",
      true,
      [
        "active",
        "attributes-deterministic",
        "attributes-primary",
        "attributes-salt",
        "settings-2",
        "settings-3",
      ],
      "3",
    ]);
    expect(data["settings-3"]).toBe(
      deriveTenantKey(TEST_ROOT_KEY, ACME, "settings", 3).toString("base64"),
    );
  });

  it("derives another key for another tenant", async () => {
    const [acme, other] = [await tenantResources(), await tenantResources({ name: "acme-2" })];
    expect(inputsOf(acme, SECRET)["acme-key-keys"].data["settings-1"]).not.toBe(
      inputsOf(other, SECRET)["acme-2-key-keys"].data["settings-1"],
    );
  });

  it("lets the root key into no resource, in no form", async () => {
    const all = JSON.stringify(await tenantResources({ keyGeneration: 2 }));
    const forms = ["hex", "base64", "latin1"] as const;
    expect(forms.filter((form) => all.includes(TEST_ROOT_KEY.toString(form)))).toEqual([]);
  });

  it("keeps the previous random secrets beside the new ones", async () => {
    const secrets = inputsOf(await tenantResources({ secretGeneration: 3 }), SECRET);
    const { metadata, data } = secrets["acme-key-contract"];
    expect([
      metadata.name,
      Object.fromEntries(Object.entries<string>(data).map(([key, value]) => [key, text(value)])),
    ]).toEqual([
      "contract-3",
      {
        session: "bytes-of-acme-key-session-3",
        "session-previous": "bytes-of-acme-key-session-2",
        token: "bytes-of-acme-key-token-3",
        "token-previous": "bytes-of-acme-key-token-2",
        webhook: "bytes-of-acme-key-webhook-3",
        "webhook-previous": "bytes-of-acme-key-webhook-2",
      },
    ]);
  });
});
