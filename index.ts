import * as pulumi from "@pulumi/pulumi";
import { Refusal } from "./model/refusal.ts";
import { deployFleet } from "./stacks/fleet.ts";
import type { FleetOutputs } from "./stacks/fleet.ts";
import { deployHost } from "./stacks/host.ts";
import type { HostOutputs } from "./stacks/host.ts";
import { writeSecretsAsData } from "./stacks/secret-data.ts";
import { secretSource } from "./stacks/secret-source.ts";
import { stackSettings } from "./stacks/stack-settings.ts";
import { deployTenant } from "./stacks/tenant.ts";
import type { TenantOutputs } from "./stacks/tenant.ts";

const config = new pulumi.Config("fluxbilling");
const folder = import.meta.dirname;

type StackOutputs = FleetOutputs | TenantOutputs | HostOutputs;

async function deploy(): Promise<StackOutputs> {
  const settings = stackSettings(
    {
      fleet: config.getObject<unknown>("fleet"),
      tenant: config.getObject<unknown>("tenant"),
      host: config.getObject<unknown>("host"),
      fleetFile: config.get("fleetFile"),
    },
    pulumi.getStack(),
    folder,
  );
  const secrets = secretSource(folder, process.env);
  writeSecretsAsData();
  switch (settings.kind) {
    case "fleet":
      return deployFleet(settings.fleet, secrets);
    case "tenant":
      return deployTenant(settings.fleet, settings.tenant, settings.placement, secrets);
    case "host":
      return deployHost(settings.fleet, settings.host, settings.location, secrets);
  }
}

async function deployOrExplain(): Promise<StackOutputs> {
  try {
    return await deploy();
  } catch (error) {
    // A refusal is for the person at the keyboard: the engine shows it without a stack trace.
    throw error instanceof Refusal ? new pulumi.RunError(error.message) : error;
  }
}

// The default export is what the engine takes as the stack's outputs; named exports could not
// differ between kinds of stacks without a warning for those that are not there.
export default await deployOrExplain();
