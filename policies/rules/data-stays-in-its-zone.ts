import type { ResourceValidationPolicy } from "@pulumi/policy";
import { isZone, needsContract, ZONES } from "../../model/zone.ts";
import { failClosed } from "../fail-closed.ts";

interface Placed {
  readonly zone?: string;
  readonly locationZone?: string;
  readonly backupStoreZone?: string;
  readonly contractRef?: string;
}

/**
 * A tenant, its location and its backup store lie in one zone.
 *
 * Why: "data does not leave the contracted region" covers the copies as well as the live database.
 * Blind to: what an application sends out by itself; a location that names a zone it is not in.
 */
export const dataStaysInItsZone: ResourceValidationPolicy = {
  name: "data-stays-in-its-zone",
  description: "A tenant, its location and its backup store lie in one zone.",
  enforcementLevel: "mandatory",
  validateResource: failClosed((args, report) => {
    const isTenant = args.type === "fluxbilling:tenant:Tenant";
    if (!isTenant && args.type !== "fluxbilling:fleet:Location") {
      return;
    }
    const placed = args.props as Placed;
    const zone = placed.zone;
    if (!isZone(zone)) {
      report(`${args.name}: zone must be one of ${ZONES.join(", ")}, got ${zone ?? "none"}.`);
      return;
    }
    if (isTenant && placed.locationZone !== zone) {
      report(
        `${args.name}: its location must lie in zone ${zone}, got zone ${placed.locationZone ?? "none"}.`,
      );
    }
    if (placed.backupStoreZone !== zone) {
      report(
        `${args.name}: its backup store must lie in zone ${zone}, got zone ${placed.backupStoreZone ?? "none"}.`,
      );
    }
    if (isTenant && needsContract(zone) && (placed.contractRef ?? "") === "") {
      report(`${args.name}: zone ${zone} must come with a contract's reference, got none.`);
    }
  }),
};
