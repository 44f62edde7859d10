import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { parseFleet, parseTenant, placeTenant } from "../../model/settings.ts";
import { RULES } from "../../policies/rules.ts";
import { deployFleet } from "../../stacks/fleet.ts";
import type { SecretSource } from "../../stacks/secret-source.ts";
import { deployTenant } from "../../stacks/tenant.ts";
import { construct } from "../support/construct.ts";
import { ed25519Pem, TEST_SECRETS } from "../support/good.ts";
import type { Registered } from "../support/construct.ts";
import { judged, say } from "../support/judge.ts";

const FILE = "Pulumi.prod.yaml";
const TEXT = readFileSync(join(import.meta.dirname, "../..", FILE), "utf8");
const CONFIG = (parse(TEXT) as { config: Record<string, unknown> }).config;
const SETTINGS = CONFIG["fluxbilling:fleet"];

/** Every violation of every rule of the pack over a stack. */
function violations(resources: readonly Registered[]): readonly string[] {
  return RULES.flatMap((rule) => say(rule, judged(resources)));
}

/** Secrets as the file names them. */
const SECRETS: SecretSource = {
  ...TEST_SECRETS,
  read: (reference, setting) =>
    setting.endsWith(".authority") ? ed25519Pem(0x22) : TEST_SECRETS.read(reference, setting),
};

describe(FILE, () => {
  const fleet = parseFleet(SETTINGS, FILE);

  it("is a fleet of a master, a standby and locations in NL and FI, whose data refuses to be deleted", () => {
    expect(fleet.protectData).toBe(true);
    expect(fleet.standby.country).not.toBe(fleet.master.country);
    expect(Object.values(fleet.locations).map(({ country }) => country)).toEqual(["NL", "FI"]);
  });

  it("spells out every setting, so that no default is left to be looked up", () => {
    expect(SETTINGS).toEqual(fleet);
  });

  it("names secrets by where they are and holds none", () => {
    expect(TEXT).not.toMatch(/PRIVATE KEY|AGE-SECRET-KEY|Password: [^{]/);
    expect(CONFIG["pulumi:disable-default-providers"]).toEqual(["kubernetes", "postgresql"]);
  });

  it("previews, the fleet and a tenant on each location, without a violation", async () => {
    const resources = await construct(() => {
      deployFleet(fleet, SECRETS);
    });
    expect(resources.length).toBeGreaterThan(50);
    expect(violations(resources)).toEqual([]);
    for (const location of Object.keys(fleet.locations)) {
      const tenant = parseTenant({ name: "acme", location }, FILE);
      const made = await construct(() =>
        deployTenant(fleet, tenant, placeTenant(fleet, tenant), SECRETS),
      );
      expect(violations(made)).toEqual([]);
    }
  });
});
