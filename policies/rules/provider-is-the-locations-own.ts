import { LOCATION_LABEL } from "../../model/labels.ts";
import { metadataOf } from "../kubernetes-objects.ts";
import { resourceRule } from "../rule.ts";

const CLUSTER = /^(?<machine>.+)-cluster$/;
const SERVER = /^(?<machine>.+)-server$/;

/**
 * Every object goes to the cluster or server of the location that it names, through a provider made for it.
 *
 * Why: with a provider from the environment, or another location's, data lands in the wrong zone.
 * Blind to: where the provider's address really leads; the settings say that.
 */
export const providerIsTheLocationsOwn = resourceRule(
  {
    name: "provider-is-the-locations-own",
    description:
      "Every object goes to the cluster or server of the location that it names, through a provider made for it.",
    group: "residency",
    severity: "critical",
    claims: ["F11", "F13"],
    references: ["GDPR Art. 44", "SOC 2 CC6.1", "ISO 27001:2022 A.5.31"],
    remediation: "Pass the providers of the location to the component.",
    judges: (type) => /^(kubernetes|postgresql):/.test(type),
    blindIn: {
      live: "a live object is asked of its own cluster or server, so the answer would always be yes",
    },
  },
  (subject, report) => {
    const pattern = subject.type.startsWith("kubernetes:")
      ? CLUSTER
      : subject.type.startsWith("postgresql:")
        ? SERVER
        : undefined;
    if (pattern === undefined) {
      return;
    }
    const name = subject.provider?.name ?? "none";
    const machine = pattern.exec(name)?.groups?.["machine"];
    if (machine === undefined) {
      report(
        `${subject.name}: provider must be <location>-${pattern === CLUSTER ? "cluster" : "server"}, got ${name}.`,
      );
      return;
    }
    if (pattern === SERVER) {
      return;
    }
    const location = metadataOf(subject.props).labels?.[LOCATION_LABEL];
    if (location !== machine) {
      report(
        `${subject.name}: label ${LOCATION_LABEL} must be ${machine}, the location of its provider, got ${location ?? "none"}.`,
      );
    }
  },
);
