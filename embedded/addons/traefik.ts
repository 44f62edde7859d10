import { readFile } from "node:fs/promises";
import { parseAllDocuments } from "yaml";

import { TRAEFIK_DEFINITIONS_FILE } from "../images/build-images.ts";
import type { AddonsTarget } from "./addons.ts";
import type { KubernetesObject } from "./cluster-api.ts";
import {
  CONTAINER_SECURITY,
  ownLabels,
  POD_SECURITY,
  SYSTEM_NAMESPACE,
  SYSTEM_POD,
} from "./pod-settings.ts";

const WEB_PORT = 8000;
const SECURE_PORT = 8443;
const MQTTS_PORT = 8883;
const PING_PORT = 8080;
const METRICS_PORT = 9100;

const SELECTOR = { "app.kubernetes.io/name": "traefik" } as const;

/**
 * The cluster's ingress, with the names, labels and entry points that K3s gives it.
 *
 * As in K3s it serves plain HTTP and whatever TLS Traefik serves by default, and trusts nobody's X-Forwarded-For:
 * what the fleet asks beyond that, it has to set up itself, here as there. Beside K3s's own it has the entry point for MQTT
 * that docs/runbooks/own-clusters.md asks for. Where K3s puts a load balancer before it, the node's ports 80, 443 and 8883
 * lead to its pod.
 */
export async function traefik(target: AddonsTarget, image: string): Promise<KubernetesObject[]> {
  const metadata = { name: "traefik", namespace: SYSTEM_NAMESPACE };
  const labels = ownLabels("traefik");
  return [
    ...(await definitions()),
    { apiVersion: "v1", kind: "ServiceAccount", metadata: { ...metadata, labels } },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRole",
      metadata: { name: "traefik-kube-system" },
      rules: RULES,
    },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRoleBinding",
      metadata: { name: "traefik-kube-system" },
      roleRef: {
        apiGroup: "rbac.authorization.k8s.io",
        kind: "ClusterRole",
        name: "traefik-kube-system",
      },
      subjects: [{ kind: "ServiceAccount", name: "traefik", namespace: SYSTEM_NAMESPACE }],
    },
    {
      apiVersion: "networking.k8s.io/v1",
      kind: "IngressClass",
      metadata: {
        name: "traefik",
        labels,
        annotations: { "ingressclass.kubernetes.io/is-default-class": "true" },
      },
      spec: { controller: "traefik.io/ingress-controller" },
    },
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { ...metadata, labels },
      spec: {
        type: "ClusterIP",
        selector: SELECTOR,
        ports: [
          { name: "web", port: 80, protocol: "TCP", targetPort: WEB_PORT },
          { name: "websecure", port: 443, protocol: "TCP", targetPort: SECURE_PORT },
          { name: "mqtts", port: MQTTS_PORT, protocol: "TCP", targetPort: MQTTS_PORT },
        ],
      },
    },
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { ...metadata, labels },
      spec: {
        replicas: 1,
        revisionHistoryLimit: 0,
        // Two of them cannot have the node's ports at once.
        strategy: { type: "Recreate" },
        selector: { matchLabels: SELECTOR },
        template: { metadata: { labels }, spec: podSpec(target, image) },
      },
    },
  ];
}

function podSpec(target: AddonsTarget, image: string): object {
  const probe = (periodSeconds: number): object => ({
    httpGet: { path: "/ping", port: PING_PORT },
    periodSeconds,
    timeoutSeconds: 2,
    failureThreshold: 3,
  });
  return {
    ...SYSTEM_POD,
    serviceAccountName: "traefik",
    terminationGracePeriodSeconds: 15,
    securityContext: POD_SECURITY,
    containers: [
      {
        name: "traefik",
        image,
        imagePullPolicy: "IfNotPresent",
        args: [
          "--global.checknewversion=false",
          "--global.sendanonymoususage=false",
          `--entrypoints.web.address=:${WEB_PORT}/tcp`,
          `--entrypoints.websecure.address=:${SECURE_PORT}/tcp`,
          "--entrypoints.websecure.http.tls=true",
          `--entrypoints.mqtts.address=:${MQTTS_PORT}/tcp`,
          `--entrypoints.traefik.address=:${PING_PORT}/tcp`,
          `--entrypoints.metrics.address=:${METRICS_PORT}/tcp`,
          "--ping=true",
          "--metrics.prometheus=true",
          "--metrics.prometheus.entrypoint=metrics",
          "--providers.kubernetescrd=true",
          "--providers.kubernetesingress=true",
          // A host whose pods are not ready answers 503 under its own rules, as with K3s's chart, not 404 under none.
          "--providers.kubernetescrd.allowemptyservices=true",
          "--providers.kubernetesingress.allowemptyservices=true",
          // Who waits for an Ingress waits for the address in its status.
          `--providers.kubernetesingress.ingressendpoint.ip=${target.machineAddress}`,
          "--log.level=INFO",
        ],
        securityContext: CONTAINER_SECURITY,
        resources: { requests: { cpu: "50m", memory: "64Mi" }, limits: { memory: "300Mi" } },
        ports: [
          { name: "web", containerPort: WEB_PORT, hostPort: 80, protocol: "TCP" },
          { name: "websecure", containerPort: SECURE_PORT, hostPort: 443, protocol: "TCP" },
          { name: "mqtts", containerPort: MQTTS_PORT, hostPort: MQTTS_PORT, protocol: "TCP" },
          { name: "traefik", containerPort: PING_PORT, protocol: "TCP" },
          { name: "metrics", containerPort: METRICS_PORT, protocol: "TCP" },
        ],
        readinessProbe: probe(1),
        livenessProbe: probe(10),
        volumeMounts: [{ name: "temporary", mountPath: "/tmp" }],
      },
    ],
    volumes: [{ name: "temporary", emptyDir: { sizeLimit: "64Mi" } }],
  };
}

/** What Traefik's own documentation asks for, without the pods that only tracing reads. */
const RULES = [
  {
    apiGroups: [""],
    resources: ["services", "secrets", "nodes", "configmaps"],
    verbs: ["get", "list", "watch"],
  },
  { apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: ["list", "watch"] },
  {
    apiGroups: ["networking.k8s.io"],
    resources: ["ingresses", "ingressclasses"],
    verbs: ["get", "list", "watch"],
  },
  { apiGroups: ["networking.k8s.io"], resources: ["ingresses/status"], verbs: ["update"] },
  {
    apiGroups: ["traefik.io"],
    resources: [
      "middlewares",
      "middlewaretcps",
      "ingressroutes",
      "traefikservices",
      "ingressroutetcps",
      "ingressrouteudps",
      "tlsoptions",
      "tlsstores",
      "serverstransports",
      "serverstransporttcps",
    ],
    verbs: ["get", "list", "watch"],
  },
];

async function definitions(): Promise<KubernetesObject[]> {
  const documents = parseAllDocuments(await readFile(TRAEFIK_DEFINITIONS_FILE, "utf8"));
  return documents
    .map((document) => document.toJS() as KubernetesObject | null)
    .filter((object): object is KubernetesObject => object !== null);
}
