import type { ResourceValidationPolicy } from "@pulumi/policy";
import { LOCATION_LABEL } from "../../model/labels.ts";
import { failClosed } from "../fail-closed.ts";
import { metadataOf } from "../kubernetes-objects.ts";

const CLUSTER = /^(?<machine>.+)-cluster$/;
const SERVER = /^(?<machine>.+)-server$/;

/**
 * Every object goes to the cluster or server of the location that it names, through a provider made for it.
 *
 * Why: with a provider from the environment, or another location's, data lands in the wrong zone.
 * Blind to: where the provider's address really leads; the settings say that.
 */
export const providerIsTheLocationsOwn: ResourceValidationPolicy = {
  name: "provider-is-the-locations-own",
  description:
    "Every object goes to the cluster or server of the location that it names, through a provider made for it.",
  enforcementLevel: "mandatory",
  validateResource: failClosed((args, report) => {
    const pattern = args.type.startsWith("kubernetes:")
      ? CLUSTER
      : args.type.startsWith("postgresql:")
        ? SERVER
        : undefined;
    if (pattern === undefined) {
      return;
    }
    const name = args.provider?.name ?? "none";
    const machine = pattern.exec(name)?.groups?.["machine"];
    if (machine === undefined) {
      report(
        `${args.name}: provider must be <location>-${pattern === CLUSTER ? "cluster" : "server"}, got ${name}.`,
      );
      return;
    }
    if (pattern === SERVER) {
      return;
    }
    const location = metadataOf(args.props).labels?.[LOCATION_LABEL];
    if (location !== machine) {
      report(
        `${args.name}: label ${LOCATION_LABEL} must be ${machine}, the location of its provider, got ${location ?? "none"}.`,
      );
    }
  }),
};
