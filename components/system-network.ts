import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import {
  COMPONENT_LABEL,
  CONTROL_PLANE_NAMESPACE,
  EDGE_NAMESPACE,
  SYSTEM_NAMESPACE,
  TENANT_LABEL,
} from "../model/labels.ts";
import {
  APP_PORT,
  DNS_POD_LABELS,
  DNS_PORT,
  INGRESS_POD_LABELS,
  INGRESS_PORTS,
  KUBELET_PORT,
  LOAD_BALANCER_POD_LABELS,
  MQTT_PORT,
  MQTTS_PORT,
  NODE_INGRESS_PORTS,
  SHUT_RANGES,
  SUSPENDED_PAGE_POD_LABELS,
} from "../model/network.ts";
import { systemPods, tcp } from "./tenant-network.ts";

/** What the network of a cluster's own namespace needs to know. */
export interface SystemNetworkArgs {
  /** Address of the machine, where the API server and the kubelet answer. */
  readonly machineAddress: string;
  readonly apiPort: number;
  /** What the ingress leads to: the tenants' applications and the page for suspended ones, or what the control plane serves. */
  readonly serves: "tenants" | "control plane";
  /** Whether the ingress calls a certificate authority of the outer world. */
  readonly usesAcme: boolean;
  readonly labels: Readonly<Record<string, string>>;
}

type Spec = k8s.types.input.networking.v1.NetworkPolicySpec;
type EgressRule = k8s.types.input.networking.v1.NetworkPolicyEgressRule;
type Ports = k8s.types.input.networking.v1.NetworkPolicyPort[];

/**
 * The namespace of a cluster's own services shut both ways, then exactly what each of them needs.
 *
 * Holds: everyone reaches the ingress, every pod asks the name server, the ingress reaches what it serves,
 * each controller reaches the API server; nothing else. A pod in the namespace that is none of these
 * reaches nothing.
 */
export class SystemNetwork extends pulumi.ComponentResource {
  constructor(name: string, args: SystemNetworkArgs, opts?: pulumi.ComponentResourceOptions) {
    super("fluxbilling:fleet:SystemNetwork", name, {}, opts);
    const policy = (
      role: string,
      spec: Omit<Spec, "policyTypes">,
      dependsOn: pulumi.Resource[] = [],
    ): k8s.networking.v1.NetworkPolicy =>
      new k8s.networking.v1.NetworkPolicy(
        `${name}-${role}`,
        {
          metadata: { name: role, namespace: SYSTEM_NAMESPACE, labels: args.labels },
          spec: { ...spec, policyTypes: ["Ingress", "Egress"] },
        },
        { parent: this, dependsOn },
      );
    const api = tcp({ address: args.machineAddress, port: args.apiPort });
    const everyone = [{ ipBlock: { cidr: "0.0.0.0/0" } }];
    // Tenants' applications may speak MQTT; nothing of the control plane does.
    const mqtts = args.serves === "tenants" ? [MQTTS_PORT] : [];
    const ingressPorts = tcpPorts([...INGRESS_PORTS, ...mqtts]);
    const dns: EgressRule = { to: [systemPods(DNS_POD_LABELS)], ports: DNS_PORTS };

    const paths = [
      policy("allow-dns", {
        podSelector: { matchLabels: DNS_POD_LABELS },
        ingress: [{ from: [{ namespaceSelector: {} }], ports: DNS_PORTS }],
        // The name servers that the machine itself asks may be anywhere.
        egress: [api, { to: everyone, ports: DNS_PORTS }],
      }),
      policy("allow-ingress", {
        podSelector: { matchLabels: INGRESS_POD_LABELS },
        ingress: [{ from: everyone, ports: ingressPorts }],
        egress: [api, dns, ...servedBy(args), ...(args.usesAcme ? [OUTER_WORLD] : [])],
      }),
      policy("allow-load-balancer", {
        podSelector: { matchLabels: LOAD_BALANCER_POD_LABELS },
        ingress: [{ from: everyone, ports: tcpPorts([...NODE_INGRESS_PORTS, ...mqtts]) }],
        egress: [{ to: [systemPods(INGRESS_POD_LABELS)], ports: ingressPorts }],
      }),
      policy("allow-volumes", {
        podSelector: { matchLabels: { app: "local-path-provisioner" } },
        egress: [api],
      }),
      policy("allow-metrics", {
        podSelector: { matchLabels: { "k8s-app": "metrics-server" } },
        egress: [api, tcp({ address: args.machineAddress, port: KUBELET_PORT })],
      }),
      policy("allow-installer", {
        // The jobs with which K3s installs its own charts.
        podSelector: {
          matchExpressions: [{ key: "helmcharts.helm.cattle.io/chart", operator: "Exists" }],
        },
        egress: [api, dns],
      }),
    ];
    // Last, and first to go: there is no moment at which the name server is shut.
    policy("default-deny", { podSelector: {} }, paths);
    this.registerOutputs({});
  }
}

const DNS_PORTS: Ports = [
  { protocol: "UDP", port: DNS_PORT },
  { protocol: "TCP", port: DNS_PORT },
];

const OUTER_WORLD: EgressRule = {
  to: [{ ipBlock: { cidr: "0.0.0.0/0", except: [...SHUT_RANGES] } }],
  ports: [{ protocol: "TCP", port: 443 }],
};

function tcpPorts(ports: readonly number[]): Ports {
  return ports.map((port) => ({ protocol: "TCP", port }));
}

/** The ways from the ingress to what it leads to. */
function servedBy({ serves }: SystemNetworkArgs): EgressRule[] {
  const inNamespace = (
    namespace: string,
    labels: Readonly<Record<string, string>>,
  ): EgressRule => ({
    to: [
      {
        namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": namespace } },
        podSelector: { matchLabels: labels },
      },
    ],
    ports: tcpPorts([APP_PORT]),
  });
  return serves === "tenants"
    ? [
        {
          to: [
            {
              namespaceSelector: { matchExpressions: [{ key: TENANT_LABEL, operator: "Exists" }] },
              podSelector: { matchLabels: { [COMPONENT_LABEL]: "app" } },
            },
          ],
          ports: tcpPorts([APP_PORT, MQTT_PORT]),
        },
        inNamespace(EDGE_NAMESPACE, SUSPENDED_PAGE_POD_LABELS),
      ]
    : CONTROL_PLANE_SERVICES.map((component) =>
        inNamespace(CONTROL_PLANE_NAMESPACE, { [COMPONENT_LABEL]: component }),
      );
}

/** What the master's ingress leads to: the value of the component label. */
const CONTROL_PLANE_SERVICES = ["panel", "registry"] as const;
