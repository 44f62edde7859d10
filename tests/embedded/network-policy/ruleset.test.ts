import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { rulesetFor } from "../../../embedded/network-policy/ruleset.ts";
import type { NetworkPolicy, Pod } from "../../../embedded/network-policy/ruleset.ts";

const POD_CIDR = "10.42.9.0/24";
const NAMESPACES = [
  { metadata: { name: "acme", labels: { tenant: "acme" } } },
  { metadata: { name: "bolt", labels: { tenant: "bolt" } } },
];

function pod(name: string, podIP: string, more: Partial<Pod["metadata"]> = {}): Pod {
  return {
    metadata: { namespace: "acme", name, labels: { role: name }, ...more },
    spec: { containers: [{ ports: [{ name: "sql", containerPort: 5432 }] }] },
    status: { phase: "Running", podIP },
  };
}

const APP = pod("app", "10.42.9.2");
const DB = pod("db", "10.42.9.3");

function policy(spec: NetworkPolicy["spec"], name = "rule"): NetworkPolicy {
  return { metadata: { namespace: "acme", name }, spec };
}

function rules(pods: readonly Pod[], ...policies: readonly NetworkPolicy[]): string {
  return rulesetFor({ namespaces: NAMESPACES, pods, policies, podCidr: POD_CIDR });
}

/** The block `set`, `map` or `chain` of that name, or undefined when there is none. */
function block(ruleset: string, name: string): string | undefined {
  const found = new RegExp(`^  (?:set|map|chain) ${name} \\{\\n(.*?)^  \\}`, "ms").exec(ruleset);
  return found?.[1]?.replaceAll(/^ {4}/gm, "").trimEnd();
}

/** Addresses that the map sends to a chain. */
function members(ruleset: string, map: string): readonly string[] {
  return [...(block(ruleset, map) ?? "").matchAll(/(\S+) : jump/g)].map(
    ([, address]) => address ?? "",
  );
}

function elements(ruleset: string, set: string): string | undefined {
  return /elements = \{ (.*) \}/.exec(block(ruleset, set) ?? "")?.[1];
}

