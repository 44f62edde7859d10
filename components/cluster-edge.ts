import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import * as tls from "@pulumi/tls";
import {
  HEADERS_MIDDLEWARE,
  SECURITY_HEADERS,
  TLS_MIN_VERSION,
  TLS_OPTION_NAME,
} from "../model/headers.ts";
import { SYSTEM_NAMESPACE } from "../model/labels.ts";
import { NOBODY } from "../model/network.ts";
import type { FleetAuthority } from "./fleet-authority.ts";

/** What a cluster's ingress needs to know. */
export interface ClusterEdgeArgs {
  /** Domain whose hosts the ingress serves; the certificate is its wildcard. */
  readonly domain: string;
  /**
   * Who signs the wildcard certificate; `undefined` where the ingress gets certificates by ACME
   * itself.
   */
  readonly authority: FleetAuthority | undefined;
  /** Labels of every object. */
  readonly labels: Readonly<Record<string, string>>;
}

/** Name of the route that takes every host which no other takes, and of the middleware that answers 404 there. */
const UNKNOWN_HOST = "unknown-host";

/** How long a certificate lives, and how long before its end the next deploy renews it. */
const CERTIFICATE_HOURS = 2160;
const RENEW_HOURS = 720;

/**
 * What holds for the whole ingress of one cluster.
 *
 * Holds: TLS 1.3 is the floor of every host, by the one TLSOption that applies to all, and a client
 * that names no known host gets no handshake; whoever comes without TLS is sent to HTTPS; a host that
 * nothing serves answers 404 with HSTS and the security headers, as every other host does.
 */
export class ClusterEdge extends pulumi.ComponentResource {
  constructor(name: string, args: ClusterEdgeArgs, opts?: pulumi.ComponentResourceOptions) {
    super("fluxbilling:fleet:ClusterEdge", name, {}, opts);
    const child = { parent: this };
    const custom = (
      role: string,
      kind: string,
      objectName: string,
      spec: object,
      dependsOn: pulumi.Resource[] = [],
    ): pulumi.Resource =>
      new k8s.apiextensions.CustomResource(
        `${name}-${role}`,
        {
          apiVersion: "traefik.io/v1alpha1",
          kind,
          metadata: { name: objectName, namespace: SYSTEM_NAMESPACE, labels: args.labels },
          spec,
        },
        { ...child, dependsOn },
      );

    // Options bind to host names: a second `default` anywhere, or a route that names another
    // option, brings the built-in TLS 1.2 back. So the floor is the default itself.
    custom("tls", "TLSOption", TLS_OPTION_NAME, { minVersion: TLS_MIN_VERSION, sniStrict: true });

    const redirect = custom("redirect", "Middleware", "redirect-to-https", {
      redirectScheme: { scheme: "https", permanent: true },
    });
    custom(
      "plain",
      "IngressRoute",
      "redirect-to-https",
      {
        entryPoints: ["web"],
        routes: [
          {
            kind: "Rule",
            match: "PathPrefix(`/`)",
            priority: 1,
            middlewares: [{ name: "redirect-to-https" }],
            services: [{ kind: "TraefikService", name: "noop@internal" }],
          },
        ],
      },
      [redirect],
    );

    // What Traefik answers by itself where no route fits carries no header. So one always fits, last.
    const headers = custom("headers", "Middleware", HEADERS_MIDDLEWARE, {
      headers: SECURITY_HEADERS,
    });
    const nothing = custom("nothing", "Middleware", UNKNOWN_HOST, {
      ipAllowList: { sourceRange: [NOBODY], rejectStatusCode: 404 },
    });
    custom(
      "unknown",
      "IngressRoute",
      UNKNOWN_HOST,
      {
        entryPoints: ["websecure"],
        routes: [
          {
            kind: "Rule",
            match: "PathPrefix(`/`)",
            priority: 1,
            middlewares: [{ name: HEADERS_MIDDLEWARE }, { name: UNKNOWN_HOST }],
            services: [{ kind: "TraefikService", name: "noop@internal" }],
          },
        ],
        tls: {},
      },
      [headers, nothing],
    );

    if (args.authority !== undefined) {
      const certificate = this.#certificate(name, args.domain, args.authority, args.labels);
      custom(
        "certificates",
        "TLSStore",
        "default",
        { certificates: [{ secretName: "wildcard-certificate" }] },
        [certificate],
      );
    }
    this.registerOutputs({});
  }

  #certificate(
    name: string,
    domain: string,
    authority: FleetAuthority,
    labels: Readonly<Record<string, string>>,
  ): pulumi.Resource {
    const child = { parent: this };
    const key = new tls.PrivateKey(
      `${name}-certificate-key`,
      { algorithm: "ECDSA", ecdsaCurve: "P256" },
      child,
    );
    const request = new tls.CertRequest(
      `${name}-certificate-request`,
      {
        privateKeyPem: key.privateKeyPem,
        dnsNames: [`*.${domain}`],
        subject: { commonName: `*.${domain}` },
      },
      child,
    );
    const certificate = new tls.LocallySignedCert(
      `${name}-certificate`,
      {
        certRequestPem: request.certRequestPem,
        caPrivateKeyPem: authority.privateKeyPem,
        caCertPem: authority.certificatePem,
        validityPeriodHours: CERTIFICATE_HOURS,
        earlyRenewalHours: RENEW_HOURS,
        allowedUses: ["digital_signature", "server_auth"],
      },
      child,
    );
    return new k8s.core.v1.Secret(
      `${name}-certificate-secret`,
      {
        metadata: { name: "wildcard-certificate", namespace: SYSTEM_NAMESPACE, labels },
        type: "kubernetes.io/tls",
        stringData: { "tls.crt": certificate.certPem, "tls.key": key.privateKeyPem },
      },
      child,
    );
  }
}
