import { EDGE_NAMESPACE } from "./labels.ts";

/** How long a browser insists on HTTPS, in seconds: one year, and no policy accepts less. */
export const HSTS_SECONDS = 31_536_000;

/**
 * Headers on every answer of a tenant's host, as Traefik's middleware words them. The content
 * security policy with a nonce per request is the application's to send.
 */
export const SECURITY_HEADERS = {
  stsSeconds: HSTS_SECONDS,
  stsIncludeSubdomains: true,
  contentTypeNosniff: true,
  frameDeny: true,
  browserXssFilter: true,
  referrerPolicy: "strict-origin-when-cross-origin",
  permissionsPolicy: "camera=(), geolocation=(), microphone=()",
} as const;

/** Name of the middleware with {@link SECURITY_HEADERS} in each tenant's namespace. */
export const HEADERS_MIDDLEWARE = "security-headers";
/** Name of the middleware that limits requests. */
export const RATE_MIDDLEWARE = "rate-limit";
/**
 * Name of the middleware that answers 402 for every suspended tenant of a location. It lies in the
 * location's {@link EDGE_NAMESPACE}, and is the only one that a route may name outside its own.
 */
export const SUSPENDED_MIDDLEWARE = "suspended";
/** Names of the middlewares that {@link SUSPENDED_MIDDLEWARE} is made of, in their order. */
export const SUSPENDED_CHAIN = ["suspended-visitor", "suspended-page", "suspended-shut"] as const;
/**
 * Headers by which a tenant's application knows a visitor, as Traefik's middleware takes them away:
 * the page, which all suspended tenants share, is told none of them.
 */
export const WITHOUT_VISITOR = { Authorization: "", Cookie: "" } as const;

/** Oldest TLS that an ingress speaks, as Traefik words it. */
export const TLS_MIN_VERSION = "VersionTLS13";
/** The one TLSOption that applies to every host which names no other. */
export const TLS_OPTION_NAME = "default";

/** Annotation of an Ingress: its middlewares, in Traefik's notation. */
export const MIDDLEWARES_ANNOTATION = "traefik.ingress.kubernetes.io/router.middlewares";
/** Annotation of an Ingress: the entry points that serve it. */
export const ENTRYPOINTS_ANNOTATION = "traefik.ingress.kubernetes.io/router.entrypoints";
/** Annotation of an Ingress: whether TLS ends here. */
export const TLS_ANNOTATION = "traefik.ingress.kubernetes.io/router.tls";

/** A middleware of a namespace, as an Ingress names it. */
export function middlewareReference(namespace: string, name: string): string {
  return `${namespace}-${name}@kubernetescrd`;
}

/** {@link SUSPENDED_MIDDLEWARE} as a suspended tenant's Ingress names it. */
export const SUSPENDED_REFERENCE = middlewareReference(EDGE_NAMESPACE, SUSPENDED_MIDDLEWARE);
