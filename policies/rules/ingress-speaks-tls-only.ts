import {
  ENTRYPOINTS_ANNOTATION,
  HEADERS_MIDDLEWARE,
  middlewareReference,
  MIDDLEWARES_ANNOTATION,
  TLS_ANNOTATION,
} from "../../model/headers.ts";
import { MQTT_ENTRY_POINT } from "../../model/network.ts";
import { isRoute, isTraefik, metadataOf, routeSpecOf } from "../kubernetes-objects.ts";
import type { RouteSpec } from "../kubernetes-objects.ts";
import { resourceRule } from "../rule.ts";
import type { Report } from "../rule.ts";

interface IngressSpec {
  readonly defaultBackend?: unknown;
  readonly tls?: readonly { readonly hosts?: readonly string[] }[];
  readonly rules?: readonly { readonly host?: string }[];
}

/** The one way in without TLS: it sends everyone to HTTPS and serves nothing. */
const REDIRECT = "redirect-to-https";

const OPTIONS_ANNOTATION = "traefik.ingress.kubernetes.io/router.tls.options";

/**
 * Every way in ends TLS by the default options for every host it serves, and over HTTP sends the security headers.
 *
 * Why: HSTS and the TLS floor are promised for every host; a route that names other options moves
 * its host off the floor, and one that passes TLS through leaves the floor to whoever is behind it.
 * Blind to: what the headers are, which another rule judges.
 */
export const ingressSpeaksTlsOnly = resourceRule(
  {
    name: "ingress-speaks-tls-only",
    description:
      "Every way in ends TLS by the default options for every host it serves, and over HTTP sends the security headers.",
    group: "transport",
    severity: "critical",
    claims: ["F9", "F10", "P1", "W12"],
    references: [
      "PCI DSS 4.0.1 4.2.1",
      "SOC 2 CC6.7",
      "ISO 27001:2022 A.8.24",
      "GDPR Art. 32(1)(a)",
    ],
    remediation:
      "Serve the host on the entry point websecure with TLS, the default options and the security headers; MQTT on mqtts.",
    judges: (type) => type === "kubernetes:networking.k8s.io/v1:Ingress" || isRoute(type),
  },
  (subject, report) => {
    const { namespace = "", annotations = {} } = metadataOf(subject.props);
    if (subject.type === "kubernetes:networking.k8s.io/v1:Ingress") {
      const spec = (subject.props as { spec?: IngressSpec }).spec ?? {};
      if (annotations[ENTRYPOINTS_ANNOTATION] !== "websecure") {
        report(
          `${subject.name}: annotation ${ENTRYPOINTS_ANNOTATION} must be websecure, got ${annotations[ENTRYPOINTS_ANNOTATION] ?? "none"}.`,
        );
      }
      if (annotations[TLS_ANNOTATION] !== "true") {
        report(
          `${subject.name}: annotation ${TLS_ANNOTATION} must be true, got ${annotations[TLS_ANNOTATION] ?? "none"}.`,
        );
      }
      if (annotations[OPTIONS_ANNOTATION] !== undefined) {
        report(
          `${subject.name}: annotation ${OPTIONS_ANNOTATION} must not be set, got ${annotations[OPTIONS_ANNOTATION]}.`,
        );
      }
      const headers = middlewareReference(namespace, HEADERS_MIDDLEWARE);
      const middlewares = annotations[MIDDLEWARES_ANNOTATION] ?? "none";
      if (!middlewares.split(",").includes(headers)) {
        report(
          `${subject.name}: annotation ${MIDDLEWARES_ANNOTATION} must name ${headers}, got ${middlewares}.`,
        );
      }
      const covered = (spec.tls ?? []).flatMap(({ hosts }) => [...(hosts ?? [])]);
      for (const { host } of spec.rules ?? []) {
        if (host === undefined || host === "" || host.includes("*")) {
          report(`${subject.name}: each rule must name one host, got ${host ?? "none"}.`);
        } else if (!covered.includes(host)) {
          report(
            `${subject.name}: spec.tls must name host ${host}, got ${covered.join(", ") || "none"}.`,
          );
        }
      }
      if (spec.defaultBackend !== undefined) {
        report(`${subject.name}: defaultBackend must not be set, got one.`);
      }
    } else if (isTraefik(subject.type, "IngressRoute")) {
      const spec = routeSpecOf(subject.props);
      const used = (spec.routes ?? []).map(({ middlewares }) =>
        (middlewares ?? []).map(({ name }) => name ?? ""),
      );
      if (used.length > 0 && used.every((names) => names.length === 1 && names[0] === REDIRECT)) {
        return;
      }
      judgeEnd(subject.name, spec, "websecure", report);
      for (const names of used) {
        if (!names.includes(HEADERS_MIDDLEWARE)) {
          report(
            `${subject.name}: each route must use middleware ${HEADERS_MIDDLEWARE}, got ${names.join(", ") || "none"}.`,
          );
        }
      }
    } else if (isTraefik(subject.type, "IngressRouteTCP")) {
      judgeEnd(subject.name, routeSpecOf(subject.props), MQTT_ENTRY_POINT, report);
    }
  },
);

/** Where TLS ends, and by which options. */
function judgeEnd(
  name: string,
  { entryPoints = [], tls }: RouteSpec,
  entryPoint: string,
  report: Report,
): void {
  if (entryPoints.join(",") !== entryPoint) {
    report(
      `${name}: entryPoints must be ${entryPoint} alone, got ${entryPoints.join(", ") || "none, which means all"}.`,
    );
  }
  if (tls === undefined) {
    report(`${name}: tls must be set, got none.`);
    return;
  }
  if (tls.options !== undefined) {
    report(`${name}: tls.options must not be set, got some.`);
  }
  if (tls.passthrough === true) {
    report(`${name}: tls.passthrough must be false, got true.`);
  }
}
