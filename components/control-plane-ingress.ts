import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import {
  ENTRYPOINTS_ANNOTATION,
  HEADERS_MIDDLEWARE,
  middlewareReference,
  MIDDLEWARES_ANNOTATION,
  RATE_MIDDLEWARE,
  SECURITY_HEADERS,
  TLS_ANNOTATION,
} from "../model/headers.ts";
import { COMPONENT_LABEL, CONTROL_PLANE_NAMESPACE } from "../model/labels.ts";
import { APP_PORT, INGRESS_POD_LABELS } from "../model/network.ts";
import {
  CONTROL_PLANE_HOSTS,
  controlPlaneHost,
  PANEL_REQUESTS_PER_SECOND,
} from "../model/panels.ts";
import type { ControlPlaneHost } from "../model/panels.ts";
import type { CertificateSettings } from "../model/settings.ts";
import { systemPods } from "./tenant-network.ts";

/** What the way in to the control plane needs to know. */
export interface ControlPlaneIngressArgs {
  readonly namespace: k8s.core.v1.Namespace;
  readonly labels: Readonly<Record<string, string>>;
  readonly panelDomain: string;
  readonly certificates: CertificateSettings;
}

/**
 * The way from a browser, or from whoever pulls an image, to what the control plane serves.
 *
 * Holds: the same as for a tenant: TLS only, by the master's one TLSOption; HSTS, the security headers and
 * a rate limit on every answer; pods of the control plane are reached by the ingress alone. A panel whose
 * pods are not there yet answers 503, by the same rules.
 */
export class ControlPlaneIngress extends pulumi.ComponentResource {
  constructor(name: string, args: ControlPlaneIngressArgs, opts?: pulumi.ComponentResourceOptions) {
    super("fluxbilling:fleet:ControlPlaneIngress", name, {}, opts);
    const placed = { parent: this, dependsOn: [args.namespace], deletedWith: args.namespace };
    const metadata = (objectName: string): k8s.types.input.meta.v1.ObjectMeta => ({
      name: objectName,
      namespace: CONTROL_PLANE_NAMESPACE,
      labels: args.labels,
    });
    const middlewares = Object.entries({
      [HEADERS_MIDDLEWARE]: { headers: SECURITY_HEADERS },
      [RATE_MIDDLEWARE]: {
        rateLimit: { average: PANEL_REQUESTS_PER_SECOND, burst: PANEL_REQUESTS_PER_SECOND * 2 },
      },
    }).map(
      ([objectName, spec]) =>
        new k8s.apiextensions.CustomResource(
          `${name}-${objectName}`,
          {
            apiVersion: "traefik.io/v1alpha1",
            kind: "Middleware",
            metadata: metadata(objectName),
            spec,
          },
          placed,
        ),
    );
    for (const component of ["panel", "registry"]) {
      new k8s.networking.v1.NetworkPolicy(
        `${name}-allow-${component}`,
        {
          metadata: metadata(`allow-${component}`),
          spec: {
            podSelector: { matchLabels: { [COMPONENT_LABEL]: component } },
            policyTypes: ["Ingress", "Egress"],
            ingress: [
              {
                from: [systemPods(INGRESS_POD_LABELS)],
                ports: [{ protocol: "TCP", port: APP_PORT }],
              },
            ],
          },
        },
        placed,
      );
    }
    for (const host of Object.keys(CONTROL_PLANE_HOSTS) as ControlPlaneHost[]) {
      this.#serve(name, host, args, [args.namespace, ...middlewares]);
    }
    this.registerOutputs({});
  }

  #serve(
    name: string,
    host: ControlPlaneHost,
    { namespace, labels, panelDomain, certificates }: ControlPlaneIngressArgs,
    dependsOn: pulumi.Resource[],
  ): void {
    const placed = { parent: this, dependsOn, deletedWith: namespace };
    const serviceName = CONTROL_PLANE_HOSTS[host];
    const hostName = controlPlaneHost(host, panelDomain);
    const metadata = { name: serviceName, namespace: CONTROL_PLANE_NAMESPACE, labels };
    // Neither waits for pods: a panel's come with the control plane itself.
    const unawaited = { "pulumi.com/skipAwait": "true" };
    new k8s.core.v1.Service(
      `${name}-${host}-service`,
      {
        metadata: { ...metadata, annotations: unawaited },
        spec: {
          type: "ClusterIP",
          selector: {
            "app.kubernetes.io/name": serviceName,
            [COMPONENT_LABEL]: host === "registry" ? "registry" : "panel",
          },
          ports: [{ name: "http", port: 80, targetPort: APP_PORT, protocol: "TCP" }],
        },
      },
      placed,
    );
    new k8s.networking.v1.Ingress(
      `${name}-${host}-ingress`,
      {
        metadata: {
          ...metadata,
          annotations: {
            ...unawaited,
            [ENTRYPOINTS_ANNOTATION]: "websecure",
            [TLS_ANNOTATION]: "true",
            [MIDDLEWARES_ANNOTATION]: [RATE_MIDDLEWARE, HEADERS_MIDDLEWARE]
              .map((middleware) => middlewareReference(CONTROL_PLANE_NAMESPACE, middleware))
              .join(","),
            ...(certificates.issuer === "fleet"
              ? {}
              : {
                  "traefik.ingress.kubernetes.io/router.tls.certresolver": certificates.resolver,
                  "traefik.ingress.kubernetes.io/router.tls.domains.0.main": `*.${panelDomain}`,
                }),
          },
        },
        spec: {
          ingressClassName: "traefik",
          tls: [{ hosts: [hostName] }],
          rules: [
            {
              host: hostName,
              http: {
                paths: [
                  {
                    path: "/",
                    pathType: "Prefix",
                    backend: { service: { name: serviceName, port: { name: "http" } } },
                  },
                ],
              },
            },
          ],
        },
      },
      placed,
    );
  }
}
