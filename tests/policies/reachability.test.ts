import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SHUT_RANGES } from "../../model/network.ts";
import { RULES } from "../../policies/rules.ts";
import { say } from "../support/judge.ts";
import type { Judged } from "../support/judge.ts";
import { STACKS } from "./mutants.ts";

/**
 * Generated network policies in a tenant's namespace, judged twice: by the pack, and by following every flow through the
 * policies as Kubernetes defines them. What the pack lets pass must open no flow that is not a tenant's own.
 */

type Labels = Readonly<Record<string, string>>;

interface Selector {
  readonly matchLabels?: Labels;
}

interface Peer {
  readonly ipBlock?: { readonly cidr: string; readonly except?: readonly string[] };
  readonly namespaceSelector?: Selector;
  readonly podSelector?: Selector;
}

interface Port {
  readonly protocol?: string;
  readonly port?: number;
  readonly endPort?: number;
}

interface Spec {
  readonly podSelector: Selector;
  readonly policyTypes: readonly string[];
  readonly ingress?: readonly {
    readonly from?: readonly Peer[];
    readonly ports?: readonly Port[];
  }[];
  readonly egress?: readonly { readonly to?: readonly Peer[]; readonly ports?: readonly Port[] }[];
}

/** One end of a flow: a pod with its namespace's and its own labels, or an address outside the cluster. */
interface End {
  readonly is: string;
  readonly address: string;
  readonly namespace?: Labels;
  readonly pod?: Labels;
}

const named = (name: string): Labels => ({ "kubernetes.io/metadata.name": name });
const APP = { "app.kubernetes.io/name": "tenant-app", "app.kubernetes.io/component": "app" };
const BACKUP = {
  "app.kubernetes.io/name": "tenant-backup",
  "app.kubernetes.io/component": "backup",
};

const OWN: readonly End[] = [
  { is: "app", address: "10.42.0.5", namespace: named("tenant-acme"), pod: APP },
  { is: "backup", address: "10.42.0.6", namespace: named("tenant-acme"), pod: BACKUP },
];

/** Ends that no pod of the tenant may reach, on any port. */
const SHUT: readonly End[] = [
  { is: "another tenant's pod", address: "10.42.0.9", namespace: named("tenant-other"), pod: APP },
  {
    is: "another tenant's backup",
    address: "10.42.0.10",
    namespace: named("tenant-other"),
    pod: BACKUP,
  },
  {
    is: "the cluster's metrics",
    address: "10.42.0.3",
    namespace: named("kube-system"),
    pod: { "k8s-app": "metrics-server" },
  },
  { is: "another location", address: "10.77.0.31" },
  { is: "the API server's service", address: "10.43.0.1" },
  { is: "the metadata address", address: "169.254.169.254" },
  { is: "a private network", address: "192.168.1.1" },
  { is: "a private network of providers", address: "100.64.0.1" },
  { is: "loopback", address: "127.0.0.1" },
];

/** Ends that may be reached, and on which ports alone. */
const OPEN: readonly (End & { readonly ports: readonly string[] })[] = [
  {
    is: "DNS",
    address: "10.42.0.2",
    namespace: named("kube-system"),
    pod: { "k8s-app": "kube-dns" },
    ports: ["UDP/53", "TCP/53"],
  },
  { is: "the database's host", address: "10.77.0.21", ports: ["TCP/5432"] },
  { is: "the store's host", address: "10.77.0.10", ports: ["TCP/22"] },
  { is: "the outer world", address: "93.184.216.34", ports: ["TCP/443", "TCP/587"] },
];

const INGRESS: End = {
  is: "the ingress",
  address: "10.42.0.4",
  namespace: named("kube-system"),
  pod: { "app.kubernetes.io/name": "traefik" },
};

const PORTS = [
  "TCP/22",
  "TCP/25",
  "UDP/53",
  "TCP/53",
  "TCP/443",
  "TCP/587",
  "TCP/636",
  "TCP/1883",
  "TCP/5432",
  "TCP/6443",
  "TCP/8080",
  "TCP/8443",
  "UDP/443",
];

