import {
  addressNumber,
  addressRangeText,
  addressText,
  cidrRange,
  isEveryAddress,
  union,
  without,
} from "./ipv4-ranges.ts";
import type { Range } from "./ipv4-ranges.ts";

/** The nftables table that holds every rule made here and nothing else. */
export const TABLE = "inet flux_netpol";

type Labels = Readonly<Record<string, string>>;
type Protocol = "TCP" | "UDP" | "SCTP";

/** A label selector as the Kubernetes API writes it; `{}` selects everything. */
export interface LabelSelector {
  readonly matchLabels?: Labels;
  readonly matchExpressions?: readonly {
    readonly key: string;
    readonly operator: string;
    readonly values?: readonly string[];
  }[];
}

/** What the rules need to know of a Namespace, in the API's own JSON. */
export interface Namespace {
  readonly metadata: { readonly name: string; readonly labels?: Labels };
}

interface Container {
  readonly ports?: readonly {
    readonly name?: string;
    readonly containerPort: number;
    readonly protocol?: string;
  }[];
  readonly restartPolicy?: string;
}

/** What the rules need to know of a Pod, in the API's own JSON. */
export interface Pod {
  readonly metadata: {
    readonly namespace: string;
    readonly name: string;
    readonly uid?: string;
    readonly labels?: Labels;
    readonly creationTimestamp?: string;
    readonly deletionTimestamp?: string;
  };
  readonly spec: {
    readonly hostNetwork?: boolean;
    readonly containers: readonly Container[];
    readonly initContainers?: readonly Container[];
  };
  readonly status?: { readonly phase?: string; readonly podIP?: string };
}

/** One party of a rule of a NetworkPolicy. */
export interface PolicyPeer {
  readonly podSelector?: LabelSelector;
  readonly namespaceSelector?: LabelSelector;
  readonly ipBlock?: { readonly cidr: string; readonly except?: readonly string[] };
}

/** One port, named port or span of ports of a rule of a NetworkPolicy. */
export interface PolicyPort {
  readonly protocol?: string;
  readonly port?: number | string;
  readonly endPort?: number;
}

/** A NetworkPolicy of networking.k8s.io/v1, in the API's own JSON. */
export interface NetworkPolicy {
  readonly metadata: { readonly namespace: string; readonly name: string };
  readonly spec: {
    readonly podSelector?: LabelSelector;
    readonly policyTypes?: readonly string[];
    readonly ingress?: readonly {
      readonly from?: readonly PolicyPeer[];
      readonly ports?: readonly PolicyPort[];
    }[];
    readonly egress?: readonly {
      readonly to?: readonly PolicyPeer[];
      readonly ports?: readonly PolicyPort[];
    }[];
  };
}

/** Everything that decides which packets may pass on a node that holds the whole cluster. */
export interface ClusterView {
  readonly namespaces: readonly Namespace[];
  readonly pods: readonly Pod[];
  readonly policies: readonly NetworkPolicy[];
  /** The node's range of pod addresses, such as `10.42.1.0/24`. */
  readonly podCidr: string;
}

/**
 * The complete text for `nft -f -` that puts a cluster's network policies in force, in one transaction.
 *
 * The same cluster gives the same text, whatever the order of its objects. What it holds:
 *
 * - A packet of a flow's original direction must be allowed by the egress of its source and by the ingress of
 *   its destination. A packet of the reply direction is judged by the same two, with the ends exchanged. So no
 *   packet passes merely because its flow once began: a changed policy stops the flow at once, both ways,
 *   without a search through the connection table, and lets it go on when the change is taken back.
 * - The node reaches every pod; a pod always reaches itself.
 * - An address that looks like a pod's and belongs to none known here neither sends nor receives, save what the
 *   node itself began.
 * - Packets whose source address does not belong where they come from are dropped, as is IPv6 off `lo`.
 *
 * @throws Error when `podCidr` is no IPv4 range, or a selector has an operator that the API does not know.
 */
