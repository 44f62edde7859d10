import { describe, expect, it } from "vitest";
import { Refusal } from "../../model/refusal.ts";
import { placeTenant } from "../../model/settings.ts";
import { deployTenant } from "../../stacks/tenant.ts";
import type { TenantOutputs } from "../../stacks/tenant.ts";
import { construct } from "../support/construct.ts";
import { goodFleet, goodTenantSettings, TEST_SECRETS } from "../support/good.ts";

function deploy(settings: Readonly<Record<string, unknown>> = {}): Promise<TenantOutputs> {
  const fleet = goodFleet();
  const tenant = goodTenantSettings(settings);
  return deployTenant(fleet, tenant, placeTenant(fleet, tenant), TEST_SECRETS);
}

describe("a tenant's stack", () => {
  it("tells where the tenant is, and nothing secret", async () => {
    let outputs: TenantOutputs | undefined;
    await construct(async () => {
      outputs = await deploy();
    });
    expect(outputs).toEqual({
      url: "https://acme.tenants.test",
      ingressAddress: "10.77.0.21",
      namespace: "tenant-acme",
      database: "tenant_acme",
      location: "nl-1",
      zone: "eu",
      plan: "lite",
      backupStore: "master",
      backupSchedule: "37 4 * * *",
      suspended: false,
      network: { hosts: ["acme.tenants.test"], outboundAddresses: ["10.77.0.21"] },
    });
  });

  it("publishes the outbound addresses that its backup key is bound to", async () => {
    let outputs: TenantOutputs | undefined;
    const resources = await construct(async () => {
      outputs = await deploy();
    });
    const backup = resources.find(({ type }) => type === "fluxbilling:tenant:TenantBackup");
    expect(backup?.inputs).toMatchObject({
      sourceAddresses: outputs?.network.outboundAddresses.map((address) => `${address}/32`),
    });
  });

  it("refuses a plain move to another location, before anything of the tenant is registered", async () => {
    let refused: unknown;
    const resources = await construct(
      async () => {
        try {
          await deploy({ location: "fi-1" });
        } catch (error) {
          refused = error;
        }
      },
      { "acme-placement": { location: "nl-1", zone: "eu" } },
    );
    expect(refused).toEqual(
      new Refusal(
        "LOCATION_FIXED",
        'Tenant "acme": location must stay "nl-1" in zone eu, where its data is, got "fi-1" in zone eu. Set fluxbilling:tenant.location and zone back; moving a tenant is an operation of its own.',
      ),
    );
    // Providers make nothing by themselves.
    const made = resources.filter(({ type }) => !type.startsWith("pulumi:providers:"));
    expect(made).toEqual([]);
  });
});
