import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { COMPONENT_LABEL, SYSTEM_NAMESPACE } from "../model/labels.ts";
import {
  APP_PORT,
  DNS_POD_LABELS,
  egressPorts,
  INGRESS_POD_LABELS,
  MQTT_PORT,
  SHUT_RANGES,
} from "../model/network.ts";

/** A TCP service at one address. */
export interface Endpoint {
  /** IPv4 address. */
  readonly address: string;
  readonly port: number;
}

/** What a tenant's network policies need to know. All plain, so that policies judge it at preview. */
export interface TenantNetworkArgs {
  readonly namespace: k8s.core.v1.Namespace;
  readonly namespaceName: string;
  readonly labels: Readonly<Record<string, string>>;
  /** The location's PostgreSQL. */
  readonly database: Endpoint;
  /** SSH of the backup store. */
  readonly store: Endpoint;
  /** Kinds of the identity providers that the application asks. */
  readonly identityKinds: readonly string[];
  /** Whether the application speaks MQTT. */
  readonly mqtt: boolean;
}

/**
 * Everything shut, then exactly the paths that a tenant needs.
 *
 * Holds: ingress reaches the application and nothing else does; the application reaches its
 * database, DNS and the outer world without private ranges; the backup job reaches the database and
 * the store; a pod that is neither, a replay among them, reaches nothing.
 */
export class TenantNetwork extends pulumi.ComponentResource {
  constructor(name: string, args: TenantNetworkArgs, opts?: pulumi.ComponentResourceOptions) {
    super("fluxbilling:tenant:TenantNetwork", name, {}, opts);
    const policy = (
      role: string,
      spec: k8s.types.input.networking.v1.NetworkPolicySpec,
    ): k8s.networking.v1.NetworkPolicy =>
      new k8s.networking.v1.NetworkPolicy(
        `${name}-${role}`,
        {
          metadata: { name: role, namespace: args.namespaceName, labels: args.labels },
          spec,
        },
        { parent: this, dependsOn: [args.namespace], deletedWith: args.namespace },
      );
    const database = tcp(args.database);

    policy("default-deny", { podSelector: {}, policyTypes: ["Ingress", "Egress"] });
    policy("allow-app", {
      podSelector: { matchLabels: { [COMPONENT_LABEL]: "app" } },
      policyTypes: ["Ingress", "Egress"],
      ingress: [
        {
          from: [systemPods(INGRESS_POD_LABELS)],
          ports: [APP_PORT, ...(args.mqtt ? [MQTT_PORT] : [])].map((port) => ({
            protocol: "TCP",
            port,
          })),
        },
      ],
      egress: [
        {
          to: [systemPods(DNS_POD_LABELS)],
          ports: [
            { protocol: "UDP", port: 53 },
            { protocol: "TCP", port: 53 },
          ],
        },
        database,
        {
          to: [{ ipBlock: { cidr: "0.0.0.0/0", except: [...SHUT_RANGES] } }],
          ports: egressPorts(args.identityKinds).map((port) => ({ protocol: "TCP", port })),
        },
      ],
    });
    policy("allow-backup", {
      podSelector: { matchLabels: { [COMPONENT_LABEL]: "backup" } },
      policyTypes: ["Ingress", "Egress"],
      egress: [database, tcp(args.store)],
    });
    this.registerOutputs({});
  }
}

/** A way to one port of one address. */
export function tcp({
  address,
  port,
}: Endpoint): k8s.types.input.networking.v1.NetworkPolicyEgressRule {
  return {
    to: [{ ipBlock: { cidr: `${address}/32` } }],
    ports: [{ protocol: "TCP", port }],
  };
}

/** Pods of the cluster's own namespace: namespace and pod selector in one peer, so both must hold. */
export function systemPods(
  labels: Readonly<Record<string, string>>,
): k8s.types.input.networking.v1.NetworkPolicyPeer {
  return {
    namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": SYSTEM_NAMESPACE } },
    podSelector: { matchLabels: labels },
  };
}