export function rulesetFor(cluster: ClusterView): string {
  const podRange = cidrRange(cluster.podCidr);
  if (podRange === undefined) {
    throw new Error(
      `POD_CIDR "${cluster.podCidr}": it must be an IPv4 range such as 10.42.1.0/24. Set it to what host-local hands out.`,
    );
  }
  const subjects = subjectsOf(cluster);
  const policies = cluster.policies.toSorted(
    (a, b) =>
      compare(a.metadata.namespace, b.metadata.namespace) ||
      compare(a.metadata.name, b.metadata.name),
  );
  const sides = [
    compileSide("egress", policies, subjects),
    compileSide("ingress", policies, subjects),
  ];
  const addresses = subjects.map((subject) => subject.address);
  const text = (address: number): string => addressText(address);

  return [
    `table ${TABLE}`,
    `delete table ${TABLE}`,
    `table ${TABLE} {`,
    ...set(
      "pod_addresses",
      "ipv4_addr",
      union([podRange, ...addresses.map(single)]).map(addressRangeText),
      "interval",
    ),
    ...set("known_pods", "ipv4_addr", addresses.map(text)),
    ...set(
      "pod_to_itself",
      "ipv4_addr . ipv4_addr",
      addresses.map((address) => `${text(address)} . ${text(address)}`),
    ),
    ...sides.flatMap((side) => side.declarations),
    ...sides.flatMap((side) => side.chains),
    ...FIXED_CHAINS,
    "}",
    "",
  ].join("\n");
}

/** A pod that policies can select and that others can mean, under the address that is its own. */
interface Subject {
  readonly pod: Pod;
  readonly namespaceLabels: Labels | undefined;
  readonly address: number;
}

function subjectsOf(cluster: ClusterView): readonly Subject[] {
  const namespaceLabels = new Map(
    cluster.namespaces.map((namespace) => [
      namespace.metadata.name,
      namespace.metadata.labels ?? {},
    ]),
  );
  const byAddress = new Map<number, Subject>();
  // A pod on its way out can still be listed under an address that its successor has been given: the last
  // in this order keeps it.
  for (const pod of cluster.pods.toSorted(byClaim)) {
    const finished = pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed";
    const address = addressNumber(pod.status?.podIP ?? "");
    if (pod.spec.hostNetwork === true || finished || address === undefined) continue;
    byAddress.set(address, {
      pod,
      namespaceLabels: namespaceLabels.get(pod.metadata.namespace),
      address,
    });
  }
  return [...byAddress.values()].toSorted((a, b) => a.address - b.address);
}

function byClaim(a: Pod, b: Pod): number {
  const leaving = (pod: Pod): number => (pod.metadata.deletionTimestamp === undefined ? 1 : 0);
  return (
    leaving(a) - leaving(b) ||
    compare(a.metadata.creationTimestamp ?? "", b.metadata.creationTimestamp ?? "") ||
    compare(a.metadata.namespace, b.metadata.namespace) ||
    compare(a.metadata.name, b.metadata.name)
  );
}

type Direction = "egress" | "ingress";

interface Side {
  readonly declarations: readonly string[];
  readonly chains: readonly string[];
}

/**
 * How the two ends of a flow read in a packet of it. In a reply, what the flow calls its destination is the
 * packet's source: at the forward hook a packet's addresses are the pods' own in both directions, because
 * destination NAT happens before the hook and is undone after it.
 */
const VIEWS = [
  {
    prefix: "",
    from: "ip saddr",
    to: "ip daddr",
    port: "meta l4proto . th dport",
    arriving: "arriving",
  },
  {
    prefix: "reply_",
    from: "ip daddr",
    to: "ip saddr",
    port: "meta l4proto . th sport",
    arriving: "reply_arriving",
  },
] as const;

interface Rule {
  /** Sorted, merged; undefined stands for everyone. */
  readonly peers: readonly Range[] | undefined;
  /** Undefined stands for every protocol and port; the two kinds of entries are alternatives. */
  readonly ports:
    { readonly numbered: readonly string[]; readonly named: readonly string[] } | undefined;
}

