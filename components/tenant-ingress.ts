import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import {
  ENTRYPOINTS_ANNOTATION,
  HEADERS_MIDDLEWARE,
  middlewareReference,
  MIDDLEWARES_ANNOTATION,
  RATE_MIDDLEWARE,
  SECURITY_HEADERS,
  SUSPENDED_REFERENCE,
  TLS_ANNOTATION,
} from "../model/headers.ts";
import { MQTT_ENTRY_POINT, MQTT_PORT_NAME } from "../model/network.ts";
import { PLANS } from "../model/plan.ts";
import type { PlanName } from "../model/plan.ts";
import type { CertificateSettings } from "../model/settings.ts";

/** What a tenant's way in needs to know. */
export interface TenantIngressArgs {
  readonly plan: PlanName;
  readonly namespace: k8s.core.v1.Namespace;
  readonly namespaceName: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Host under which the tenant is reached. */
  readonly host: string;
  /** Domain of all tenants; its wildcard certificate covers the host. */
  readonly tenantDomain: string;
  readonly certificates: CertificateSettings;
  /** Service of the application. */
  readonly serviceName: string;
  /** Whether the application speaks MQTT. */
  readonly mqtt: boolean;
  /** Whether the tenant is shut: whoever calls gets a 402 and a page that says so. */
  readonly suspended: boolean;
}

/**
 * The way from a browser to the tenant's application, and from a device that speaks MQTT.
 *
 * Holds: TLS only; the location's TLSOption applies, because no route names another; HSTS, the
 * security headers and the plan's rate limit are on every answer over HTTP. A suspended tenant keeps
 * its name and answers 402 to everyone, by what its location has for that ({@link SuspendedPage}): no
 * pod of its own is needed, and none is reached (claim F40).
 */
export class TenantIngress extends pulumi.ComponentResource {
  constructor(name: string, args: TenantIngressArgs, opts?: pulumi.ComponentResourceOptions) {
    super("fluxbilling:tenant:TenantIngress", name, {}, opts);
    const placed = { parent: this, dependsOn: [args.namespace], deletedWith: args.namespace };
    const custom = (kind: string, objectName: string, spec: object): pulumi.Resource =>
      new k8s.apiextensions.CustomResource(
        `${name}-${objectName}`,
        {
          apiVersion: "traefik.io/v1alpha1",
          kind,
          metadata: { name: objectName, namespace: args.namespaceName, labels: args.labels },
          spec,
        },
        placed,
      );
    const { requestsPerSecond } = PLANS[args.plan];

    const headers = custom("Middleware", HEADERS_MIDDLEWARE, { headers: SECURITY_HEADERS });
    const rate = custom("Middleware", RATE_MIDDLEWARE, {
      rateLimit: { average: requestsPerSecond, burst: requestsPerSecond * 2 },
    });
    new k8s.networking.v1.Ingress(
      `${name}-ingress`,
      {
        metadata: {
          name: "app",
          namespace: args.namespaceName,
          labels: args.labels,
          annotations: {
            [ENTRYPOINTS_ANNOTATION]: "websecure",
            [TLS_ANNOTATION]: "true",
            // Headers first: they are on a 429 and a 402 as well.
            [MIDDLEWARES_ANNOTATION]: [
              middlewareReference(args.namespaceName, HEADERS_MIDDLEWARE),
              middlewareReference(args.namespaceName, RATE_MIDDLEWARE),
              ...(args.suspended ? [SUSPENDED_REFERENCE] : []),
            ].join(","),
            ...resolverAnnotations(args),
            // Its address comes from the ingress controller, and nothing here needs it.
            "pulumi.com/skipAwait": "true",
          },
        },
        spec: {
          ingressClassName: "traefik",
          tls: [{ hosts: [args.host] }],
          rules: [
            {
              host: args.host,
              http: {
                paths: [
                  {
                    path: "/",
                    pathType: "Prefix",
                    backend: { service: { name: args.serviceName, port: { name: "http" } } },
                  },
                ],
              },
            },
          ],
        },
      },
      { ...placed, dependsOn: [args.namespace, headers, rate] },
    );
    if (args.mqtt) {
      custom("IngressRouteTCP", "mqtt", {
        entryPoints: [MQTT_ENTRY_POINT],
        routes: [
          {
            match: `HostSNI(\`${args.host}\`)`,
            services: [{ name: args.serviceName, port: MQTT_PORT_NAME }],
          },
        ],
        tls: routeTls(args),
      });
    }
    this.registerOutputs({});
  }
}

/** With the fleet's own authority the location's store has the wildcard already. */
function resolverAnnotations({
  certificates,
  tenantDomain,
}: TenantIngressArgs): Record<string, string> {
  return certificates.issuer === "fleet"
    ? {}
    : {
        "traefik.ingress.kubernetes.io/router.tls.certresolver": certificates.resolver,
        "traefik.ingress.kubernetes.io/router.tls.domains.0.main": `*.${tenantDomain}`,
      };
}

/** The same for a route, which has no annotations. */
function routeTls({ certificates, tenantDomain }: TenantIngressArgs): object {
  return certificates.issuer === "fleet"
    ? {}
    : { certResolver: certificates.resolver, domains: [{ main: `*.${tenantDomain}` }] };
}
