import { describe, expect, it } from "vitest";
import { TenantIngress } from "../../components/tenant-ingress.ts";
import type { TenantIngressArgs } from "../../components/tenant-ingress.ts";
import * as k8s from "@pulumi/kubernetes";
import { construct, inputOf, inputsOf } from "../support/construct.ts";
import type { Registered } from "../support/construct.ts";

const INGRESS = "kubernetes:networking.k8s.io/v1:Ingress";
const MIDDLEWARE = "kubernetes:traefik.io/v1alpha1:Middleware";
const TCP_ROUTE = "kubernetes:traefik.io/v1alpha1:IngressRouteTCP";

function ingress(args: Partial<TenantIngressArgs> = {}): Promise<readonly Registered[]> {
  return construct(() => {
    new TenantIngress("acme", {
      plan: "lite",
      namespace: new k8s.core.v1.Namespace("namespace", { metadata: { name: "tenant-acme" } }),
      namespaceName: "tenant-acme",
      labels: {},
      host: "acme.tenants.test",
      tenantDomain: "tenants.test",
      certificates: { issuer: "fleet" },
      serviceName: "app",
      mqtt: false,
      suspended: false,
      ...args,
    });
  });
}

describe("TenantIngress", () => {
  it("takes the tenant's host over TLS alone, with headers and rate limit before the application", async () => {
    const resources = await ingress();
    expect({
      annotations: inputOf(resources, INGRESS, "acme-ingress", "metadata.annotations"),
      spec: inputOf(resources, INGRESS, "acme-ingress", "spec"),
    }).toEqual({
      annotations: {
        "traefik.ingress.kubernetes.io/router.entrypoints": "websecure",
        "traefik.ingress.kubernetes.io/router.tls": "true",
        "traefik.ingress.kubernetes.io/router.middlewares":
          "tenant-acme-security-headers@kubernetescrd,tenant-acme-rate-limit@kubernetescrd",
        "pulumi.com/skipAwait": "true",
      },
      spec: {
        ingressClassName: "traefik",
        tls: [{ hosts: ["acme.tenants.test"] }],
        rules: [
          {
            host: "acme.tenants.test",
            http: {
              paths: [
                {
                  path: "/",
                  pathType: "Prefix",
                  backend: { service: { name: "app", port: { name: "http" } } },
                },
              ],
            },
          },
        ],
      },
    });
  });

  it("asks the resolver for the wildcard where certificates come by ACME", async () => {
    const certificates = { issuer: "acme", resolver: "letsencrypt" } as const;
    const resources = await ingress({ certificates });
    expect(inputOf(resources, INGRESS, "acme-ingress", "metadata.annotations")).toMatchObject({
      "traefik.ingress.kubernetes.io/router.tls.certresolver": "letsencrypt",
      "traefik.ingress.kubernetes.io/router.tls.domains.0.main": "*.tenants.test",
    });
  });

  it("limits requests by plan", async () => {
    const resources = await ingress({ plan: "business" });
    expect(inputOf(resources, MIDDLEWARE, "acme-rate-limit", "spec")).toEqual({
      rateLimit: { average: 100, burst: 200 },
    });
  });

  it("is for a suspended tenant the same but for what its location answers with, after headers and rate limit", async () => {
    const running = await ingress();
    const suspended = await ingress({ suspended: true });
    expect(named(suspended)).toEqual(named(running));
    expect(inputOf(suspended, INGRESS, "acme-ingress", "spec")).toEqual(
      inputOf(running, INGRESS, "acme-ingress", "spec"),
    );
    expect(inputOf(suspended, INGRESS, "acme-ingress", "metadata.annotations")).toEqual({
      ...(inputOf(running, INGRESS, "acme-ingress", "metadata.annotations") as object),
      "traefik.ingress.kubernetes.io/router.middlewares":
        "tenant-acme-security-headers@kubernetescrd,tenant-acme-rate-limit@kubernetescrd,fluxbilling-edge-suspended@kubernetescrd",
    });
  });

  it("takes MQTT over TLS at the tenant's own host, by the default options, where the application speaks it", async () => {
    const resources = await ingress({ mqtt: true });
    const spec = {
      entryPoints: ["mqtts"],
      routes: [
        {
          match: "HostSNI(`acme.tenants.test`)",
          services: [{ name: "app", port: "mqtt" }],
        },
      ],
    };
    expect(inputOf(resources, TCP_ROUTE, "acme-mqtt", "spec")).toEqual({ ...spec, tls: {} });
    expect(inputsOf(await ingress(), TCP_ROUTE)).toEqual({});
    const certificates = { issuer: "acme", resolver: "letsencrypt" } as const;
    const byAcme = await ingress({ mqtt: true, certificates });
    expect(inputOf(byAcme, TCP_ROUTE, "acme-mqtt", "spec")).toEqual({
      ...spec,
      tls: { certResolver: "letsencrypt", domains: [{ main: "*.tenants.test" }] },
    });
  });
});

function named(resources: readonly Registered[]): readonly string[] {
  return resources.map(({ type, name }) => `${type} ${name}`).toSorted();
}
