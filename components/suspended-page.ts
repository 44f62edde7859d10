import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { SUSPENDED_CHAIN, SUSPENDED_MIDDLEWARE, WITHOUT_VISITOR } from "../model/headers.ts";
import { EDGE_NAMESPACE } from "../model/labels.ts";
import {
  APP_PORT,
  INGRESS_POD_LABELS,
  NOBODY,
  SUSPENDED_PAGE_POD_LABELS,
} from "../model/network.ts";
import {
  CONTAINER_SECURITY,
  containerResources,
  POD_SECURITY,
  POD_SECURITY_LABELS,
} from "../model/pod.ts";
import { systemPods } from "./tenant-network.ts";

/** What the page for suspended tenants needs to know. */
export interface SuspendedPageArgs {
  /** Labels of every object. */
  readonly labels: Readonly<Record<string, string>>;
  /** Image by digest. */
  readonly image: string;
}

/** Name of the page's own objects. */
const PAGE = "suspended-page";
const MEMORY_MIB = 32;

/**
 * What answers for every suspended tenant of a location: one small pod with a page, and the middleware that leads to it
 * (claim F40).
 *
 * Give it the location's providers with `opts.providers`. Holds: whoever is led here gets a 402, with the page's body
 * or, where the page is not there, without it, and reaches no tenant; the page's pod is reached by the ingress alone,
 * reaches nothing, and is told neither a visitor's cookies nor credentials, nor which path was asked for.
 */
export class SuspendedPage extends pulumi.ComponentResource {
  constructor(name: string, args: SuspendedPageArgs, opts?: pulumi.ComponentResourceOptions) {
    super("fluxbilling:fleet:SuspendedPage", name, {}, opts);
    const child = { parent: this };
    const namespace = new k8s.core.v1.Namespace(
      `${name}-namespace`,
      {
        metadata: { name: EDGE_NAMESPACE, labels: { ...args.labels, ...POD_SECURITY_LABELS } },
      },
      child,
    );
    const placed = { ...child, dependsOn: [namespace], deletedWith: namespace };
    const labels = { ...args.labels, ...SUSPENDED_PAGE_POD_LABELS };
    // Nothing waits for its pod: the fleet's own registry, which may have the image, is made by the same deploy and
    // filled after it. Until then the 402 comes without a page.
    const unawaited = { "pulumi.com/skipAwait": "true" };
    const metadata = (
      objectName: string,
      annotations: Readonly<Record<string, string>> = {},
    ): k8s.types.input.meta.v1.ObjectMeta => ({
      name: objectName,
      namespace: EDGE_NAMESPACE,
      labels,
      annotations,
    });
    const policies = [
      new k8s.networking.v1.NetworkPolicy(
        `${name}-default-deny`,
        {
          metadata: { name: "default-deny", namespace: EDGE_NAMESPACE, labels: args.labels },
          spec: { podSelector: {}, policyTypes: ["Ingress", "Egress"] },
        },
        placed,
      ),
      new k8s.networking.v1.NetworkPolicy(
        `${name}-allow-page`,
        {
          metadata: { name: "allow-page", namespace: EDGE_NAMESPACE, labels: args.labels },
          spec: {
            podSelector: { matchLabels: SUSPENDED_PAGE_POD_LABELS },
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
      ),
    ];
    const account = new k8s.core.v1.ServiceAccount(
      `${name}-account`,
      { metadata: metadata(PAGE), automountServiceAccountToken: false },
      placed,
    );
    new k8s.apps.v1.Deployment(
      `${name}-deployment`,
      {
        metadata: metadata(PAGE, unawaited),
        spec: {
          replicas: 1,
          revisionHistoryLimit: 2,
          progressDeadlineSeconds: 120,
          selector: { matchLabels: SUSPENDED_PAGE_POD_LABELS },
          strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
          template: { metadata: { labels }, spec: podSpec(args.image) },
        },
      },
      { ...placed, dependsOn: [namespace, account, ...policies] },
    );
    const service = new k8s.core.v1.Service(
      `${name}-service`,
      {
        metadata: metadata(PAGE, unawaited),
        spec: {
          type: "ClusterIP",
          selector: SUSPENDED_PAGE_POD_LABELS,
          ports: [{ name: "http", port: 80, targetPort: APP_PORT, protocol: "TCP" }],
        },
      },
      placed,
    );
    const middleware = (
      objectName: string,
      spec: object,
      dependsOn: pulumi.Resource[],
    ): pulumi.Resource =>
      new k8s.apiextensions.CustomResource(
        `${name}-${objectName}`,
        {
          apiVersion: "traefik.io/v1alpha1",
          kind: "Middleware",
          metadata: { name: objectName, namespace: EDGE_NAMESPACE, labels: args.labels },
          spec,
        },
        { ...placed, dependsOn: [namespace, ...dependsOn] },
      );
    const [withoutVisitor, page, shut] = SUSPENDED_CHAIN;
    const parts = [
      middleware(withoutVisitor, { headers: { customRequestHeaders: WITHOUT_VISITOR } }, []),
      // The body is the page's; the status stays the one that is caught.
      middleware(
        page,
        { errors: { status: ["402"], query: "/", service: { name: PAGE, port: "http" } } },
        [service],
      ),
      middleware(shut, { ipAllowList: { sourceRange: [NOBODY], rejectStatusCode: 402 } }, []),
    ];
    middleware(
      SUSPENDED_MIDDLEWARE,
      { chain: { middlewares: SUSPENDED_CHAIN.map((part) => ({ name: part })) } },
      parts,
    );
    this.registerOutputs({});
  }
}

function podSpec(image: string): k8s.types.input.core.v1.PodSpec {
  const probe = {
    httpGet: { path: "/live", port: APP_PORT },
    periodSeconds: 10,
    timeoutSeconds: 3,
    failureThreshold: 3,
  };
  return {
    serviceAccountName: PAGE,
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    securityContext: POD_SECURITY,
    terminationGracePeriodSeconds: 15,
    containers: [
      {
        name: "page",
        image,
        imagePullPolicy: "IfNotPresent",
        securityContext: CONTAINER_SECURITY,
        resources: containerResources(5, 100, MEMORY_MIB),
        ports: [{ name: "http", containerPort: APP_PORT, protocol: "TCP" }],
        startupProbe: { ...probe, periodSeconds: 1, failureThreshold: 60 },
        readinessProbe: probe,
        livenessProbe: probe,
      },
    ],
  };
}
