import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { Tenant } from "../../components/tenant.ts";
import { deriveTenantKey } from "../../model/settings-key.ts";
import { tenantName } from "../../model/tenant-name.ts";
import { deriveSecret } from "../../model/tenant-secret.ts";
import type { SecretPurpose } from "../../model/tenant-secret.ts";
import { construct, inputOf } from "../support/construct.ts";
import type { Registered } from "../support/construct.ts";
import { GOOD_IDENTITY, goodTenantArgs, TEST_ROOT_KEY, tenantResources } from "../support/good.ts";

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
    expect(secret(resources, "acme-key-contract", "metadata.name")).toBe("contract-seed-3");
    const of = (purpose: SecretPurpose, generation: number): string =>
      deriveSecret(`password-of-acme-seed-${generation}`, purpose);
    expect(secret(resources, "acme-key-contract", "stringData")).toEqual({
      session: of("session", 3),
      "session-previous": of("session", 2),
      token: of("token", 3),
      "token-previous": of("token", 2),
      webhook: of("webhook", 3),
      "webhook-previous": of("webhook", 2),
    });
  });

  it("holds what the application signs in elsewhere with, and no Secret where there is nothing", async () => {
    const resources = await tenantResources(GOOD_IDENTITY);
    expect(secret(resources, "acme-key-credentials", "immutable")).toBe(true);
    expect(secret(resources, "acme-key-credentials", "stringData")).toEqual({
      "provider-work-id": "f0".repeat(32),
      "provider-work-secret": 'secret of {"file":"work.secret"}',
      "provider-git-id": "acme",
      "provider-git-secret": 'secret of {"env":"GIT_SECRET"}',
      "provider-directory-id": "cn=reader,dc=example,dc=com",
      "provider-directory-secret": 'secret of {"env":"DIRECTORY_PASSWORD"}',
      "mail-user": "AKIAIOSFODNN7EXAMPLE",
      "mail-password": 'secret of {"file":"mail.password"}',
    });
    const saml = GOOD_IDENTITY.identity.providers.filter(({ kind }) => kind === "saml");
    for (const settings of [{}, { identity: { providers: saml } }]) {
      const names = (await tenantResources(settings)).map(({ name }) => name);
      expect(names).not.toContain("acme-key-credentials");
    }
  });

  it("gives changed credentials another name, which says nothing about them", async () => {
    const named = async (password: string, tenant = "acme"): Promise<unknown> => {
      const args = goodTenantArgs({ name: tenant });
      const resources = await construct(() => {
        new Tenant(tenant, { ...args, credentials: { "mail-password": password } });
      });
      return secret(resources, `${tenant}-key-credentials`, "metadata.name");
    };
    const name = await named("first");
    expect(name).toMatch(/^credentials-[0-9a-f]{16}$/);
    expect(await named("first")).toBe(name);
    expect(await named("second")).not.toBe(name);
    expect(await named("first", "acme-2")).not.toBe(name);
    const digest = createHash("sha256").update('[["mail-password","first"]]').digest("hex");
    expect(name).not.toBe(`credentials-${digest.slice(0, 16)}`);
  });

  it("makes nothing whose id, which the state shows, is a secret", async () => {
    const resources = await tenantResources();
    const kinds = resources.map(({ type }) => type).filter((type) => type.startsWith("random:"));
    expect(new Set(kinds)).toEqual(new Set(["random:index/randomPassword:RandomPassword"]));
  });
});
