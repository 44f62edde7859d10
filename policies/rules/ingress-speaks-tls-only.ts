import type { ResourceValidationPolicy } from "@pulumi/policy";
import {
  ENTRYPOINTS_ANNOTATION,
  HEADERS_MIDDLEWARE,
  middlewareReference,
  MIDDLEWARES_ANNOTATION,
  TLS_ANNOTATION,
} from "../../model/headers.ts";
import { failClosed } from "../fail-closed.ts";
import { isTraefik, metadataOf } from "../kubernetes-objects.ts";

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
export const ingressSpeaksTlsOnly: ResourceValidationPolicy = {
  name: "ingress-speaks-tls-only",
  description:
    "Every way in ends TLS by the default options for every host it serves and sends the security headers.",
  enforcementLevel: "mandatory",
  validateResource: failClosed((args, report) => {
    const { namespace = "", annotations = {} } = metadataOf(args.props);
    if (args.type === "kubernetes:networking.k8s.io/v1:Ingress") {
      const spec = (args.props as { spec?: IngressSpec }).spec ?? {};
      if (annotations[ENTRYPOINTS_ANNOTATION] !== "websecure") {
        report(
          `${args.name}: annotation ${ENTRYPOINTS_ANNOTATION} must be websecure, got ${annotations[ENTRYPOINTS_ANNOTATION] ?? "none"}.`,
        );
      }
      if (annotations[TLS_ANNOTATION] !== "true") {
        report(
          `${args.name}: annotation ${TLS_ANNOTATION} must be true, got ${annotations[TLS_ANNOTATION] ?? "none"}.`,
        );
      }
      if (annotations[OPTIONS_ANNOTATION] !== undefined) {
        report(
          `${args.name}: annotation ${OPTIONS_ANNOTATION} must not be set, got ${annotations[OPTIONS_ANNOTATION]}.`,
        );
      }
      const headers = middlewareReference(namespace, HEADERS_MIDDLEWARE);
      const middlewares = annotations[MIDDLEWARES_ANNOTATION] ?? "none";
      if (!middlewares.split(",").includes(headers)) {
        report(
          `${args.name}: annotation ${MIDDLEWARES_ANNOTATION} must name ${headers}, got ${middlewares}.`,
        );
      }
      const covered = (spec.tls ?? []).flatMap(({ hosts }) => [...(hosts ?? [])]);
      for (const { host } of spec.rules ?? []) {
        if (host === undefined || host === "" || host.includes("*")) {
          report(`${args.name}: each rule must name one host, got ${host ?? "none"}.`);
        } else if (!covered.includes(host)) {
          report(
            `${args.name}: spec.tls must name host ${host}, got ${covered.join(", ") || "none"}.`,
          );
        }
      }
      if (spec.defaultBackend !== undefined) {
        report(`${args.name}: defaultBackend must not be set, got one.`);
      }
    } else if (isTraefik(args.type, "IngressRoute")) {
      const spec = (args.props as { spec?: RouteSpec }).spec ?? {};
      const used = (spec.routes ?? []).map(({ middlewares }) =>
        (middlewares ?? []).map(({ name }) => name ?? ""),
      );
      if (used.length > 0 && used.every((names) => names.length === 1 && names[0] === REDIRECT)) {
        return;
      }
      if ((spec.entryPoints ?? []).join(",") !== "websecure") {
        report(
          `${args.name}: entryPoints must be websecure alone, got ${(spec.entryPoints ?? []).join(", ") || "none, which means all"}.`,
        );
      }
      if (spec.tls === undefined) {
        report(`${args.name}: tls must be set, got none.`);
      } else if (spec.tls.options !== undefined) {
        report(`${args.name}: tls.options must not be set, got some.`);
      }
      for (const names of used) {
        if (!names.includes(HEADERS_MIDDLEWARE)) {
          report(
            `${args.name}: each route must use middleware ${HEADERS_MIDDLEWARE}, got ${names.join(", ") || "none"}.`,
          );
        }
      }
    }
  }),
};
