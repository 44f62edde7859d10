import * as pulumi from "@pulumi/pulumi";
import { Refusal } from "./model/refusal.ts";
import { deployFleet } from "./stacks/fleet.ts";
import type { FleetOutputs } from "./stacks/fleet.ts";
import { writeSecretsAsData } from "./stacks/secret-data.ts";
import { secretSource } from "./stacks/secret-source.ts";
import { stackSettings } from "./stacks/stack-settings.ts";
import { deployTenant } from "./stacks/tenant.ts";
import type { TenantOutputs } from "./stacks/tenant.ts";

const config = new pulumi.Config("fluxbilling");
const folder = import.meta.dirname;

async function deploy(): Promise<FleetOutputs | TenantOutputs> {
  const settings = stackSettings(
    {
      fleet: config.getObject<unknown>("fleet"),
      tenant: config.getObject<unknown>("tenant"),
      fleetFile: config.get("fleetFile"),
    },
    pulumi.getStack(),
    folder,
  );
  const secrets = secretSource(folder, process.env);
  writeSecretsAsData();
  return settings.kind === "fleet"
    ? deployFleet(settings.fleet, secrets)
    : deployTenant(settings.fleet, settings.tenant, settings.placement, secrets);
}

async function deployOrExplain(): Promise<FleetOutputs | TenantOutputs> {
  try {
    return await deploy();
  } catch (error) {
    // A refusal is for the person at the keyboard: the engine shows it without a stack trace.
    throw error instanceof Refusal ? new pulumi.RunError(error.message) : error;
  }
}

// The default export is what the engine takes as the stack's outputs; named exports could not
// differ between a fleet and a tenant without a warning for those that are not there.
export default await deployOrExplain();
