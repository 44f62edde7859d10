import type { AddonsTarget } from "./addons.ts";
import type { KubernetesObject } from "./cluster-api.ts";
import { CONTAINER_SECURITY, POD_SECURITY, SYSTEM_NAMESPACE, SYSTEM_POD } from "./pod-settings.ts";

const LABELS = { "k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS" } as const;
const SELECTOR = { "k8s-app": "kube-dns" } as const;

/**
 * The cluster's name server, with the names and labels that K3s gives it.
 *
 * It knows the cluster and its own machine. Nobody stands behind it: the machines have no way out, so every other
 * name does not exist, at once, instead of after a timeout.
 */
export function coredns(target: AddonsTarget, image: string): KubernetesObject[] {
  const metadata = { name: "coredns", namespace: SYSTEM_NAMESPACE };
  return [
    { apiVersion: "v1", kind: "ServiceAccount", metadata: { ...metadata, labels: LABELS } },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRole",
      metadata: { name: "system:coredns" },
      rules: [
        {
          apiGroups: [""],
          resources: ["endpoints", "services", "pods", "namespaces"],
          verbs: ["list", "watch"],
        },
        {
          apiGroups: ["discovery.k8s.io"],
          resources: ["endpointslices"],
          verbs: ["list", "watch"],
        },
      ],
    },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRoleBinding",
      metadata: { name: "system:coredns" },
      roleRef: {
        apiGroup: "rbac.authorization.k8s.io",
        kind: "ClusterRole",
        name: "system:coredns",
      },
      subjects: [{ kind: "ServiceAccount", name: "coredns", namespace: SYSTEM_NAMESPACE }],
    },
    {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata,
      data: {
        Corefile: corefile(target.domain),
        NodeHosts: `${target.machineAddress} ${target.name}.${target.domain}\n`,
      },
    },
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: {
        name: "kube-dns",
        namespace: SYSTEM_NAMESPACE,
        labels: { ...LABELS, "kubernetes.io/cluster-service": "true" },
      },
      spec: {
        selector: SELECTOR,
        clusterIP: target.clusterDnsAddress,
        clusterIPs: [target.clusterDnsAddress],
        ports: [
          { name: "dns", port: 53, protocol: "UDP", targetPort: 53 },
          { name: "dns-tcp", port: 53, protocol: "TCP", targetPort: 53 },
          { name: "metrics", port: 9153, protocol: "TCP", targetPort: 9153 },
        ],
      },
    },
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { ...metadata, labels: LABELS },
      spec: {
        replicas: 1,
        revisionHistoryLimit: 0,
        strategy: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } },
        selector: { matchLabels: SELECTOR },
        template: { metadata: { labels: SELECTOR }, spec: podSpec(image) },
      },
    },
  ];
}

function podSpec(image: string): object {
  const probe = (path: string, port: number, periodSeconds: number): object => ({
    httpGet: { path, port },
    periodSeconds,
    timeoutSeconds: 2,
    failureThreshold: 3,
  });
  return {
    ...SYSTEM_POD,
    serviceAccountName: "coredns",
    // Not through itself.
    dnsPolicy: "Default",
    securityContext: {
      ...POD_SECURITY,
      // Port 53 without a capability: network policies name the pod's port, so it has to be the real one.
      sysctls: [{ name: "net.ipv4.ip_unprivileged_port_start", value: "0" }],
    },
    containers: [
      {
        name: "coredns",
        image,
        imagePullPolicy: "IfNotPresent",
        args: ["-conf", "/etc/coredns/Corefile"],
        securityContext: CONTAINER_SECURITY,
        resources: { requests: { cpu: "50m", memory: "40Mi" }, limits: { memory: "170Mi" } },
        ports: [
          { name: "dns", containerPort: 53, protocol: "UDP" },
          { name: "dns-tcp", containerPort: 53, protocol: "TCP" },
          { name: "metrics", containerPort: 9153, protocol: "TCP" },
        ],
        readinessProbe: probe("/ready", 8181, 1),
        livenessProbe: probe("/health", 8080, 10),
        volumeMounts: [{ name: "config", mountPath: "/etc/coredns", readOnly: true }],
      },
    ],
    volumes: [{ name: "config", configMap: { name: "coredns" } }],
  };
}

/**
 * One block per kind of name, and the last for all others. In one block this would not do: what answers "no such
 * name" comes before the cluster's names in CoreDNS's order of plugins, whatever the order of the lines.
 */
function corefile(domain: string): string {
  return `cluster.local:53 in-addr.arpa:53 ip6.arpa:53 {
    errors
    health :8080
    ready :8181
    prometheus :9153
    cache 30
    loadbalance
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
    }
}
${domain}:53 {
    errors
    hosts /etc/coredns/NodeHosts {
        ttl 60
        reload 15s
    }
}
.:53 {
    errors
    reload 15s
    template ANY ANY . {
        rcode NXDOMAIN
    }
}
`;
}
