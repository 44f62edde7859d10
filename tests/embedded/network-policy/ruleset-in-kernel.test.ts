import fc from "fast-check";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { rulesetFor } from "../../../embedded/network-policy/ruleset.ts";
import type { NetworkPolicy, Pod } from "../../../embedded/network-policy/ruleset.ts";
import { isAllowed } from "./oracle.ts";
import type { Cluster } from "./oracle.ts";
import {
  GATEWAY,
  INTERNET,
  METADATA,
  NEIGHBOUR,
  NODE,
  POD_CIDR,
  PodBench,
  PRIVATE,
  SERVICE,
} from "./pod-bench.ts";
import type { Probe } from "./pod-bench.ts";

/** Names of the bench's pods; `ghost` has an address that the cluster does not know. */
const ADDRESS = {
  app: "10.42.9.2",
  db: "10.42.9.3",
  foreign: "10.42.9.4",
  ghost: "10.42.9.5",
} as const;
type PodName = Exclude<keyof typeof ADDRESS, "ghost">;

const CUT_WITHIN_MS = 300;
const PASSES_WITHIN_MS = 5_000;

let bench: PodBench;

beforeAll(async () => {
  bench = await PodBench.start(ADDRESS);
}, 60_000);

afterEach(async () => {
  for (const name of Object.keys(ADDRESS)) await bench.ask(name, { kind: "close" });
});

afterAll(async () => {
  await bench.stop();
}, 60_000);

function pod(name: PodName, namespace: string, labels: Record<string, string>): Pod {
  return {
    metadata: { namespace, name, labels },
    spec: {
      containers: [
        {
          ports: [
            { name: "web", containerPort: name === "db" ? 5432 : 80 },
            { name: "dns", containerPort: 443, protocol: "UDP" },
          ],
        },
      ],
    },
    status: { phase: "Running", podIP: ADDRESS[name] },
  };
}

function cluster(...policies: readonly NetworkPolicy[]): Cluster {
  return {
    namespaces: [
      { metadata: { name: "acme", labels: { tenant: "acme" } } },
      { metadata: { name: "bolt", labels: { tenant: "bolt" } } },
    ],
    pods: [
      pod("app", "acme", { role: "app" }),
      pod("db", "acme", { role: "db" }),
      pod("foreign", "bolt", { role: "app" }),
    ],
    policies,
  };
}

function policy(spec: NetworkPolicy["spec"], name = "rule", namespace = "acme"): NetworkPolicy {
  return { metadata: { namespace, name }, spec };
}

async function enforce(view: Cluster): Promise<void> {
  await bench.load(rulesetFor({ ...view, podCidr: POD_CIDR }));
}

function probe(from: string, address: string, port = 80, protocol: "TCP" | "UDP" = "TCP"): Probe {
  return { from, address, port, protocol };
}

/** Every listed probe by TCP; the expectation is the exact list of those that get through. */
async function passing(probes: readonly Probe[], expected: readonly Probe[]): Promise<void> {
  expect(await bench.reach(probes, expected)).toEqual(expected);
}

/** Opens a connection from one pod to another that later packets ride on. */
async function hold(from: PodName, to: PodName | "node", protocol: "TCP" | "UDP"): Promise<Flow> {
  await bench.ask(from, {
    kind: "hold",
    target: { protocol, address: to === "node" ? NODE : ADDRESS[to], port: 80 },
  });
  return {
    asks: (withinMs) =>
      bench.passes(
        { from, request: (token) => ({ kind: "say", token }) },
        { name: from, kind: "echoed" },
        withinMs,
      ),
    arrives: (withinMs) =>
      bench.passes(
        { from, request: (token) => ({ kind: "say", token }) },
        { name: to, kind: "received" },
        withinMs,
      ),
    pushes: (withinMs) =>
      bench.passes(
        { from: to, request: (token) => ({ kind: "push", protocol, token }) },
        { name: from, kind: "echoed" },
        withinMs,
      ),
  };
}

interface Flow {
  /** A packet there and its echo back. */
  readonly asks: (withinMs: number) => Promise<boolean>;
  /** A packet there. */
  readonly arrives: (withinMs: number) => Promise<boolean>;
  /** A packet back that nobody asked for. */
  readonly pushes: (withinMs: number) => Promise<boolean>;
}

