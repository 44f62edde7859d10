import * as pulumi from "@pulumi/pulumi";
import { Refusal } from "./model/refusal.ts";
import { deployFleet } from "./stacks/fleet.ts";
import { secretSource } from "./stacks/secret-source.ts";
import { stackSettings } from "./stacks/stack-settings.ts";
import { deployTenant } from "./stacks/tenant.ts";

const config = new pulumi.Config("fluxbilling");
const folder = import.meta.dirname;

function deploy(): { readonly fleet?: object; readonly tenant?: object } {
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
  return settings.kind === "fleet"
    ? { fleet: deployFleet(settings.fleet, secrets) }
    : { tenant: deployTenant(settings.fleet, settings.tenant, settings.placement, secrets) };
}

function deployOrExplain(): ReturnType<typeof deploy> {
  try {
    return deploy();
  } catch (error) {
    // A refusal is for the person at the keyboard: the engine shows it without a stack trace.
    throw error instanceof Refusal ? new pulumi.RunError(error.message) : error;
  }
}

/** Outputs of the stack, under what it is: `fleet` or `tenant`. */
export const { fleet, tenant } = deployOrExplain();
