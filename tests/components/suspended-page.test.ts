import { beforeAll, describe, expect, it } from "vitest";
import { SuspendedPage } from "../../components/suspended-page.ts";
import { at, construct, inputOf, inputsOf } from "../support/construct.ts";
import type { Registered } from "../support/construct.ts";

const MIDDLEWARE = "kubernetes:traefik.io/v1alpha1:Middleware";
const DEPLOYMENT = "kubernetes:apps/v1:Deployment";
const SERVICE = "kubernetes:core/v1:Service";
const POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy";

const IMAGE = `registry.test/fluxbilling/suspended-page@sha256:${"4".repeat(64)}`;
const POD_LABELS = {
  "app.kubernetes.io/name": "suspended-page",
  "app.kubernetes.io/component": "suspended-page",
};

describe("SuspendedPage", () => {
  let resources: readonly Registered[];
  beforeAll(async () => {
    resources = await construct(() => {
      new SuspendedPage("page", { labels: { "fluxbilling.dev/zone": "eu" }, image: IMAGE });
    });
  });

  it("answers 402 to everyone, with the page's body and without what a visitor is known by", () => {
    const specs = Object.values(inputsOf(resources, MIDDLEWARE)).map((middleware) => [
      `${String(at(middleware, "metadata.namespace"))}/${String(at(middleware, "metadata.name"))}`,
      at(middleware, "spec"),
    ]);
    expect(Object.fromEntries(specs)).toEqual({
      "fluxbilling-edge/suspended": {
        chain: {
          middlewares: [
            { name: "suspended-visitor" },
            { name: "suspended-page" },
            { name: "suspended-shut" },
          ],
        },
      },
      "fluxbilling-edge/suspended-visitor": {
        headers: { customRequestHeaders: { Authorization: "", Cookie: "" } },
      },
      "fluxbilling-edge/suspended-page": {
        errors: {
          status: ["402"],
          query: "/",
          service: { name: "suspended-page", port: "http" },
        },
      },
      "fluxbilling-edge/suspended-shut": {
        ipAllowList: { sourceRange: ["255.255.255.255/32"], rejectStatusCode: 402 },
      },
    });
  });

  it("lets the ingress alone reach the page, and the page nothing", () => {
    expect(inputOf(resources, POLICY, "page-default-deny", "spec")).toEqual({
      podSelector: {},
      policyTypes: ["Ingress", "Egress"],
    });
    expect(inputOf(resources, POLICY, "page-allow-page", "spec")).toEqual({
      podSelector: { matchLabels: POD_LABELS },
      policyTypes: ["Ingress", "Egress"],
      ingress: [
        {
          from: [
            {
              namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "kube-system" } },
              podSelector: { matchLabels: { "app.kubernetes.io/name": "traefik" } },
            },
          ],
          ports: [{ protocol: "TCP", port: 8080 }],
        },
      ],
    });
    expect(Object.keys(inputsOf(resources, POLICY))).toHaveLength(2);
  });

  it("serves the page from one pod, by the image that it was given, and waits for neither", () => {
    const deployment = inputsOf(resources, DEPLOYMENT)["page-deployment"];
    expect(at(deployment, "spec.replicas")).toBe(1);
    expect(at(deployment, "spec.template.metadata.labels")).toEqual({
      "fluxbilling.dev/zone": "eu",
      ...POD_LABELS,
    });
    expect(at(deployment, "spec.template.spec.containers.0")).toMatchObject({
      image: IMAGE,
      livenessProbe: { httpGet: { path: "/live", port: 8080 } },
    });
    const service = inputsOf(resources, SERVICE)["page-service"];
    expect(at(service, "spec")).toEqual({
      type: "ClusterIP",
      selector: POD_LABELS,
      ports: [{ name: "http", port: 80, targetPort: 8080, protocol: "TCP" }],
    });
    for (const unawaited of [deployment, service]) {
      expect(at(unawaited, "metadata.annotations")).toEqual({ "pulumi.com/skipAwait": "true" });
    }
  });
});