const DENY_ALL = policy({ podSelector: {}, policyTypes: ["Ingress", "Egress"] }, "deny-all");

describe("rulesetFor, in the kernel", () => {
  it("lets everything through where no policy is", async () => {
    await enforce(cluster());
    const probes = [
      probe("app", ADDRESS.db),
      probe("foreign", ADDRESS.app, 80, "UDP"),
      probe("app", NODE),
      probe("app", GATEWAY),
      probe("app", INTERNET),
      probe("node", ADDRESS.app),
      probe("neighbour", ADDRESS.app),
    ];
    await passing(probes, probes);
  });

  it("shuts a pod off both ways but from its node and itself", async () => {
    await enforce(cluster(DENY_ALL));
    const fromNode = probe("node", ADDRESS.app);
    const fromNodeByUdp = probe("node", ADDRESS.db, 443, "UDP");
    const toItself = probe("app", ADDRESS.app);
    const overItsService = probe("db", SERVICE, 5432);
    const between = probe("foreign", NODE);
    const expected = [fromNode, fromNodeByUdp, toItself, overItsService, between];
    await passing(
      [
        ...expected,
        probe("app", ADDRESS.db),
        probe("app", ADDRESS.db, 80, "UDP"),
        probe("foreign", ADDRESS.app),
        probe("app", ADDRESS.foreign),
        probe("app", NODE, 5432),
        probe("app", GATEWAY),
        probe("app", NEIGHBOUR),
        probe("app", METADATA),
        probe("app", INTERNET, 443, "UDP"),
        probe("app", SERVICE),
        probe("neighbour", ADDRESS.app),
      ],
      expected,
    );
  });

  it("does not let a pod walk around its policy over IPv6 link-local addresses", async () => {
    await enforce(cluster(DENY_ALL));
    await passing([probe("app", "fe80::1%eth0"), probe("foreign", "fe80::1%eth0", 80, "UDP")], []);
  });

  it("keeps what it does not know apart, and lets the node reach it", async () => {
    await enforce(cluster());
    const fromNode = probe("node", ADDRESS.ghost);
    await passing(
      [
        fromNode,
        probe("ghost", ADDRESS.app),
        probe("app", ADDRESS.ghost),
        probe("ghost", NODE),
        probe("ghost", INTERNET),
        probe("neighbour", ADDRESS.ghost),
      ],
      [fromNode],
    );
  });

  it("drops a packet under an address that is not its sender's", async () => {
    await enforce(
      cluster(
        policy({
          podSelector: { matchLabels: { role: "db" } },
          policyTypes: ["Ingress"],
          ingress: [{ from: [{ podSelector: { matchLabels: { role: "app" } } }] }],
        }),
      ),
    );
    const honest = probe("app", ADDRESS.db, 80, "UDP");
    await passing([honest], [honest]);
    // The impostor's packets leave under the address of the pod that may.
    await bench.inPod("foreign", "ip", ["address", "add", `${ADDRESS.app}/32`, "dev", "eth0"]);
    await bench.inPod("foreign", "ip", [
      ...["route", "add", `${ADDRESS.db}/32`],
      ...["via", GATEWAY, "src", ADDRESS.app],
    ]);
    try {
      await passing([probe("foreign", ADDRESS.db, 80, "UDP")], []);
    } finally {
      await bench.inPod("foreign", "ip", ["route", "del", `${ADDRESS.db}/32`]);
      await bench.inPod("foreign", "ip", ["address", "del", `${ADDRESS.app}/32`, "dev", "eth0"]);
    }
  });

  it("adds policies up", async () => {
    await enforce(
      cluster(
        DENY_ALL,
        policy(
          {
            podSelector: { matchLabels: { role: "app" } },
            policyTypes: ["Egress"],
            egress: [
              { to: [{ podSelector: { matchLabels: { role: "db" } } }], ports: [{ port: 5432 }] },
            ],
          },
          "app-to-db",
        ),
        policy(
          {
            podSelector: { matchLabels: { role: "db" } },
            policyTypes: ["Ingress"],
            ingress: [
              {
                from: [{ podSelector: { matchLabels: { role: "app" } } }],
                ports: [{ port: 5432 }],
              },
            ],
          },
          "db-from-app",
        ),
      ),
    );
    const toDatabase = probe("app", ADDRESS.db, 5432);
    const overTheService = probe("app", SERVICE, 5432);
    await passing(
      [
        toDatabase,
        overTheService,
        probe("app", ADDRESS.db, 80),
        probe("app", ADDRESS.db, 5432, "UDP"),
        probe("foreign", ADDRESS.db, 5432),
        probe("db", ADDRESS.app, 5432),
      ],
      [toDatabase, overTheService],
    );
  });

  it("tells a namespace selector from a pod selector and from both at once", async () => {
    const from = (peer: object): NetworkPolicy =>
      policy({ podSelector: { matchLabels: { role: "db" } }, ingress: [{ from: [peer] }] });
    const own = probe("app", ADDRESS.db);
    const foreign = probe("foreign", ADDRESS.db);

    await enforce(cluster(from({ podSelector: {} })));
    await passing([own, foreign], [own]);
    await enforce(cluster(from({ namespaceSelector: { matchLabels: { tenant: "bolt" } } })));
    await passing([own, foreign], [foreign]);
    await enforce(cluster(from({ namespaceSelector: {} })));
    await passing([own, foreign], [own, foreign]);
    await enforce(
      cluster(
        from({
          namespaceSelector: {},
          podSelector: { matchExpressions: [{ key: "role", operator: "NotIn", values: ["app"] }] },
        }),
      ),
    );
    await passing([own, foreign], []);
  });

  it("allows a block of addresses and not its exceptions", async () => {
    await enforce(
      cluster(
        policy({
          podSelector: { matchLabels: { role: "app" } },
          policyTypes: ["Egress"],
          egress: [
            {
              to: [
                {
                  ipBlock: {
                    cidr: "0.0.0.0/0",
                    except: ["10.0.0.0/8", "169.254.0.0/16", "192.0.2.9/32"],
                  },
                },
              ],
            },
          ],
        }),
      ),
    );
    const internet = probe("app", INTERNET, 443);
    const node = probe("app", NODE, 5432);
    await passing(
      [
        internet,
        node,
        probe("app", METADATA),
        probe("app", PRIVATE),
        probe("app", NEIGHBOUR),
        probe("app", ADDRESS.db),
      ],
      [internet, node],
    );
  });

  it("lets a pod reach the node's address on the named port only", async () => {
    await enforce(
      cluster(
        policy({
          podSelector: { matchLabels: { role: "app" } },
          policyTypes: ["Egress"],
          egress: [{ to: [{ ipBlock: { cidr: `${NODE}/32` } }], ports: [{ port: 5432 }] }],
        }),
      ),
    );
    const database = probe("app", NODE, 5432);
    await passing(
      [
        database,
        probe("app", NODE, 443),
        probe("app", GATEWAY, 5432),
        probe("app", NODE, 5432, "UDP"),
      ],
      [database],
    );
  });

  it("resolves a named port in the pod that listens", async () => {
    await enforce(
      cluster(
        policy(
          { podSelector: {}, policyTypes: ["Ingress"], ingress: [{ ports: [{ port: "web" }] }] },
          "in",
        ),
        policy(
          {
            podSelector: {},
            policyTypes: ["Egress"],
            egress: [
              { to: [{ namespaceSelector: {} }], ports: [{ port: "dns", protocol: "UDP" }] },
            ],
          },
          "out",
          "bolt",
        ),
      ),
    );
    const expected = [
      probe("app", ADDRESS.db, 5432),
      probe("db", ADDRESS.app, 80),
      probe("app", ADDRESS.foreign, 443),
    ];
    await passing(
      [
        ...expected,
        probe("app", ADDRESS.db, 80),
        probe("db", ADDRESS.app, 5432),
        probe("foreign", ADDRESS.app, 80),
        probe("foreign", ADDRESS.app, 443, "UDP"),
      ],
      expected,
    );
  });

  it("allows a span of ports with its ends", async () => {
    await enforce(
      cluster(
        policy({
          podSelector: { matchLabels: { role: "db" } },
          ingress: [{ ports: [{ port: 80, endPort: 443 }] }],
        }),
      ),
    );
    const expected = [probe("app", ADDRESS.db, 80), probe("app", ADDRESS.db, 443)];
    await passing([...expected, probe("app", ADDRESS.db, 5432)], expected);
  });

  it("does not let a ping across where a port is all that is allowed", async () => {
    const ping = (): Promise<boolean> =>
      bench.inPod("app", "busybox", ["ping", "-c", "1", "-W", "1", ADDRESS.db]).then(
        () => true,
        () => false,
      );
    await enforce(cluster());
    expect(await ping()).toBe(true);
    await enforce(
      cluster(policy({ podSelector: {}, policyTypes: ["Ingress"], ingress: [{ ports: [{}] }] })),
    );
    expect(await ping()).toBe(false);
  });

  for (const protocol of ["TCP", "UDP"] as const) {
    for (const type of ["Ingress", "Egress"] as const) {
      it(`cuts a ${protocol} flow both ways when a policy forbids its ${type.toLowerCase()}, and lets it go on after`, async () => {
        await enforce(cluster());
        const flow = await hold("app", "db", protocol);
        expect(await flow.asks(PASSES_WITHIN_MS)).toBe(true);
        expect(await flow.pushes(PASSES_WITHIN_MS)).toBe(true);

        const subject = type === "Ingress" ? "db" : "app";
        await enforce(
          cluster(policy({ podSelector: { matchLabels: { role: subject } }, policyTypes: [type] })),
        );
        expect(await flow.pushes(CUT_WITHIN_MS)).toBe(false);
        expect(await flow.arrives(CUT_WITHIN_MS)).toBe(false);

        await enforce(cluster());
        expect(await flow.pushes(PASSES_WITHIN_MS)).toBe(true);
        expect(await flow.asks(PASSES_WITHIN_MS)).toBe(true);
      });
    }
  }

  it("cuts the node's packets to a pod that may no longer reach it", async () => {
    await enforce(cluster());
    // By TCP, whose answers leave under the address that was asked.
    const flow = await hold("app", "node", "TCP");
    expect(await flow.asks(PASSES_WITHIN_MS)).toBe(true);
    await enforce(cluster(policy({ podSelector: {}, policyTypes: ["Egress"] })));
    expect(await flow.pushes(CUT_WITHIN_MS)).toBe(false);
    expect(await flow.arrives(CUT_WITHIN_MS)).toBe(false);
  });

  it("does not take the middle of a connection that conntrack forgot for a new one", async () => {
    await enforce(cluster());
    const flow = await hold("app", "db", "TCP");
    expect(await flow.asks(PASSES_WITHIN_MS)).toBe(true);
    await enforce(
      cluster(policy({ podSelector: { matchLabels: { role: "db" } }, policyTypes: ["Ingress"] })),
    );
    await bench.inNode("conntrack", ["-F"]);
    // From the server it would look like a connection to the client, which nothing forbids.
    expect(await flow.pushes(CUT_WITHIN_MS)).toBe(false);
  });

  it("keeps an allowed flow alive through a change that does not concern it", async () => {
    await enforce(cluster());
    const flow = await hold("app", "db", "TCP");
    expect(await flow.asks(PASSES_WITHIN_MS)).toBe(true);
    await enforce(
      cluster(
        DENY_ALL,
        policy(
          {
            podSelector: {},
            policyTypes: ["Ingress", "Egress"],
            ingress: [{ from: [{ podSelector: {} }] }],
            egress: [{ to: [{ podSelector: {} }] }],
          },
          "within",
        ),
      ),
    );
    // An idle client: the server speaks first.
    expect(await flow.pushes(PASSES_WITHIN_MS)).toBe(true);
    expect(await flow.asks(PASSES_WITHIN_MS)).toBe(true);
  });

  it("agrees with the oracle about any cluster", async () => {
    const seen = { allowed: 0, denied: 0 };
    await fc.assert(
      fc.asyncProperty(anyCluster, async (view) => {
        await enforce(view);
        const probes = ALL_PROBES;
        const expected = probes.filter((each) =>
          each.from === "node"
            ? true
            : isAllowed(view, {
                source: SOURCE[each.from as keyof typeof SOURCE],
                destination: each.address === SERVICE ? ADDRESS.db : each.address,
                protocol: each.protocol,
                port: each.port,
              }),
        );
        seen.allowed += expected.length;
        seen.denied += probes.length - expected.length;
        expect(await bench.reach(probes, expected)).toEqual(expected);
      }),
      { numRuns: 60 },
    );
    // A generator that only ever allows, or only ever denies, would prove nothing.
    expect(Math.min(seen.allowed, seen.denied)).toBeGreaterThan(500);
  }, 120_000);
});

