import type { ResourceValidationPolicy } from "@pulumi/policy";
import { failClosed } from "../fail-closed.ts";

interface ServiceSpec {
  readonly type?: string;
  readonly externalIPs?: readonly string[];
  readonly externalName?: string;
  readonly selector?: Readonly<Record<string, string>>;
}

/**
 * Every service is reached inside its cluster only and leads to pods of its own namespace.
 *
 * Why: a port on the node goes round ingress and network policies; an external name or address
 * leads a trusted ingress to a place of the tenant's choosing.
 * Blind to: endpoints written by hand.
 */
export const serviceStaysInside: ResourceValidationPolicy = {
  name: "service-stays-inside",
  description:
    "Every service is reached inside its cluster only and leads to pods of its own namespace.",
  enforcementLevel: "mandatory",
  validateResource: failClosed((args, report) => {
    if (
      /^kubernetes:(core\/v1:Endpoints|discovery\.k8s\.io\/[^:]+:EndpointSlice)$/.test(args.type)
    ) {
      report(`${args.name}: a service must find its pods by label, got endpoints written by hand.`);
      return;
    }
    if (args.type !== "kubernetes:core/v1:Service") {
      return;
    }
    const spec = (args.props as { spec?: ServiceSpec }).spec ?? {};
    if (spec.type !== undefined && spec.type !== "ClusterIP") {
      report(`${args.name}: type must be ClusterIP, got ${spec.type}.`);
    }
    if ((spec.externalIPs ?? []).length > 0) {
      report(
        `${args.name}: externalIPs must not be set, got ${spec.externalIPs?.join(", ") ?? ""}.`,
      );
    }
    if (spec.externalName !== undefined) {
      report(`${args.name}: externalName must not be set, got ${spec.externalName}.`);
    }
    if (Object.keys(spec.selector ?? {}).length === 0) {
      report(`${args.name}: selector must name the pods' labels, got none.`);
    }
  }),
};
