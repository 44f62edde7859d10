import {
  CONTRACT_ANNOTATION,
  LOCATION_LABEL,
  TENANT_LABEL,
  TENANT_NAMESPACE_PREFIX,
  ZONE_LABEL,
} from "../../model/labels.ts";
import { isZone, needsContract, ZONES } from "../../model/zone.ts";
import { isTenantNamespace, metadataOf } from "../kubernetes-objects.ts";
import { resourceRule } from "../rule.ts";

/**
 * Every namespace names its residency zone and its location, and a zone outside the default one comes with a contract.
 *
 * Why: a tenant's contract binds its data to a zone; a namespace without one can land anywhere.
 * Blind to: namespaces made outside Pulumi; whether the contract exists.
 */
export const namespaceNamesItsZone = resourceRule(
  {
    name: "namespace-names-its-zone",
    description:
      "Every namespace names its residency zone and its location, and a zone outside the default one comes with a contract.",
    group: "residency",
    severity: "high",
    claims: ["F11", "F12", "F13"],
    references: ["GDPR Art. 44", "ISO 27001:2022 A.5.31", "SOC 2 C1.1"],
    remediation: "Label the namespace with the zone and location of its contract.",
    judges: (type) => type === "kubernetes:core/v1:Namespace",
  },
  (subject, report) => {
    if (subject.type !== "kubernetes:core/v1:Namespace") {
      return;
    }
    const metadata = metadataOf(subject.props);
    const zone = metadata.labels?.[ZONE_LABEL];
    if (!isZone(zone)) {
      report(
        `${subject.name}: label ${ZONE_LABEL} must be one of ${ZONES.join(", ")}, got ${zone ?? "none"}.`,
      );
      return;
    }
    if ((metadata.labels?.[LOCATION_LABEL] ?? "") === "") {
      report(`${subject.name}: label ${LOCATION_LABEL} must name a location, got none.`);
    }
    if (
      isTenantNamespace(metadata, TENANT_LABEL, TENANT_NAMESPACE_PREFIX) &&
      needsContract(zone) &&
      (metadata.annotations?.[CONTRACT_ANNOTATION] ?? "") === ""
    ) {
      report(
        `${subject.name}: annotation ${CONTRACT_ANNOTATION} must name the contract for zone ${zone}, got none.`,
      );
    }
  },
);