/** The maps, sets and chains of one direction: who is restricted, and what each policy lets through. */
function compileSide(
  direction: Direction,
  policies: readonly NetworkPolicy[],
  subjects: readonly Subject[],
): Side {
  const declarations: string[] = [];
  const chains: string[] = [];
  const policiesOf = new Map<Subject, number[]>();

  let count = 0;
  for (const policy of policies) {
    if (!policyTypes(policy).includes(direction)) continue;
    const selected = subjects.filter(
      ({ pod }) =>
        pod.metadata.namespace === policy.metadata.namespace &&
        matches(policy.spec.podSelector ?? {}, pod.metadata.labels ?? {}),
    );
    if (selected.length === 0) continue;
    count += 1;
    for (const subject of selected) {
      policiesOf.set(subject, [...(policiesOf.get(subject) ?? []), count]);
    }
    const name = `${direction}_policy_${count}`;
    const rules = rulesOf(direction, policy, selected, subjects);
    rules.forEach((rule, index) => {
      declarations.push(...setsOf(`${name}_rule_${index + 1}`, rule));
    });
    for (const view of VIEWS) {
      chains.push(
        ...chain(`${view.prefix}${name}`, [
          `comment "${`${policy.metadata.namespace}/${policy.metadata.name}`.replaceAll(/[^\w./-]/g, "?").slice(0, 120)}"`,
          ...rules.flatMap((rule, index) =>
            matchesOf(`${name}_rule_${index + 1}`, rule, direction, view).map((match) =>
              `${match} ${direction === "egress" ? `goto ${view.arriving}` : "accept"}`.trim(),
            ),
          ),
        ]),
      );
    }
  }

  // Pods under exactly the same policies share a chain.
  const groups = new Map<string, { name: string; members: number[]; policies: number[] }>();
  for (const [subject, numbers] of [...policiesOf].toSorted(([a], [b]) => a.address - b.address)) {
    const key = numbers.join();
    const group = groups.get(key) ?? {
      name: `${direction}_group_${groups.size + 1}`,
      members: [],
      policies: numbers,
    };
    group.members.push(subject.address);
    groups.set(key, group);
  }
  for (const view of VIEWS) {
    declarations.push(
      ...map(
        `${view.prefix}${direction}_of`,
        [...groups.values()]
          .flatMap((group) => group.members.map((member) => ({ member, name: group.name })))
          .toSorted((a, b) => a.member - b.member)
          .map(({ member, name }) => `${addressText(member)} : jump ${view.prefix}${name}`),
      ),
    );
    for (const group of groups.values()) {
      chains.push(
        ...chain(`${view.prefix}${group.name}`, [
          ...group.policies.map((number) => `jump ${view.prefix}${direction}_policy_${number}`),
          "drop",
        ]),
      );
    }
  }
  return { declarations, chains };
}

/** The API server writes the types down; the default is for objects that did not pass through one. */
function policyTypes(policy: NetworkPolicy): readonly Direction[] {
  const { policyTypes: stated = [], egress = [] } = policy.spec;
  const types =
    stated.length > 0 ? stated : egress.length > 0 ? ["Ingress", "Egress"] : ["Ingress"];
  return (["ingress", "egress"] as const).filter((direction) =>
    types.some((type) => type.toLowerCase() === direction),
  );
}

function rulesOf(
  direction: Direction,
  policy: NetworkPolicy,
  selected: readonly Subject[],
  subjects: readonly Subject[],
): readonly Rule[] {
  const stated =
    direction === "ingress"
      ? (policy.spec.ingress ?? []).map((rule) => ({ peers: rule.from ?? [], ports: rule.ports }))
      : (policy.spec.egress ?? []).map((rule) => ({ peers: rule.to ?? [], ports: rule.ports }));
  return stated.map(({ peers, ports = [] }) => {
    const peerRanges = union(
      peers.flatMap((peer) => rangesOf(peer, policy.metadata.namespace, subjects)),
    );
    // A named port is looked up in the pod that listens: the policy's own for ingress, the peer for egress.
    const listeners =
      direction === "ingress"
        ? selected
        : subjects.filter(
            ({ address }) =>
              peers.length === 0 ||
              peerRanges.some((range) => range.first <= address && address <= range.last),
          );
    return {
      peers: peers.length === 0 || isEveryAddress(peerRanges) ? undefined : peerRanges,
      ports:
        ports.length === 0
          ? undefined
          : { numbered: numberedPorts(ports), named: namedPorts(ports, listeners) },
    };
  });
}