const oneOf = fc.constantFrom;
const systemLabels = oneOf<Labels>(
  { "k8s-app": "kube-dns" },
  { "app.kubernetes.io/name": "traefik" },
  { "k8s-app": "metrics-server" },
  {},
);
const podPeer: fc.Arbitrary<Peer> = fc.record(
  {
    namespaceSelector: oneOf<Selector>(
      { matchLabels: named("kube-system") },
      { matchLabels: named("tenant-acme") },
      { matchLabels: named("tenant-other") },
      { matchLabels: { "fluxbilling.dev/zone": "eu" } },
      {},
    ),
    podSelector: systemLabels.map((matchLabels) => ({ matchLabels })),
  },
  { requiredKeys: [] },
);
const goodPeers = oneOf<Peer>(
  { ipBlock: { cidr: "10.77.0.21/32" } },
  { ipBlock: { cidr: "10.77.0.10/32" } },
  { ipBlock: { cidr: "0.0.0.0/0", except: SHUT_RANGES } },
  {
    namespaceSelector: { matchLabels: named("kube-system") },
    podSelector: { matchLabels: { "k8s-app": "kube-dns" } },
  },
  {
    namespaceSelector: { matchLabels: named("kube-system") },
    podSelector: { matchLabels: { "app.kubernetes.io/name": "traefik" } },
  },
);
const blockPeer: fc.Arbitrary<Peer> = fc.record({
  ipBlock: fc.record(
    {
      cidr: oneOf(
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.42.0.0/16",
        "10.42.0.9/32",
        "10.77.0.21/32",
        "169.254.169.254/32",
        "0.0.0.0/1",
        "128.0.0.0/1",
      ),
      except: fc.subarray([...SHUT_RANGES]),
    },
    { requiredKeys: ["cidr"] },
  ),
});
const peer = fc.oneof({ weight: 3, arbitrary: goodPeers }, podPeer, blockPeer);
const port: fc.Arbitrary<Port> = fc.oneof(
  {
    weight: 4,
    arbitrary: oneOf<Port>(
      { protocol: "TCP", port: 5432 },
      { protocol: "TCP", port: 443 },
      { protocol: "TCP", port: 8080 },
      { protocol: "TCP", port: 22 },
      { protocol: "UDP", port: 53 },
    ),
  },
  fc.record(
    {
      protocol: oneOf("TCP", "UDP"),
      port: oneOf(22, 25, 53, 443, 587, 636, 1883, 5432, 6443, 8080),
      endPort: oneOf(8080, 65_535),
    },
    { requiredKeys: [] },
  ),
);
const peers = fc.array(peer, { maxLength: 2 });
const ports = fc.array(port, { maxLength: 2 });
const spec: fc.Arbitrary<Spec> = fc.record(
  {
    podSelector: oneOf<Selector>({}, { matchLabels: APP }, { matchLabels: BACKUP }),
    policyTypes: fc.subarray(["Ingress", "Egress"], { minLength: 1 }),
    ingress: fc.array(fc.record({ from: peers, ports }, { requiredKeys: [] }), { maxLength: 2 }),
    egress: fc.array(fc.record({ to: peers, ports }, { requiredKeys: [] }), { maxLength: 2 }),
  },
  { requiredKeys: ["podSelector", "policyTypes"] },
);

describe("a tenant's network policies", () => {
  it("open no flow but the tenant's own, where the pack lets them pass", () => {
    let passed = 0;
    let refusedOpen = 0;
    fc.assert(
      fc.property(fc.array(spec, { minLength: 1, maxLength: 2 }), (specs) => {
        const refused = isRefused(specs);
        const open = foreignFlows(specs);
        if (refused) {
          refusedOpen += open.length > 0 ? 1 : 0;
          return;
        }
        passed += 1;
        expect(open).toEqual([]);
      }),
      { numRuns: 5_000, seed: 20_261_122 },
    );
    // Neither half of the property is empty.
    expect(passed).toBeGreaterThan(50);
    expect(refusedOpen).toBeGreaterThan(500);
  });

  it("open the flows that a tenant needs, as they are", () => {
    const specs = STACKS.tenant
      .filter(({ type }) => type.endsWith(":NetworkPolicy"))
      .map(({ props }) => (props as { spec: Spec }).spec);
    expect(foreignFlows([])).not.toEqual([]);
    const [app, backup] = OWN as [End, End];
    expect(foreignFlows(specs, [])).toEqual([]);
    expect(flows(INGRESS, app, "TCP/8080", specs, [])).toBe(true);
    for (const { ports: allowed, ...end } of OPEN) {
      for (const name of allowed) {
        expect([end.is, name, flows(app, end, name, specs, [])]).toEqual([
          end.is,
          name,
          end.is !== "the store's host",
        ]);
      }
    }
    expect(flows(backup, OPEN[2] as End, "TCP/22", specs, [])).toBe(true);
  });
});

