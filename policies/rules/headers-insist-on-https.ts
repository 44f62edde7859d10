import { HEADERS_MIDDLEWARE, HSTS_SECONDS } from "../../model/headers.ts";
import { isTraefik, metadataOf } from "../kubernetes-objects.ts";
import { resourceRule } from "../rule.ts";

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
export const headersInsistOnHttps = resourceRule(
  {
    name: "headers-insist-on-https",
    description:
      "The security headers hold HSTS for at least a year with subdomains, nosniff and no framing.",
    group: "transport",
    severity: "high",
    claims: ["F10", "P1", "X18"],
    references: ["PCI DSS 4.0.1 4.2.1", "SOC 2 CC6.7", "ISO 27001:2022 A.8.24"],
    remediation: "Use the headers of model/headers.ts as they are.",
    judges: (type) => isTraefik(type, "Middleware"),
  },
  (subject, report) => {
    if (
      !isTraefik(subject.type, "Middleware") ||
      metadataOf(subject.props).name !== HEADERS_MIDDLEWARE
    ) {
      return;
    }
    const headers = (subject.props as { spec?: { headers?: Headers } }).spec?.headers ?? {};
    if (!((headers.stsSeconds ?? 0) >= HSTS_SECONDS)) {
      report(
        `${subject.name}: stsSeconds must be at least ${HSTS_SECONDS}, got ${headers.stsSeconds ?? "none"}.`,
      );
    }
    for (const key of ["stsIncludeSubdomains", "contentTypeNosniff", "frameDeny"] as const) {
      if (headers[key] !== true) {
        report(`${subject.name}: ${key} must be true, got ${headers[key] ?? "none"}.`);
      }
    }
  },
);