const SOURCE = {
  app: ADDRESS.app,
  db: ADDRESS.db,
  foreign: ADDRESS.foreign,
  neighbour: NEIGHBOUR,
} as const;

const ALL_PROBES: readonly Probe[] = [
  ...(["app", "db", "foreign"] as const).flatMap((from) =>
    [ADDRESS.app, ADDRESS.db, ADDRESS.foreign, NODE, NEIGHBOUR, INTERNET, SERVICE].flatMap(
      (address) => [
        probe(from, address, 80, "TCP"),
        // The neighbour answers UDP under its first address only.
        ...(address === INTERNET ? [] : [probe(from, address, 443, "UDP")]),
        probe(from, address, 5432, "TCP"),
      ],
    ),
  ),
  ...[ADDRESS.app, ADDRESS.db, ADDRESS.foreign].flatMap((address) => [
    probe("neighbour", address, 80, "UDP"),
    probe("node", address, 443, "TCP"),
  ]),
];

const labels = fc.dictionary(fc.constantFrom("role", "tier"), fc.constantFrom("a", "b"));

const selector = fc.record(
  {
    matchLabels: labels,
    matchExpressions: fc.array(
      fc.record({
        key: fc.constantFrom("role", "tier"),
        operator: fc.constantFrom("In", "NotIn", "Exists", "DoesNotExist"),
        values: fc.uniqueArray(fc.constantFrom("a", "b"), { minLength: 1 }),
      }),
      { maxLength: 1 },
    ),
  },
  { requiredKeys: [] },
);