/** The good policies of the tenant, with generated ones beside them. */
function isRefused(specs: readonly Spec[]): boolean {
  const added: readonly Judged[] = specs.map((generated, index) => ({
    type: "kubernetes:networking.k8s.io/v1:NetworkPolicy",
    name: `generated-${index}`,
    props: { metadata: { name: `generated-${index}`, namespace: "tenant-acme" }, spec: generated },
    provider: "nl-1-cluster",
  }));
  const judging = [
    "network-peer-is-exact",
    "tenant-reaches-only-its-own",
    "namespace-has-default-deny",
  ];
  return RULES.filter(({ name }) => judging.includes(name)).some(
    (rule) => say(rule, [...STACKS.tenant, ...added]).length > 0,
  );
}

const DENY_ALL: Spec = { podSelector: {}, policyTypes: ["Ingress", "Egress"] };

/** Every flow of the tenant's pods that is not the tenant's own; the default deny stands beside the policies. */
function foreignFlows(
  specs: readonly Spec[],
  base: readonly Spec[] = specs.length === 0 ? [] : [DENY_ALL],
): readonly string[] {
  const found: string[] = [];
  for (const own of OWN) {
    for (const name of PORTS) {
      for (const end of SHUT) {
        if (flows(own, end, name, specs, base)) {
          found.push(`${own.is} to ${end.is} ${name}`);
        }
        if (flows(end, own, name, specs, base)) {
          found.push(`${end.is} to ${own.is} ${name}`);
        }
      }
      for (const end of OPEN) {
        if (!end.ports.includes(name) && flows(own, end, name, specs, base)) {
          found.push(`${own.is} to ${end.is} ${name}`);
        }
        if (flows(end, own, name, specs, base)) {
          found.push(`${end.is} to ${own.is} ${name}`);
        }
      }
      if (name !== "TCP/8080" && flows(INGRESS, own, name, specs, base)) {
        found.push(`${INGRESS.is} to ${own.is} ${name}`);
      }
    }
  }
  return found;
}

/**
 * Whether a connection goes through, by Kubernetes' rules: a pod that some policy of a direction selects accepts what at
 * least one of those policies allows; one that none selects accepts all. Only the tenant's namespace has policies here.
 */
function flows(
  from: End,
  to: End,
  name: string,
  specs: readonly Spec[],
  base: readonly Spec[],
): boolean {
  const all = [...base, ...specs];
  const direction = (end: End, other: End, type: "Ingress" | "Egress"): boolean => {
    if (!OWN.includes(end)) {
      return true;
    }
    const selecting = all.filter(
      ({ podSelector, policyTypes }) =>
        policyTypes.includes(type) && fits(podSelector, end.pod ?? {}),
    );
    return (
      selecting.length === 0 ||
      selecting.some((policy) =>
        (type === "Ingress"
          ? (policy.ingress ?? []).map((rule) => ({ peers: rule.from, ports: rule.ports }))
          : (policy.egress ?? []).map((rule) => ({ peers: rule.to, ports: rule.ports }))
        ).some(
          (rule) =>
            (rule.peers === undefined ||
              rule.peers.length === 0 ||
              rule.peers.some((candidate) => isPeer(candidate, other))) &&
            (rule.ports === undefined ||
              rule.ports.length === 0 ||
              rule.ports.some((candidate) => isPort(candidate, name))),
        ),
      )
    );
  };
  return direction(from, to, "Egress") && direction(to, from, "Ingress");
}

function fits({ matchLabels = {} }: Selector, labels: Labels): boolean {
  return Object.entries(matchLabels).every(([key, value]) => labels[key] === value);
}

function isPeer({ ipBlock, namespaceSelector, podSelector }: Peer, end: End): boolean {
  if (ipBlock !== undefined) {
    return (
      inRange(end.address, ipBlock.cidr) &&
      !(ipBlock.except ?? []).some((range) => inRange(end.address, range))
    );
  }
  if (end.pod === undefined || end.namespace === undefined) {
    return false;
  }
  const zoned = { ...end.namespace, "fluxbilling.dev/zone": "eu" };
  const inNamespace =
    namespaceSelector === undefined
      ? fits({ matchLabels: named("tenant-acme") }, end.namespace)
      : fits(namespaceSelector, zoned);
  return inNamespace && (podSelector === undefined || fits(podSelector, end.pod));
}

function isPort({ protocol = "TCP", port: first, endPort }: Port, name: string): boolean {
  const [wanted = "", number = ""] = name.split("/");
  const asked = Number(number);
  return (
    wanted === protocol && (first === undefined || (asked >= first && asked <= (endPort ?? first)))
  );
}

function inRange(address: string, cidr: string): boolean {
  const [base = "", bits = "32"] = cidr.split("/");
  const size = 2 ** (32 - Number(bits));
  return Math.floor(numberOf(address) / size) === Math.floor(numberOf(base) / size);
}

function numberOf(address: string): number {
  return address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
}
