import {
  ENTRYPOINTS_ANNOTATION,
  HEADERS_MIDDLEWARE,
  middlewareReference,
  MIDDLEWARES_ANNOTATION,
  TLS_ANNOTATION,
} from "../../model/headers.ts";
import { isTraefik, metadataOf } from "../kubernetes-objects.ts";
import { resourceRule } from "../rule.ts";

interface IngressSpec {
  readonly defaultBackend?: unknown;
  readonly tls?: readonly { readonly hosts?: readonly string[] }[];
  readonly rules?: readonly { readonly host?: string }[];
}

interface RouteSpec {
  readonly entryPoints?: readonly string[];
  readonly tls?: { readonly options?: unknown };
  readonly routes?: readonly { readonly middlewares?: readonly { readonly name?: string }[] }[];
}

/** The one way in without TLS: it sends everyone to HTTPS and serves nothing. */
const REDIRECT = "redirect-to-https";

const OPTIONS_ANNOTATION = "traefik.ingress.kubernetes.io/router.tls.options";

/**
 * Every way in ends TLS by the default options for every host it serves and sends the security headers.
 *
 * Why: HSTS and the TLS floor are promised for every host; a route that names other options moves
 * its host off the floor.
 * Blind to: what the headers are, which another rule judges.
 */
export const ingressSpeaksTlsOnly = resourceRule(
  {
    name: "ingress-speaks-tls-only",
    description:
      "Every way in ends TLS by the default options for every host it serves and sends the security headers.",
    group: "transport",
    severity: "critical",
    claims: ["F9", "F10", "P1"],
    references: [
      "PCI DSS 4.0.1 4.2.1",
      "SOC 2 CC6.7",
      "ISO 27001:2022 A.8.24",
      "GDPR Art. 32(1)(a)",
    ],
    remediation:
      "Serve the host on the entry point websecure with TLS, the default options and the security headers.",
    judges: (type) =>
      type === "kubernetes:networking.k8s.io/v1:Ingress" || isTraefik(type, "IngressRoute"),
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
      const spec = (subject.props as { spec?: RouteSpec }).spec ?? {};
      const used = (spec.routes ?? []).map(({ middlewares }) =>
        (middlewares ?? []).map(({ name }) => name ?? ""),
      );
      if (used.length > 0 && used.every((names) => names.length === 1 && names[0] === REDIRECT)) {
        return;
      }
      if ((spec.entryPoints ?? []).join(",") !== "websecure") {
        report(
          `${subject.name}: entryPoints must be websecure alone, got ${(spec.entryPoints ?? []).join(", ") || "none, which means all"}.`,
        );
      }
      if (spec.tls === undefined) {
        report(`${subject.name}: tls must be set, got none.`);
      } else if (spec.tls.options !== undefined) {
        report(`${subject.name}: tls.options must not be set, got some.`);
      }
      for (const names of used) {
        if (!names.includes(HEADERS_MIDDLEWARE)) {
          report(
            `${subject.name}: each route must use middleware ${HEADERS_MIDDLEWARE}, got ${names.join(", ") || "none"}.`,
          );
        }
      }
    }
  },
);
