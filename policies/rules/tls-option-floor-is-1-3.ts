import type { ResourceValidationPolicy } from "@pulumi/policy";
import { TLS_MIN_VERSION } from "../../model/headers.ts";
import { failClosed } from "../fail-closed.ts";
import { isTraefik } from "../kubernetes-objects.ts";

/**
 * No TLSOption lets a client speak TLS older than 1.3.
 *
 * Why: one option with a lower floor lowers every host that names it, or all of them.
 * Blind to: what the ingress was started with; options made by hand.
 */
export const tlsOptionFloorIs13: ResourceValidationPolicy = {
  name: "tls-option-floor-is-1-3",
  description: "No TLSOption lets a client speak TLS older than 1.3.",
  enforcementLevel: "mandatory",
  validateResource: failClosed((args, report) => {
    if (!isTraefik(args.type, "TLSOption")) {
      return;
    }
    const spec = (args.props as { spec?: { minVersion?: string; maxVersion?: string } }).spec;
    if (spec?.minVersion !== TLS_MIN_VERSION) {
      report(
        `${args.name}: minVersion must be ${TLS_MIN_VERSION}, got ${spec?.minVersion ?? "none, which means VersionTLS12"}.`,
      );
    }
    if (spec?.maxVersion !== undefined) {
      report(`${args.name}: maxVersion must not be set, got ${spec.maxVersion}.`);
    }
  }),
};