describe("rulesetFor", () => {
  it("holds an empty cluster's pods apart from everything", () => {
    expect(rulesetFor({ namespaces: [], pods: [], policies: [], podCidr: POD_CIDR }))
      .toBe(`table inet flux_netpol
delete table inet flux_netpol
table inet flux_netpol {
  set pod_addresses {
    type ipv4_addr
    flags interval
    elements = { 10.42.9.0/24 }
  }
  set known_pods {
    type ipv4_addr
  }
  set pod_to_itself {
    type ipv4_addr . ipv4_addr
  }
  map egress_of {
    type ipv4_addr : verdict
  }
  map reply_egress_of {
    type ipv4_addr : verdict
  }
  map ingress_of {
    type ipv4_addr : verdict
  }
  map reply_ingress_of {
    type ipv4_addr : verdict
  }
  chain arriving {
    ip daddr vmap @ingress_of
    accept
  }
  chain reply_arriving {
    ip saddr vmap @reply_ingress_of
    accept
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    meta nfproto ipv6 drop
    fib saddr . iif oif missing drop
    ip saddr != @pod_addresses ip daddr != @pod_addresses accept
    ip saddr @pod_addresses ip saddr != @known_pods drop
    ip daddr @pod_addresses ip daddr != @known_pods drop
    ct state vmap { invalid : drop, related : accept }
    ip saddr . ip daddr @pod_to_itself accept
    ct direction reply goto reply_forward
    ct state new meta l4proto tcp tcp flags & (fin | syn | rst | ack) != syn drop
    ip saddr vmap @egress_of
    goto arriving
  }
  chain reply_forward {
    ip daddr vmap @reply_egress_of
    goto reply_arriving
  }
  chain to_node {
    type filter hook input priority filter; policy accept;
    iifname "lo" accept
    meta nfproto ipv6 drop
    fib saddr . iif oif missing drop
    ip saddr != @pod_addresses accept
    ct direction reply accept
    ip saddr != @known_pods drop
    ct state vmap { invalid : drop, related : accept }
    ct state new meta l4proto tcp tcp flags & (fin | syn | rst | ack) != syn drop
    ip saddr vmap @egress_of
    accept
  }
  chain from_node {
    type filter hook output priority filter; policy accept;
    oifname "lo" accept
    meta nfproto ipv6 drop
    ip daddr != @pod_addresses accept
    ct state related accept
    ct direction original accept
    ip daddr vmap @reply_egress_of
    accept
  }
}
`);
  });

  it("writes a rule of a policy twice, for packets and for replies", () => {
    const ruleset = rules(
      [DB, APP],
      policy({
        podSelector: { matchLabels: { role: "db" } },
        policyTypes: ["Ingress"],
        ingress: [
          {
            from: [
              { podSelector: { matchLabels: { role: "app" } } },
              { ipBlock: { cidr: "10.0.0.0/8", except: ["10.0.0.0/9"] } },
            ],
            ports: [{ port: "sql" }, { port: 80, endPort: 90 }, { port: 443, protocol: "UDP" }],
          },
        ],
      }),
    );
    expect(ruleset.slice(ruleset.indexOf("  map egress_of"), ruleset.indexOf("  chain arriving")))
      .toBe(`  map egress_of {
    type ipv4_addr : verdict
  }
  map reply_egress_of {
    type ipv4_addr : verdict
  }
  set ingress_policy_1_rule_1_peers {
    type ipv4_addr
    flags interval
    elements = { 10.42.9.2, 10.128.0.0/9 }
  }
  set ingress_policy_1_rule_1_ports {
    type inet_proto . inet_service
    flags interval
    elements = { tcp . 80-90, udp . 443 }
  }
  set ingress_policy_1_rule_1_named {
    type ipv4_addr . inet_proto . inet_service
    elements = { 10.42.9.3 . tcp . 5432 }
  }
  map ingress_of {
    type ipv4_addr : verdict
    elements = { 10.42.9.3 : jump ingress_group_1 }
  }
  map reply_ingress_of {
    type ipv4_addr : verdict
    elements = { 10.42.9.3 : jump reply_ingress_group_1 }
  }
  chain ingress_policy_1 {
    comment "acme/rule"
    ip saddr @ingress_policy_1_rule_1_peers meta l4proto . th dport @ingress_policy_1_rule_1_ports accept
    ip saddr @ingress_policy_1_rule_1_peers ip daddr . meta l4proto . th dport @ingress_policy_1_rule_1_named accept
  }
  chain reply_ingress_policy_1 {
    comment "acme/rule"
    ip daddr @ingress_policy_1_rule_1_peers meta l4proto . th sport @ingress_policy_1_rule_1_ports accept
    ip daddr @ingress_policy_1_rule_1_peers ip saddr . meta l4proto . th sport @ingress_policy_1_rule_1_named accept
  }
  chain ingress_group_1 {
    jump ingress_policy_1
    drop
  }
  chain reply_ingress_group_1 {
    jump reply_ingress_policy_1
    drop
  }
`);
  });

  it("gives the same text whatever the order of the objects", () => {
    const pods = [APP, DB, pod("other", "10.42.9.4", { namespace: "bolt" })];
    const policies = [
      policy({ podSelector: {}, egress: [{}] }, "a"),
      policy({ podSelector: { matchLabels: { role: "db" } } }, "b"),
      policy({ podSelector: {}, policyTypes: ["Egress"] }, "c"),
    ];
    const text = rulesetFor({ namespaces: NAMESPACES, pods, policies, podCidr: POD_CIDR });
    fc.assert(
      fc.property(
        fc.shuffledSubarray(pods, { minLength: 3 }),
        fc.shuffledSubarray(policies, { minLength: 3 }),
        fc.shuffledSubarray(NAMESPACES, { minLength: 2 }),
        (somePods, somePolicies, namespaces) => {
          expect(
            rulesetFor({ namespaces, pods: somePods, policies: somePolicies, podCidr: POD_CIDR }),
          ).toBe(text);
        },
      ),
    );
  });

  it("takes Egress for a type of a policy that names none only when it has egress rules", () => {
    const without = rules([APP], policy({ podSelector: {} }));
    expect([members(without, "ingress_of"), members(without, "egress_of")]).toEqual([
      ["10.42.9.2"],
      [],
    ]);
    const withRules = rules([APP], policy({ podSelector: {}, egress: [{}] }));
    expect([members(withRules, "ingress_of"), members(withRules, "egress_of")]).toEqual([
      ["10.42.9.2"],
      ["10.42.9.2"],
    ]);
  });

  it("lets everyone through by a rule without peers and ports, and nobody by no rule", () => {
    const open = rules([APP], policy({ podSelector: {}, ingress: [{}] }));
    expect(block(open, "ingress_policy_1")).toBe('comment "acme/rule"\naccept');
    const closed = rules([APP], policy({ podSelector: {}, ingress: [] }));
    expect(block(closed, "ingress_policy_1")).toBe('comment "acme/rule"');
  });

  it("lets nobody through by peers that nobody is", () => {
    const ruleset = rules(
      [APP],
      policy({
        podSelector: {},
        ingress: [{ from: [{ podSelector: { matchLabels: { role: "nobody" } } }] }],
      }),
    );
    expect(block(ruleset, "ingress_policy_1")).toBe('comment "acme/rule"');
  });

  it("means every protocol's ports by a port without a number", () => {
    const ruleset = rules(
      [APP],
      policy({ podSelector: {}, ingress: [{ ports: [{}, { protocol: "SCTP", port: 9 }] }] }),
    );
    expect(elements(ruleset, "ingress_policy_1_rule_1_ports")).toBe("tcp . 0-65535, sctp . 9");
  });

  it("merges ports that overlap, which nft would refuse", () => {
    const ruleset = rules(
      [APP],
      policy({
        podSelector: {},
        ingress: [{ ports: [{ port: 80, endPort: 90 }, { port: 85, endPort: 95 }, { port: 96 }] }],
      }),
    );
    expect(elements(ruleset, "ingress_policy_1_rule_1_ports")).toBe("tcp . 80-96");
  });

  it("lets a block through without its exceptions, and none at all when an exception cannot be read", () => {
    const to = (except: readonly string[]): string =>
      rules(
        [APP],
        policy({
          podSelector: {},
          policyTypes: ["Egress"],
          egress: [{ to: [{ ipBlock: { cidr: "0.0.0.0/0", except } }] }],
        }),
      );
    expect(elements(to(["10.0.0.0/8", "128.0.0.0/1"]), "egress_policy_1_rule_1_peers")).toBe(
      "0.0.0.0-9.255.255.255, 11.0.0.0-127.255.255.255",
    );
    expect(block(to(["10.0.0.0/8", "10/8"]), "egress_policy_1")).toBe('comment "acme/rule"');
    expect(block(to([]), "egress_policy_1")).toBe('comment "acme/rule"\ngoto arriving');
  });

  it("leaves IPv6 blocks aside", () => {
    const ruleset = rules(
      [APP],
      policy({
        podSelector: {},
        policyTypes: ["Egress"],
        egress: [{ to: [{ ipBlock: { cidr: "::/0" } }, { ipBlock: { cidr: "192.0.2.0/24" } }] }],
      }),
    );
    expect(elements(ruleset, "egress_policy_1_rule_1_peers")).toBe("192.0.2.0/24");
  });

  it("shares a chain among pods under the same policies", () => {
    const ruleset = rules(
      [APP, DB, pod("cache", "10.42.9.4")],
      policy({ podSelector: {} }, "all"),
      policy({ podSelector: { matchLabels: { role: "db" } } }, "db"),
    );
    expect(elements(ruleset, "ingress_of")).toBe(
      "10.42.9.2 : jump ingress_group_1, 10.42.9.3 : jump ingress_group_2, 10.42.9.4 : jump ingress_group_1",
    );
    expect(block(ruleset, "ingress_group_2")).toBe(
      "jump ingress_policy_1\njump ingress_policy_2\ndrop",
    );
  });

  it("knows no pod that is on the host's network, finished, or without an address", () => {
    const ruleset = rules([
      APP,
      { ...DB, spec: { ...DB.spec, hostNetwork: true } },
      { ...pod("done", "10.42.9.4"), status: { phase: "Succeeded", podIP: "10.42.9.4" } },
      { ...pod("failed", "10.42.9.5"), status: { phase: "Failed", podIP: "10.42.9.5" } },
      { ...pod("waiting", ""), status: { phase: "Pending" } },
    ]);
    expect(elements(ruleset, "known_pods")).toBe("10.42.9.2");
  });

  it("gives an address to the pod that stays, then to the one that came last", () => {
    const leaving = pod("leaving", "10.42.9.2", {
      creationTimestamp: "2026-01-03T00:00:00Z",
      deletionTimestamp: "2026-01-04T00:00:00Z",
    });
    const early = pod("early", "10.42.9.2", { creationTimestamp: "2026-01-01T00:00:00Z" });
    const late = pod("late", "10.42.9.2", { creationTimestamp: "2026-01-02T00:00:00Z" });
    const restricted = (role: string): readonly string[] =>
      members(
        rules([late, leaving, early], policy({ podSelector: { matchLabels: { role } } })),
        "ingress_of",
      );
    expect([restricted("leaving"), restricted("early"), restricted("late")]).toEqual([
      [],
      [],
      ["10.42.9.2"],
    ]);
  });

  it("watches over a pod whose address lies outside the range, too", () => {
    const ruleset = rules([pod("stray", "172.16.0.9")]);
    expect(elements(ruleset, "pod_addresses")).toBe("10.42.9.0/24, 172.16.0.9");
  });

  it("does not mistake a pod of an unknown namespace for one of any namespace", () => {
    const ruleset = rules(
      [APP, pod("stranger", "10.42.9.9", { namespace: "unknown" })],
      policy({ podSelector: {}, ingress: [{ from: [{ namespaceSelector: {} }] }] }),
    );
    expect(elements(ruleset, "ingress_policy_1_rule_1_peers")).toBe("10.42.9.2");
  });

  it("resolves a named port by its protocol, in sidecars but not in init containers", () => {
    const server: Pod = {
      ...APP,
      spec: {
        containers: [{ ports: [{ name: "sql", containerPort: 1, protocol: "UDP" }] }],
        initContainers: [
          { ports: [{ name: "sql", containerPort: 2 }] },
          { ports: [{ name: "sql", containerPort: 3 }], restartPolicy: "Always" },
        ],
      },
    };
    const ruleset = rules(
      [server],
      policy({ podSelector: {}, ingress: [{ ports: [{ port: "sql" }] }] }),
    );
    expect(elements(ruleset, "ingress_policy_1_rule_1_named")).toBe("10.42.9.2 . tcp . 3");
  });

  it("grows with the pods, not with their square", () => {
    const cluster = (count: number): string =>
      rules(
        Array.from({ length: count }, (_, index) =>
          pod(`pod-${index}`, `10.42.${9 + Math.floor(index / 250)}.${(index % 250) + 2}`),
        ),
        policy({
          podSelector: {},
          ingress: [{ from: [{ podSelector: {} }], ports: [{ port: "sql" }] }],
        }),
      );
    const [small, large] = [cluster(100).length, cluster(1000).length];
    expect(large).toBeLessThan(small * 11);
  });

  it("refuses a range that is none, and an operator that the API does not know", () => {
    expect(() =>
      rulesetFor({ namespaces: [], pods: [], policies: [], podCidr: "10.42.9.0" }),
    ).toThrow(
      'POD_CIDR "10.42.9.0": it must be an IPv4 range such as 10.42.1.0/24. Set it to what host-local hands out.',
    );
    expect(() =>
      rules(
        [APP],
        policy({ podSelector: { matchExpressions: [{ key: "role", operator: "Gt" }] } }),
      ),
    ).toThrow(
      'Label selector "role": the operator must be In, NotIn, Exists or DoesNotExist, got Gt. Correct the policy.',
    );
  });
});
