import { SYSTEM_NAMESPACE } from "../../model/labels.ts";
import { SHUT_RANGES } from "../../model/network.ts";
import { selectsAll } from "../kubernetes-objects.ts";
import type { NetworkPeer, NetworkPolicySpec } from "../kubernetes-objects.ts";
import { resourceRule } from "../rule.ts";

/**
 * Every peer of a network policy is named exactly: pods of the cluster's own namespace, one address, or the outer world without private ranges.
 *
 * Why: an empty selector, another namespace or a wide range opens a way to other tenants, the API
 * server or the metadata address.
 * Blind to: an exact address that happens to be another tenant's.
 */
export const networkPeerIsExact = resourceRule(
  {
    name: "network-peer-is-exact",
    description:
      "Every peer of a network policy is named exactly: pods of the cluster's own namespace, one address, or the outer world without private ranges.",
    group: "isolation",
    severity: "critical",
    claims: ["F1", "F16", "P6", "P12", "P15", "R7"],
    references: [
      "PCI DSS 4.0.1 1.3.1",
      "PCI DSS 4.0.1 1.3.2",
      "SOC 2 CC6.6",
      "ISO 27001:2022 A.8.22",
      "CIS Kubernetes 5.3.2",
    ],
    remediation:
      "Name each peer exactly: labelled pods of the cluster's own namespace, one address, or the outer world without model/network.ts's shut ranges.",
    judges: (type) => type === "kubernetes:networking.k8s.io/v1:NetworkPolicy",
  },
  (subject, report) => {
    if (subject.type !== "kubernetes:networking.k8s.io/v1:NetworkPolicy") {
      return;
    }
    const spec = (subject.props as { spec?: NetworkPolicySpec }).spec;
    for (const { from } of spec?.ingress ?? []) {
      judgePeers(subject.name, "ingress", from, report);
    }
    for (const { to, ports } of spec?.egress ?? []) {
      judgePeers(subject.name, "egress", to, report);
      if ((ports ?? []).length === 0) {
        report(`${subject.name}: each egress rule must name its ports, got none.`);
      }
    }
  },
);

function judgePeers(
  name: string,
  direction: string,
  peers: readonly NetworkPeer[] | undefined,
  report: (message: string) => void,
): void {
  if (peers === undefined || peers.length === 0) {
    report(`${name}: each ${direction} rule must name its peers, got none, which means everyone.`);
    return;
  }
  for (const peer of peers) {
    const fault = peer.ipBlock === undefined ? podFault(peer) : blockFault(peer.ipBlock, direction);
    if (fault !== undefined) {
      report(`${name}: ${fault}`);
    }
  }
}

function podFault({ namespaceSelector, podSelector }: NetworkPeer): string | undefined {
  const namespace = namespaceSelector?.matchLabels?.["kubernetes.io/metadata.name"];
  if (namespace !== SYSTEM_NAMESPACE) {
    return `a peer's namespace must be ${SYSTEM_NAMESPACE} by its name, got ${namespace ?? "a selector without a name"}.`;
  }
  return selectsAll(podSelector)
    ? `a peer in ${SYSTEM_NAMESPACE} must select its pods by label, got every pod.`
    : undefined;
}

function blockFault(
  { cidr, except }: NonNullable<NetworkPeer["ipBlock"]>,
  direction: string,
): string | undefined {
  if (cidr !== undefined && /^\d+\.\d+\.\d+\.\d+\/32$/.test(cidr)) {
    return cidr.startsWith("169.254.") || cidr.startsWith("127.")
      ? `a peer's address must not be link-local or this host, got ${cidr}.`
      : undefined;
  }
  if (cidr !== "0.0.0.0/0" || direction !== "egress") {
    return `a peer's addresses must be one address, or on the way out 0.0.0.0/0 with its exceptions, got ${cidr ?? "none"}.`;
  }
  const open = SHUT_RANGES.filter((range) => !(except ?? []).includes(range));
  return open.length === 0
    ? undefined
    : `the way to 0.0.0.0/0 must leave out ${SHUT_RANGES.join(", ")}, got it without ${open.join(", ")}.`;
}
