import {
  CONTROL_PLANE_NAMESPACE,
  EDGE_NAMESPACE,
  SYSTEM_NAMESPACE,
  TENANT_LABEL,
} from "../../model/labels.ts";
import {
  DNS_POD_LABELS,
  DNS_PORT,
  INGRESS_POD_LABELS,
  LOAD_BALANCER_POD_LABELS,
  SHUT_RANGES,
} from "../../model/network.ts";
import { metadataOf, selectsAll } from "../kubernetes-objects.ts";
import type { NetworkPeer, NetworkPolicySpec, Selector } from "../kubernetes-objects.ts";
import { resourceRule } from "../rule.ts";

/**
 * Every peer of a network policy is named exactly: pods of the cluster's own namespace, one address, or the outer world without private ranges.
 *
 * Why: an empty selector, another namespace or a wide range opens a way to other tenants, the API
 * server or the metadata address. In the cluster's own namespace the ingress alone may be reached by
 * everyone and reach what it serves, and the name server alone be asked by every pod and ask any other.
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
    const pods =
      metadataOf(subject.props).namespace === SYSTEM_NAMESPACE ? spec?.podSelector : undefined;
    for (const { from, ports } of spec?.ingress ?? []) {
      const needed = from?.filter((peer) => !isSystemIngress(pods, peer, ports ?? []));
      if (needed?.length !== 0 || from?.length === 0) {
        judgePeers(subject.name, "ingress", needed, report);
      }
    }
    for (const { to, ports } of spec?.egress ?? []) {
      const needed = to?.filter((peer) => !isSystemEgress(pods, peer, ports ?? []));
      if (needed?.length !== 0 || to?.length === 0) {
        judgePeers(subject.name, "egress", needed, report);
      }
      if ((ports ?? []).length === 0) {
        report(`${subject.name}: each egress rule must name its ports, got none.`);
      }
    }
  },
);

/** A wide way in that one of the cluster's own services needs. */
function isSystemIngress(
  pods: Selector | undefined,
  { ipBlock, namespaceSelector, podSelector }: NetworkPeer,
  ports: readonly unknown[],
): boolean {
  if (ipBlock !== undefined) {
    return (
      ipBlock.cidr === EVERYWHERE &&
      ports.length > 0 &&
      (isExactly(pods, INGRESS_POD_LABELS) || isExactly(pods, LOAD_BALANCER_POD_LABELS))
    );
  }
  return (
    isExactly(pods, DNS_POD_LABELS) &&
    namespaceSelector !== undefined &&
    selectsAll(namespaceSelector) &&
    podSelector === undefined &&
    areDns(ports)
  );
}

/** A wide way out that one of the cluster's own services needs. */
function isSystemEgress(
  pods: Selector | undefined,
  { ipBlock, namespaceSelector, podSelector }: NetworkPeer,
  ports: readonly unknown[],
): boolean {
  if (ipBlock !== undefined) {
    return ipBlock.cidr === EVERYWHERE && isExactly(pods, DNS_POD_LABELS) && areDns(ports);
  }
  const [expression, ...more] = (namespaceSelector?.matchExpressions ?? []) as readonly {
    readonly key?: string;
    readonly operator?: string;
  }[];
  const isTenants =
    expression?.key === TENANT_LABEL && expression.operator === "Exists" && more.length === 0;
  const named = namespaceSelector?.matchLabels?.["kubernetes.io/metadata.name"];
  const isPlatform = named === CONTROL_PLANE_NAMESPACE || named === EDGE_NAMESPACE;
  return (
    isExactly(pods, INGRESS_POD_LABELS) && !selectsAll(podSelector) && (isTenants || isPlatform)
  );
}

const EVERYWHERE = "0.0.0.0/0";

/** Whether a selector is these labels and nothing else. */
function isExactly(pods: Selector | undefined, labels: Readonly<Record<string, string>>): boolean {
  const given = Object.entries(pods?.matchLabels ?? {});
  return (
    given.length === Object.keys(labels).length &&
    given.every(([key, value]) => labels[key] === value) &&
    (pods?.matchExpressions ?? []).length === 0
  );
}

function areDns(ports: readonly unknown[]): boolean {
  return ports.length > 0 && ports.every((port) => (port as { port?: unknown }).port === DNS_PORT);
}

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
