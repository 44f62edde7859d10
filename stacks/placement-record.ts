import * as pulumi from "@pulumi/pulumi";
import { Refusal } from "../model/refusal.ts";
import type { TenantSettings } from "../model/settings.ts";

/** Where a tenant's data was put. */
interface PlacementRecord {
  readonly location: string;
  readonly zone: string;
}

/**
 * Keeps in the stack's state where the tenant was first put, and refuses another place: a plain `up`
 * would make an empty database there and delete the one with the data.
 *
 * Resolves, at preview already, before anything else is registered.
 *
 * @throws Refusal `LOCATION_FIXED`.
 */
export async function refuseMove(settings: TenantSettings): Promise<void> {
  const wanted: PlacementRecord = { location: settings.location, zone: settings.zone };
  const record = new pulumi.Stash(`${settings.name}-placement`, { input: wanted });
  const first = await new Promise<PlacementRecord>((resolve) => {
    record.output.apply((value: PlacementRecord) => {
      resolve(value);
    });
  });
  if (first.location !== wanted.location || first.zone !== wanted.zone) {
    throw new Refusal(
      "LOCATION_FIXED",
      `Tenant "${settings.name}": location must stay "${first.location}" in zone ${first.zone}, where its data is, got "${wanted.location}" in zone ${wanted.zone}. Set fluxbilling:tenant.location and zone back; moving a tenant is an operation of its own.`,
    );
  }
}
