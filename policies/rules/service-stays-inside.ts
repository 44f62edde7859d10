import { resourceRule } from "../rule.ts";

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
export const serviceStaysInside = resourceRule(
  {
    name: "service-stays-inside",
    description:
      "Every service is reached inside its cluster only and leads to pods of its own namespace.",
    group: "isolation",
    severity: "high",
    claims: ["F1", "P12"],
    references: ["PCI DSS 4.0.1 1.3.1", "SOC 2 CC6.6", "ISO 27001:2022 A.8.22"],
    remediation: "Use a ClusterIP service with a selector; let the ingress lead in.",
    judges: (type) =>
      /^kubernetes:(core\/v1:(Service|Endpoints)|discovery\.k8s\.io\/[^:]+:EndpointSlice)$/.test(
        type,
      ),
  },
  (subject, report) => {
    if (
      /^kubernetes:(core\/v1:Endpoints|discovery\.k8s\.io\/[^:]+:EndpointSlice)$/.test(subject.type)
    ) {
      report(
        `${subject.name}: a service must find its pods by label, got endpoints written by hand.`,
      );
      return;
    }
    if (subject.type !== "kubernetes:core/v1:Service") {
      return;
    }
    const spec = (subject.props as { spec?: ServiceSpec }).spec ?? {};
    if (spec.type !== undefined && spec.type !== "ClusterIP") {
      report(`${subject.name}: type must be ClusterIP, got ${spec.type}.`);
    }
    if ((spec.externalIPs ?? []).length > 0) {
      report(
        `${subject.name}: externalIPs must not be set, got ${spec.externalIPs?.join(", ") ?? ""}.`,
      );
    }
    if (spec.externalName !== undefined) {
      report(`${subject.name}: externalName must not be set, got ${spec.externalName}.`);
    }
    if (Object.keys(spec.selector ?? {}).length === 0) {
      report(`${subject.name}: selector must name the pods' labels, got none.`);
    }
  },
);