function rangesOf(
  peer: PolicyPeer,
  policyNamespace: string,
  subjects: readonly Subject[],
): readonly Range[] {
  const { ipBlock, namespaceSelector, podSelector } = peer;
  if (ipBlock !== undefined) {
    const block = cidrRange(ipBlock.cidr);
    if (block === undefined) return [];
    const exceptions = (ipBlock.except ?? []).map(cidrRange);
    const readable = exceptions.filter((exception) => exception !== undefined);
    // An exception that cannot be read must not widen what is allowed.
    return readable.length === exceptions.length ? without(block, readable) : [];
  }
  if (namespaceSelector === undefined && podSelector === undefined) return [];
  return subjects
    .filter(({ pod, namespaceLabels }) => {
      const inNamespace =
        namespaceSelector === undefined
          ? pod.metadata.namespace === policyNamespace
          : namespaceLabels !== undefined && matches(namespaceSelector, namespaceLabels);
      return inNamespace && matches(podSelector ?? {}, pod.metadata.labels ?? {});
    })
    .map(({ address }) => single(address));
}

function numberedPorts(ports: readonly PolicyPort[]): readonly string[] {
  return (["TCP", "UDP", "SCTP"] as const).flatMap((protocol) =>
    union(
      ports
        .filter((port) => (port.protocol ?? "TCP") === protocol && typeof port.port !== "string")
        .map(({ port, endPort }) =>
          typeof port === "number"
            ? { first: port, last: Math.max(port, endPort ?? port) }
            : { first: 0, last: 65_535 },
        ),
    ).map(
      ({ first, last }) =>
        `${protocol.toLowerCase()} . ${first === last ? first : `${first}-${last}`}`,
    ),
  );
}

function namedPorts(
  ports: readonly PolicyPort[],
  listeners: readonly Subject[],
): readonly string[] {
  const entries = listeners.flatMap(({ pod, address }) =>
    ports.flatMap(({ port, protocol = "TCP" }) =>
      typeof port !== "string" || !isProtocol(protocol)
        ? []
        : listeningContainers(pod)
            .flatMap((container) => container.ports ?? [])
            .filter((open) => open.name === port && (open.protocol ?? "TCP") === protocol)
            .map(
              (open) =>
                `${addressText(address)} . ${protocol.toLowerCase()} . ${open.containerPort}`,
            ),
    ),
  );
  return [...new Set(entries)];
}

/** Containers that run beside each other: an init container only when it is one that stays. */
function listeningContainers(pod: Pod): readonly Container[] {
  return [
    ...pod.spec.containers,
    ...(pod.spec.initContainers ?? []).filter(({ restartPolicy }) => restartPolicy === "Always"),
  ];
}

function isProtocol(text: string): text is Protocol {
  return text === "TCP" || text === "UDP" || text === "SCTP";
}

function matches(selector: LabelSelector, labels: Labels): boolean {
  const equal = Object.entries(selector.matchLabels ?? {}).every(
    ([key, value]) => labels[key] === value,
  );
  return (
    equal &&
    (selector.matchExpressions ?? []).every(({ key, operator, values = [] }) => {
      const value = labels[key];
      switch (operator) {
        case "In":
          return value !== undefined && values.includes(value);
        case "NotIn":
          return value === undefined || !values.includes(value);
        case "Exists":
          return value !== undefined;
        case "DoesNotExist":
          return value === undefined;
        default:
          throw new Error(
            `Label selector "${key}": the operator must be In, NotIn, Exists or DoesNotExist, got ${operator}. Correct the policy.`,
          );
      }
    })
  );
}

/** The sets that a rule's matches look into, shared by both views of it. */
function setsOf(name: string, rule: Rule): readonly string[] {
  return [
    ...(rule.peers === undefined || rule.peers.length === 0
      ? []
      : set(`${name}_peers`, "ipv4_addr", rule.peers.map(addressRangeText), "interval")),
    ...(rule.ports === undefined || rule.ports.numbered.length === 0
      ? []
      : set(`${name}_ports`, "inet_proto . inet_service", rule.ports.numbered, "interval")),
    ...(rule.ports === undefined || rule.ports.named.length === 0
      ? []
      : set(`${name}_named`, "ipv4_addr . inet_proto . inet_service", rule.ports.named)),
  ];
}

