/**
 * NetworkPolicy by the letter of its documentation, one question at a time: slow, plain, and sharing nothing with
 * the rules under test but the shape of the API's objects.
 */
import type {
  LabelSelector,
  Namespace,
  NetworkPolicy,
  Pod,
  PolicyPeer,
  PolicyPort,
} from "../../../embedded/network-policy/ruleset.ts";

export interface Cluster {
  readonly namespaces: readonly Namespace[];
  readonly pods: readonly Pod[];
  readonly policies: readonly NetworkPolicy[];
}

export interface Attempt {
  readonly source: string;
  readonly destination: string;
  readonly protocol: "TCP" | "UDP";
  readonly port: number;
}

/** Whether a connection between two addresses may come about. */
export function isAllowed(cluster: Cluster, attempt: Attempt): boolean {
  const source = podAt(cluster, attempt.source);
  const destination = podAt(cluster, attempt.destination);
  if (source !== undefined && source === destination) return true;
  return (
    (source === undefined || sideAllows(cluster, "Egress", source, attempt.destination, attempt)) &&
    (destination === undefined ||
      sideAllows(cluster, "Ingress", destination, attempt.source, attempt))
  );
}

function podAt(cluster: Cluster, address: string): Pod | undefined {
  return cluster.pods.find((pod) => pod.status?.podIP === address && pod.spec.hostNetwork !== true);
}

function sideAllows(
  cluster: Cluster,
  type: "Ingress" | "Egress",
  subject: Pod,
  peerAddress: string,
  attempt: Attempt,
): boolean {
  const applying = cluster.policies.filter(
    (policy) =>
      policy.metadata.namespace === subject.metadata.namespace &&
      selects(policy.spec.podSelector ?? {}, subject.metadata.labels ?? {}) &&
      (policy.spec.policyTypes ?? []).includes(type),
  );
  if (applying.length === 0) return true;
  const listener = podAt(cluster, attempt.destination);
  for (const policy of applying) {
    const rules =
      type === "Ingress"
        ? (policy.spec.ingress ?? []).map((rule) => ({ peers: rule.from, ports: rule.ports }))
        : (policy.spec.egress ?? []).map((rule) => ({ peers: rule.to, ports: rule.ports }));
    for (const { peers, ports } of rules) {
      const peerFits =
        peers === undefined ||
        peers.length === 0 ||
        peers.some((peer) => peerIs(cluster, policy, peer, peerAddress));
      const portFits =
        ports === undefined ||
        ports.length === 0 ||
        ports.some((port) => portIs(port, listener, attempt));
      if (peerFits && portFits) return true;
    }
  }
  return false;
}

function peerIs(
  cluster: Cluster,
  policy: NetworkPolicy,
  peer: PolicyPeer,
  address: string,
): boolean {
  if (peer.ipBlock !== undefined) {
    return (
      inCidr(address, peer.ipBlock.cidr) &&
      !(peer.ipBlock.except ?? []).some((exception) => inCidr(address, exception))
    );
  }
  const pod = podAt(cluster, address);
  if (pod === undefined) return false;
  const namespace = cluster.namespaces.find(
    (candidate) => candidate.metadata.name === pod.metadata.namespace,
  );
  const namespaceFits =
    peer.namespaceSelector === undefined
      ? pod.metadata.namespace === policy.metadata.namespace
      : namespace !== undefined && selects(peer.namespaceSelector, namespace.metadata.labels ?? {});
  return namespaceFits && selects(peer.podSelector ?? {}, pod.metadata.labels ?? {});
}

function portIs(port: PolicyPort, listener: Pod | undefined, attempt: Attempt): boolean {
  if ((port.protocol ?? "TCP") !== attempt.protocol) return false;
  if (port.port === undefined) return true;
  if (typeof port.port === "number") {
    return attempt.port >= port.port && attempt.port <= (port.endPort ?? port.port);
  }
  return (listener?.spec.containers ?? []).some((container) =>
    (container.ports ?? []).some(
      (open) =>
        open.name === port.port &&
        open.containerPort === attempt.port &&
        (open.protocol ?? "TCP") === attempt.protocol,
    ),
  );
}

function selects(selector: LabelSelector, labels: Readonly<Record<string, string>>): boolean {
  for (const [key, value] of Object.entries(selector.matchLabels ?? {})) {
    if (labels[key] !== value) return false;
  }
  for (const { key, operator, values = [] } of selector.matchExpressions ?? []) {
    const has = Object.hasOwn(labels, key);
    const among = values.some((value) => labels[key] === value);
    if (operator === "In" && !(has && among)) return false;
    if (operator === "NotIn" && has && among) return false;
    if (operator === "Exists" && !has) return false;
    if (operator === "DoesNotExist" && has) return false;
  }
  return true;
}

/** Bit by bit, on purpose: not the arithmetic of the code under test. */
function inCidr(address: string, cidr: string): boolean {
  const [network = "", length = "32"] = cidr.split("/");
  return bits(address).slice(0, Number(length)) === bits(network).slice(0, Number(length));
}

function bits(address: string): string {
  return address
    .split(".")
    .map((octet) => Number(octet).toString(2).padStart(8, "0"))
    .join("");
}
