import { isZone, needsContract, ZONES } from "../../model/zone.ts";
import { resourceRule } from "../rule.ts";

interface Placed {
  readonly zone?: string;
  readonly locationZone?: string;
  readonly backupStoreZone?: string;
  readonly contractRef?: string;
  readonly masterZone?: string;
  readonly standbyZone?: string;
}

const TENANT = "fluxbilling:tenant:Tenant";
const LOCATION = "fluxbilling:fleet:Location";
const STANDBY = "fluxbilling:fleet:Standby";
const MIRROR = "fluxbilling:fleet:StoreMirror";

/**
 * A tenant, its location, its backup store and every copy of them lie in one zone.
 *
 * Why: "data does not leave the contracted region" covers the copies as well as the live database.
 * Blind to: what an application sends out by itself; a location that names a zone it is not in.
 */
export const dataStaysInItsZone = resourceRule(
  {
    name: "data-stays-in-its-zone",
    description: "A tenant, its location, its backup store and every copy of them lie in one zone.",
    group: "residency",
    severity: "critical",
    claims: ["F11", "F12", "F13", "F20"],
    references: ["GDPR Art. 44", "ISO 27001:2022 A.5.31", "SOC 2 C1.1"],
    remediation: "Choose a location and a backup store of the contract's zone.",
    judges: (type) => [TENANT, LOCATION, STANDBY, MIRROR].includes(type),
    blindIn: {
      live: "where data was meant to lie is in the stack; live namespaces tell where it does",
    },
  },
  (subject, report) => {
    const placed = subject.props as Placed;
    const zone = placed.zone;
    if (!isZone(zone)) {
      report(`${subject.name}: zone must be one of ${ZONES.join(", ")}, got ${zone ?? "none"}.`);
      return;
    }
    const lies = (what: string, there: string | undefined): void => {
      if (there !== zone) {
        report(
          `${subject.name}: its ${what} must lie in zone ${zone}, got zone ${there ?? "none"}.`,
        );
      }
    };
    if (subject.type === TENANT) {
      lies("location", placed.locationZone);
    }
    if (subject.type === TENANT || subject.type === LOCATION) {
      lies("backup store", placed.backupStoreZone);
    } else if (subject.type === STANDBY) {
      lies("master", placed.masterZone);
    } else {
      lies("standby", placed.standbyZone);
    }
    if (subject.type === TENANT && needsContract(zone) && (placed.contractRef ?? "") === "") {
      report(`${subject.name}: zone ${zone} must come with a contract's reference, got none.`);
    }
  },
);
