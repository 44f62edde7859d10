import { stackRule } from "../../policies/rule.ts";
import { ofType } from "../../policies/tenant-stack.ts";
import { NODES_TYPE } from "../live-cluster.ts";

/**
 * What flannel calls its WireGuard backend (flannel-io/flannel, pkg/backend/wireguard/wireguard.go), which K3s sets up as
 * `wireguard-native` (k3s-io/k3s, pkg/agent/flannel/setup.go).
 */
const WIREGUARD = "wireguard";

/**
 * Every node of a cluster with more than one sends what its pods say to another node through WireGuard.
 *
 * Why: inside a cluster pods speak in clear, and flannel's usual backend carries that over the network between the nodes.
 * Blind to: the encryption of another network plugin than flannel; what a pod sends to a node's own address.
 */
export const nodesEncryptWhatTheySend = stackRule(
  {
    name: "nodes-encrypt-what-they-send",
    description:
      "Every node of a cluster with more than one sends what its pods say to another node through WireGuard.",
    group: "transport",
    severity: "high",
    claims: ["W11"],
    references: [
      "PCI DSS 4.0.1 4.2.1",
      "SOC 2 CC6.7",
      "ISO 27001:2022 A.8.24",
      "GDPR Art. 32(1)(a)",
    ],
    remediation:
      "Set flannel-backend: wireguard-native on every server of the cluster and restart its nodes: docs/runbooks/own-clusters.md.",
    blindIn: {
      preview: "the nodes of a cluster are in no stack",
      state: "the nodes of a cluster are in no stack",
    },
  },
  (subjects, report) => {
    for (const { subject, props } of ofType<{ nodes?: Readonly<Record<string, string>> }>(
      subjects,
      NODES_TYPE,
    )) {
      const nodes = Object.entries(props.nodes ?? {});
      // One by itself sends nothing to another.
      for (const [node, backend] of nodes.length > 1 ? nodes : []) {
        if (backend !== WIREGUARD) {
          report(
            `${subject.name}: node ${node} must send to the others by ${WIREGUARD}, got ${backend}.`,
            subject,
          );
        }
      }
    }
  },
);
