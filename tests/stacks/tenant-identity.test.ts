import { describe, expect, it } from "vitest";
import { Refusal } from "../../model/refusal.ts";
import type { SecretSource } from "../../stacks/secret-source.ts";
import { readIdentity } from "../../stacks/tenant-identity.ts";
import { GOOD_IDENTITY, goodTenantSettings, TEST_SECRETS } from "../support/good.ts";

describe("readIdentity", () => {
  it("parts what may be seen from what signs in, and asks for each secret by its setting", () => {
    const asked: string[] = [];
    const secrets: SecretSource = {
      ...TEST_SECRETS,
      read: (_reference, setting) => {
        asked.push(setting);
        return `canary ${asked.length}`;
      },
    };
    const { identityProviders, credentials } = readIdentity(
      goodTenantSettings(GOOD_IDENTITY),
      secrets,
    );
    expect(asked).toEqual([
      "fluxbilling:tenant.identity.providers.0.clientSecret",
      "fluxbilling:tenant.identity.providers.1.clientSecret",
      "fluxbilling:tenant.identity.providers.3.bindPassword",
      "fluxbilling:tenant.mail.password",
    ]);
    expect(JSON.stringify(credentials).match(/canary \d/g)).toHaveLength(4);
    expect(JSON.stringify(identityProviders)).not.toMatch(/canary|reader|file|env/);
  });

  it("needs nothing and hands nothing over where a tenant says nothing", () => {
    expect(readIdentity(goodTenantSettings(), TEST_SECRETS)).toEqual({
      identityProviders: [],
      credentials: {},
    });
  });

  it("refuses a file that is no certificate, without showing it", () => {
    const secrets = { ...TEST_SECRETS, readPublic: () => Buffer.from("canary: a private key") };
    expect(() => readIdentity(goodTenantSettings(GOOD_IDENTITY), secrets)).toThrow(
      new Refusal(
        "SETTING_INVALID",
        'Setting "fluxbilling:tenant.identity.providers.2.certificateFile": must name a file with a PEM certificate, got "partner.crt" without one. Put the certificate there that the provider signs with.',
      ),
    );
  });
});
