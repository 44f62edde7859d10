import type { ResourceValidationPolicy } from "@pulumi/policy";
import {
  CONTRACT_ANNOTATION,
  LOCATION_LABEL,
  TENANT_LABEL,
  TENANT_NAMESPACE_PREFIX,
  ZONE_LABEL,
} from "../../model/labels.ts";
import { isZone, needsContract, ZONES } from "../../model/zone.ts";
import { failClosed } from "../fail-closed.ts";
import { isTenantNamespace, metadataOf } from "../kubernetes-objects.ts";

/**
 * Every namespace names its residency zone and its location, and a zone outside the default one comes with a contract.
 *
 * Why: a tenant's contract binds its data to a zone; a namespace without one can land anywhere.
 * Blind to: namespaces made outside Pulumi; whether the contract exists.
 */
export const namespaceNamesItsZone: ResourceValidationPolicy = {
  name: "namespace-names-its-zone",
  description:
    "Every namespace names its residency zone and its location, and a zone outside the default one comes with a contract.",
  enforcementLevel: "mandatory",
  validateResource: failClosed((args, report) => {
    if (args.type !== "kubernetes:core/v1:Namespace") {
      return;
    }
    const metadata = metadataOf(args.props);
    const zone = metadata.labels?.[ZONE_LABEL];
    if (!isZone(zone)) {
      report(
        `${args.name}: label ${ZONE_LABEL} must be one of ${ZONES.join(", ")}, got ${zone ?? "none"}.`,
      );
      return;
    }
    if ((metadata.labels?.[LOCATION_LABEL] ?? "") === "") {
      report(`${args.name}: label ${LOCATION_LABEL} must name a location, got none.`);
    }
    if (
      isTenantNamespace(metadata, TENANT_LABEL, TENANT_NAMESPACE_PREFIX) &&
      needsContract(zone) &&
      (metadata.annotations?.[CONTRACT_ANNOTATION] ?? "") === ""
    ) {
      report(
        `${args.name}: annotation ${CONTRACT_ANNOTATION} must name the contract for zone ${zone}, got none.`,
      );
    }
  }),
};
