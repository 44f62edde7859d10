import { MIDDLEWARES_ANNOTATION, SUSPENDED_REFERENCE } from "../../model/headers.ts";
import { isRoute, metadataOf, routeSpecOf } from "../kubernetes-objects.ts";
import { resourceRule } from "../rule.ts";

/**
 * Every route leads to services and middlewares of its own namespace, but for the one middleware that answers for suspended tenants.
 *
 * Why: the ingress is trusted by every tenant's pods, so a route into another namespace goes round its policies.
 * Blind to: what the ingress itself was allowed to do across namespaces; what that one middleware does, which another rule judges.
 */
export const routeStaysInItsNamespace = resourceRule(
  {
    name: "route-stays-in-its-namespace",
    description:
      "Every route leads to services and middlewares of its own namespace, but for the one middleware that answers for suspended tenants.",
    group: "isolation",
    severity: "critical",
    claims: ["F1", "P12", "W12"],
    references: [
      "PCI DSS 4.0.1 1.3.1",
      "PCI DSS 4.0.1 A1.1.2",
      "SOC 2 CC6.6",
      "ISO 27001:2022 A.8.22",
    ],
    remediation: "Name services and middlewares of the route's own namespace, without a namespace.",
    judges: (type) => type === "kubernetes:networking.k8s.io/v1:Ingress" || isRoute(type),
  },
  (subject, report) => {
    const { namespace = "", annotations = {} } = metadataOf(subject.props);
    const foreign = (reference: string): void => {
      report(`${subject.name}: a reference must stay in namespace ${namespace}, got ${reference}.`);
    };
    for (const reference of (annotations[MIDDLEWARES_ANNOTATION] ?? "").split(",")) {
      if (
        reference !== "" &&
        reference !== SUSPENDED_REFERENCE &&
        !reference.startsWith(`${namespace}-`)
      ) {
        foreign(reference);
      }
    }
    if (!isRoute(subject.type)) {
      return;
    }
    for (const { middlewares, services } of routeSpecOf(subject.props).routes ?? []) {
      for (const reference of [...(middlewares ?? []), ...(services ?? [])]) {
        const provider = (reference.name ?? "").split("@")[1];
        if (reference.namespace !== undefined && reference.namespace !== namespace) {
          foreign(`${reference.namespace}/${reference.name ?? "none"}`);
        } else if (provider !== undefined && provider !== "internal") {
          foreign(reference.name ?? "none");
        }
      }
    }
  },
);
