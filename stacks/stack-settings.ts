import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parse } from "yaml";
import { refuseSharedKeys } from "../model/environments.ts";
import type { OtherFleet } from "../model/environments.ts";
import { Refusal } from "../model/refusal.ts";
import {
  hostLocation,
  hostStackName,
  parseFleet,
  parseHost,
  parseTenant,
  placeTenant,
} from "../model/settings.ts";
import type {
  FleetSettings,
  HostSettings,
  LocationSettings,
  Placement,
  TenantSettings,
} from "../model/settings.ts";
import { tenantStackName } from "../model/tenant-name.ts";

/** The settings of this project as a stack may hold them. */
export interface RawSettings {
  /** `fluxbilling:fleet`. */
  readonly fleet?: unknown;
  /** `fluxbilling:tenant`. */
  readonly tenant?: unknown;
  /** `fluxbilling:host`. */
  readonly host?: unknown;
  /** `fluxbilling:fleetFile`. */
  readonly fleetFile?: string | undefined;
}

/** What a stack is: the fleet, one tenant of it, or the host of one location before the fleet has it. */
export type StackSettings =
  | { readonly kind: "fleet"; readonly fleet: FleetSettings }
  | {
      readonly kind: "tenant";
      readonly fleet: FleetSettings;
      readonly tenant: TenantSettings;
      readonly placement: Placement;
    }
  | {
      readonly kind: "host";
      readonly fleet: FleetSettings;
      readonly host: HostSettings;
      readonly location: LocationSettings;
    };

const KINDS = ["fleet", "tenant", "host"] as const;

/**
 * What a stack is to be, with every setting checked.
 *
 * @param stack Name of the stack.
 * @param folder Folder of the project, from which `fluxbilling:fleetFile` is found; it holds the settings of the other
 * environments too.
 * @throws Refusal Of every kind that settings can be refused for.
 */
export function stackSettings(raw: RawSettings, stack: string, folder: string): StackSettings {
  const source = `Pulumi.${stack}.yaml`;
  const [kind, ...others] = KINDS.filter((key) => raw[key] !== undefined);
  if (kind === undefined || others.length > 0) {
    const held = kind === undefined ? "none" : [kind, ...others].join(" and ");
    throw new Refusal(
      "STACK_KIND",
      `Stack "${stack}": must hold one of fluxbilling:fleet, fluxbilling:tenant and fluxbilling:host, got ${held}. Keep the one that this stack is in ${source}.`,
    );
  }
  if (kind === "fleet") {
    const fleet = parseFleet(raw.fleet, source);
    checkStackName(stack, fleet.name, "a fleet's stack must be called as the fleet");
    refuseSharedKeys(fleet, otherFleets(source, stack, folder));
    return { kind: "fleet", fleet };
  }
  if (kind === "host") {
    const host = parseHost(raw.host, source);
    const fleet = readFleetFile(raw.fleetFile, stack, folder);
    const location = hostLocation(fleet, host);
    checkStackName(
      stack,
      hostStackName(fleet.name, host.location),
      "a host's stack must be called <fleet>.host.<location>",
    );
    return { kind, fleet, host, location };
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

/** The fleets whose settings lie beside this stack's; tenants' settings are told apart without being parsed. */
function otherFleets(source: string, stack: string, folder: string): readonly OtherFleet[] {
  const refuse: RefuseFile = (rule, got, cause) =>
    new Refusal(
      "FLEET_FILE",
      `Stack "${stack}": another environment's settings ${rule}, got ${got}. Correct that file or remove it: no two environments may share a key.`,
      { cause },
    );
  return readdirSync(folder)
    .filter((file) => /^Pulumi\..+\.yaml$/.test(file) && file !== source)
    .flatMap((file) => {
      const text = readText(join(folder, file), file, refuse);
      if (!/fluxbilling:fleet\b/.test(text)) return [];
      const fleet = fleetIn(text, file, refuse);
      return fleet === undefined ? [] : [{ source: file, fleet: parseFleet(fleet, file) }];
    });
}

function readFleetFile(path: string | undefined, stack: string, folder: string): FleetSettings {
  const refuse: RefuseFile = (rule, got, cause) =>
    new Refusal(
      "FLEET_FILE",
      `Stack "${stack}": fluxbilling:fleetFile ${rule}, got ${got}. Set it to the fleet's settings, for example Pulumi.prod.yaml.`,
      { cause },
    );
  if (path === undefined || path === "") {
    throw refuse("must be the path of the fleet's settings", "none");
  }
  const fleet = fleetIn(readText(resolve(folder, path), path, refuse), path, refuse);
  if (fleet === undefined) {
    throw refuse("must be a file with fluxbilling:fleet under config", `none in "${path}"`);
  }
  return parseFleet(fleet, path);
}

/** Words the fault of one file, for whom it was read. */
type RefuseFile = (rule: string, got: string, cause?: unknown) => Refusal;

function readText(file: string, path: string, refuse: RefuseFile): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? "an unknown fault";
    throw refuse("must be a readable file", `${reason} at "${path}"`, error);
  }
}

/** What a settings file has under `fluxbilling:fleet`, unchecked. */
function fleetIn(text: string, path: string, refuse: RefuseFile): unknown {
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
  return typeof config === "object" && config !== null && "fluxbilling:fleet" in config
    ? config["fluxbilling:fleet"]
    : undefined;
}
