import type { ResourceValidationPolicy } from "@pulumi/policy";
import { HEADERS_MIDDLEWARE, HSTS_SECONDS } from "../../model/headers.ts";
import { failClosed } from "../fail-closed.ts";
import { isTraefik, metadataOf } from "../kubernetes-objects.ts";

interface Headers {
  readonly stsSeconds?: number;
  readonly stsIncludeSubdomains?: boolean;
  readonly contentTypeNosniff?: boolean;
  readonly frameDeny?: boolean;
}

/**
 * The security headers hold HSTS for at least a year with subdomains, nosniff and no framing.
 *
 * Why: a browser that was told so once cannot be brought back to plain HTTP.
 * Blind to: a content security policy, which the application sends with a nonce per request.
 */
export const headersInsistOnHttps: ResourceValidationPolicy = {
  name: "headers-insist-on-https",
  description:
    "The security headers hold HSTS for at least a year with subdomains, nosniff and no framing.",
  enforcementLevel: "mandatory",
  validateResource: failClosed((args, report) => {
    if (!isTraefik(args.type, "Middleware") || metadataOf(args.props).name !== HEADERS_MIDDLEWARE) {
      return;
    }
    const headers = (args.props as { spec?: { headers?: Headers } }).spec?.headers ?? {};
    if (!((headers.stsSeconds ?? 0) >= HSTS_SECONDS)) {
      report(
        `${args.name}: stsSeconds must be at least ${HSTS_SECONDS}, got ${headers.stsSeconds ?? "none"}.`,
      );
    }
    for (const key of ["stsIncludeSubdomains", "contentTypeNosniff", "frameDeny"] as const) {
      if (headers[key] !== true) {
        report(`${args.name}: ${key} must be true, got ${headers[key] ?? "none"}.`);
      }
    }
  }),
};