const peer = fc.oneof(
  fc.record({ podSelector: selector }),
  fc.record({ namespaceSelector: selector }),
  fc.record({ namespaceSelector: selector, podSelector: selector }),
  fc.record({
    ipBlock: fc.record({
      cidr: fc.constantFrom("0.0.0.0/0", "192.0.2.0/24", "10.42.9.0/24", "203.0.113.10/32"),
      except: fc.subarray(["10.42.9.2/31", "192.0.2.9/32", "128.0.0.0/1", "10.0.0.0/8"]),
    }),
  }),
);

const port = fc.oneof(
  fc.record({ protocol: fc.constantFrom("TCP", "UDP") }),
  fc.record({ protocol: fc.constantFrom("TCP", "UDP"), port: fc.constantFrom(80, 443, 5432) }),
  fc.record({ port: fc.constantFrom(79, 80, 81), endPort: fc.constantFrom(443, 5432) }),
  fc.record({ protocol: fc.constantFrom("TCP", "UDP"), port: fc.constantFrom("web", "dns") }),
);

const peersAndPorts = fc.tuple(fc.array(peer, { maxLength: 2 }), fc.array(port, { maxLength: 2 }));

const anyPolicy = fc
  .record({
    namespace: fc.constantFrom("acme", "bolt"),
    podSelector: fc.oneof(fc.constant({}), selector),
    policyTypes: fc.constantFrom(["Ingress"], ["Egress"], ["Ingress", "Egress"]),
    ingress: fc.array(peersAndPorts, { maxLength: 2 }),
    egress: fc.array(peersAndPorts, { maxLength: 2 }),
  })
  .map(({ namespace, podSelector, policyTypes, ingress, egress }) => ({
    namespace,
    spec: {
      podSelector,
      policyTypes,
      ingress: ingress.map(([from, ports]) => ({ from, ports })),
      egress: egress.map(([to, ports]) => ({ to, ports })),
    },
  }));

const anyCluster: fc.Arbitrary<Cluster> = fc
  .record({
    namespaceLabels: fc.tuple(labels, labels),
    podLabels: fc.tuple(labels, labels, labels),
    policies: fc.array(anyPolicy, { maxLength: 4 }),
  })
  .map(({ namespaceLabels, podLabels, policies }) => ({
    namespaces: [
      { metadata: { name: "acme", labels: namespaceLabels[0] } },
      { metadata: { name: "bolt", labels: namespaceLabels[1] } },
    ],
    pods: [
      pod("app", "acme", podLabels[0]),
      pod("db", "acme", podLabels[1]),
      pod("foreign", "bolt", podLabels[2]),
    ],
    policies: policies.map(({ namespace, spec }, index) =>
      policy(spec as NetworkPolicy["spec"], `policy-${index}`, namespace),
    ),
  }));
