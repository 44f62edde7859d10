import { isZone, needsContract, ZONES } from "../../model/zone.ts";
import { resourceRule } from "../rule.ts";

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
export const dataStaysInItsZone = resourceRule(
  {
    name: "data-stays-in-its-zone",
    description: "A tenant, its location and its backup store lie in one zone.",
    group: "residency",
    severity: "critical",
    claims: ["F11", "F12", "F13", "F20"],
    references: ["GDPR Art. 44", "ISO 27001:2022 A.5.31", "SOC 2 C1.1"],
    remediation: "Choose a location and a backup store of the contract's zone.",
    judges: (type) => /^fluxbilling:(tenant:Tenant|fleet:Location)$/.test(type),
    blindIn: {
      live: "where data was meant to lie is in the stack; live namespaces tell where it does",
    },
  },
  (subject, report) => {
    const isTenant = subject.type === "fluxbilling:tenant:Tenant";
    if (!isTenant && subject.type !== "fluxbilling:fleet:Location") {
      return;
    }
    const placed = subject.props as Placed;
    const zone = placed.zone;
    if (!isZone(zone)) {
      report(`${subject.name}: zone must be one of ${ZONES.join(", ")}, got ${zone ?? "none"}.`);
      return;
    }
    if (isTenant && placed.locationZone !== zone) {
      report(
        `${subject.name}: its location must lie in zone ${zone}, got zone ${placed.locationZone ?? "none"}.`,
      );
    }
    if (placed.backupStoreZone !== zone) {
      report(
        `${subject.name}: its backup store must lie in zone ${zone}, got zone ${placed.backupStoreZone ?? "none"}.`,
      );
    }
    if (isTenant && needsContract(zone) && (placed.contractRef ?? "") === "") {
      report(`${subject.name}: zone ${zone} must come with a contract's reference, got none.`);
    }
  },
);
