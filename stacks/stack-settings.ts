import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { parse } from "yaml";
import { Refusal } from "../model/refusal.ts";
import { parseFleet, parseTenant, placeTenant } from "../model/settings.ts";
import type { FleetSettings, Placement, TenantSettings } from "../model/settings.ts";
import { tenantStackName } from "../model/tenant-name.ts";

/** The three settings of this project as a stack may hold them. */
export interface RawSettings {
  /** `fluxbilling:fleet`. */
  readonly fleet?: unknown;
  /** `fluxbilling:tenant`. */
  readonly tenant?: unknown;
  /** `fluxbilling:fleetFile`. */
  readonly fleetFile?: string | undefined;
}

/** What a stack is: the fleet, or one tenant of it. */
export type StackSettings =
  | { readonly kind: "fleet"; readonly fleet: FleetSettings }
  | {
      readonly kind: "tenant";
      readonly fleet: FleetSettings;
      readonly tenant: TenantSettings;
      readonly placement: Placement;
    };

/**
 * What a stack is to be, with every setting checked.
 *
 * @param stack Name of the stack.
 * @param folder Folder of the project, from which `fluxbilling:fleetFile` is found.
 * @throws Refusal Of every kind that settings can be refused for.
 */
export function stackSettings(raw: RawSettings, stack: string, folder: string): StackSettings {
  const source = `Pulumi.${stack}.yaml`;
  if ((raw.fleet === undefined) === (raw.tenant === undefined)) {
    throw new Refusal(
      "STACK_KIND",
      `Stack "${stack}": must hold either fluxbilling:fleet or fluxbilling:tenant, got ${raw.fleet === undefined ? "neither" : "both"}. Keep the one of the two that this stack is in ${source}.`,
    );
  }
  if (raw.tenant === undefined) {
    const fleet = parseFleet(raw.fleet, source);
    checkStackName(stack, fleet.name, "a fleet's stack must be called as the fleet");
    return { kind: "fleet", fleet };
  }
  const tenant = parseTenant(raw.tenant, source);
  const fleet = readFleetFile(raw.fleetFile, stack, folder);
  checkStackName(
    stack,
    tenantStackName(fleet.name, tenant.name),
    "a tenant's stack must be called <fleet>.<tenant>",
  );
  return { kind: "tenant", fleet, tenant, placement: placeTenant(fleet, tenant) };
}

function checkStackName(stack: string, expected: string, rule: string): void {
  if (stack !== expected) {
    throw new Refusal(
      "STACK_NAME",
      `Stack "${stack}": ${rule}, "${expected}", got "${stack}". Select or make the stack "${expected}".`,
    );
  }
}

function readFleetFile(path: string | undefined, stack: string, folder: string): FleetSettings {
  const refuse = (rule: string, got: string, cause?: unknown): Refusal =>
    new Refusal(
      "FLEET_FILE",
      `Stack "${stack}": fluxbilling:fleetFile ${rule}, got ${got}. Set it to the fleet's settings, for example Pulumi.prod.yaml.`,
      { cause },
    );
  if (path === undefined || path === "") {
    throw refuse("must be the path of the fleet's settings", "none");
  }
  let text: string;
  try {
    text = readFileSync(resolve(folder, path), "utf8");
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? "an unknown fault";
    throw refuse("must be a readable file", `${reason} at "${path}"`, error);
  }
  let document: unknown;
  try {
    document = parse(text);
  } catch (error) {
    throw refuse("must be YAML", `a file that is not at "${path}"`, error);
  }
  const config =
    typeof document === "object" && document !== null && "config" in document
      ? document.config
      : undefined;
  const fleet =
    typeof config === "object" && config !== null && "fluxbilling:fleet" in config
      ? config["fluxbilling:fleet"]
      : undefined;
  if (fleet === undefined) {
    throw refuse("must be a file with fluxbilling:fleet under config", `none in "${path}"`);
  }
  return parseFleet(fleet, path);
}