/** What a packet must match to be let through by a rule: alternatives, none when the rule lets nobody through. */
function matchesOf(
  name: string,
  rule: Rule,
  direction: Direction,
  view: (typeof VIEWS)[number],
): readonly string[] {
  const peerEnd = direction === "ingress" ? view.from : view.to;
  if (rule.peers?.length === 0) return [];
  const peers = rule.peers === undefined ? "" : `${peerEnd} @${name}_peers`;
  if (rule.ports === undefined) return [peers];
  return [
    ...(rule.ports.numbered.length > 0 ? [`${peers} ${view.port} @${name}_ports`.trim()] : []),
    ...(rule.ports.named.length > 0
      ? [`${peers} ${view.to} . ${view.port} @${name}_named`.trim()]
      : []),
  ];
}

function single(address: number): Range {
  return { first: address, last: address };
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function set(
  name: string,
  type: string,
  elements: readonly string[],
  flags?: string,
): readonly string[] {
  return [
    `  set ${name} {`,
    `    type ${type}`,
    ...(flags === undefined ? [] : [`    flags ${flags}`]),
    ...elementsOf(elements),
    "  }",
  ];
}

function map(name: string, elements: readonly string[]): readonly string[] {
  return [`  map ${name} {`, "    type ipv4_addr : verdict", ...elementsOf(elements), "  }"];
}

function elementsOf(elements: readonly string[]): readonly string[] {
  return elements.length === 0 ? [] : [`    elements = { ${elements.join(", ")} }`];
}

function chain(name: string, lines: readonly string[]): readonly string[] {
  return [`  chain ${name} {`, ...lines.map((line) => `    ${line}`), "  }"];
}

/**
 * The way of a packet, the same for every cluster.
 *
 * `ct state new` with a TCP segment that is no SYN would be a flow that conntrack forgot, picked up in the
 * middle, with its reply taken for its beginning.
 */
const FIXED_CHAINS: readonly string[] = [
  ...chain("arriving", ["ip daddr vmap @ingress_of", "accept"]),
  ...chain("reply_arriving", ["ip saddr vmap @reply_ingress_of", "accept"]),
  ...chain("forward", [
    "type filter hook forward priority filter; policy accept;",
    "meta nfproto ipv6 drop",
    "fib saddr . iif oif missing drop",
    "ip saddr != @pod_addresses ip daddr != @pod_addresses accept",
    "ip saddr @pod_addresses ip saddr != @known_pods drop",
    "ip daddr @pod_addresses ip daddr != @known_pods drop",
    "ct state vmap { invalid : drop, related : accept }",
    "ip saddr . ip daddr @pod_to_itself accept",
    "ct direction reply goto reply_forward",
    "ct state new meta l4proto tcp tcp flags & (fin | syn | rst | ack) != syn drop",
    "ip saddr vmap @egress_of",
    "goto arriving",
  ]),
  ...chain("reply_forward", ["ip daddr vmap @reply_egress_of", "goto reply_arriving"]),
  ...chain("to_node", [
    "type filter hook input priority filter; policy accept;",
    'iifname "lo" accept',
    "meta nfproto ipv6 drop",
    "fib saddr . iif oif missing drop",
    "ip saddr != @pod_addresses accept",
    "ct direction reply accept",
    "ip saddr != @known_pods drop",
    "ct state vmap { invalid : drop, related : accept }",
    "ct state new meta l4proto tcp tcp flags & (fin | syn | rst | ack) != syn drop",
    "ip saddr vmap @egress_of",
    "accept",
  ]),
  ...chain("from_node", [
    "type filter hook output priority filter; policy accept;",
    'oifname "lo" accept',
    "meta nfproto ipv6 drop",
    "ip daddr != @pod_addresses accept",
    "ct state related accept",
    "ct direction original accept",
    "ip daddr vmap @reply_egress_of",
    "accept",
  ]),
];
