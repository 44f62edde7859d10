import { describe, expect, it } from "vitest";
import { SHUT_RANGES } from "../../model/network.ts";
import { at, inputOf, inputsOf } from "../support/construct.ts";
import { GOOD_IDENTITY, tenantResources } from "../support/good.ts";

const DATABASE = {
  to: [{ ipBlock: { cidr: "10.77.0.21/32" } }],
  ports: [{ protocol: "TCP", port: 5432 }],
};

function system(labels: Readonly<Record<string, string>>): object {
  return {
    namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "kube-system" } },
    podSelector: { matchLabels: labels },
  };
}

describe("TenantNetwork", () => {
  it("shuts every pod both ways and opens exactly the paths that are needed", async () => {
    const policies = inputsOf(
      await tenantResources(),
      "kubernetes:networking.k8s.io/v1:NetworkPolicy",
    );
    expect(
      Object.fromEntries(
        Object.values(policies).map((policy) => [at(policy, "metadata.name"), at(policy, "spec")]),
      ),
    ).toEqual({
      "default-deny": { podSelector: {}, policyTypes: ["Ingress", "Egress"] },
      "allow-app": {
        podSelector: { matchLabels: { "app.kubernetes.io/component": "app" } },
        policyTypes: ["Ingress", "Egress"],
        ingress: [
          {
            from: [system({ "app.kubernetes.io/name": "traefik" })],
            ports: [{ protocol: "TCP", port: 8080 }],
          },
        ],
        egress: [
          {
            to: [system({ "k8s-app": "kube-dns" })],
            ports: [
              { protocol: "UDP", port: 53 },
              { protocol: "TCP", port: 53 },
            ],
          },
          DATABASE,
          {
            to: [{ ipBlock: { cidr: "0.0.0.0/0", except: [...SHUT_RANGES] } }],
            ports: [
              { protocol: "TCP", port: 443 },
              { protocol: "TCP", port: 587 },
            ],
          },
        ],
      },
      "allow-backup": {
        podSelector: { matchLabels: { "app.kubernetes.io/component": "backup" } },
        policyTypes: ["Ingress", "Egress"],
        egress: [
          DATABASE,
          {
            to: [{ ipBlock: { cidr: "10.77.0.10/32" } }],
            ports: [{ protocol: "TCP", port: 22 }],
          },
        ],
      },
    });
  });

  it("lets a tenant out to a directory only where it has one, and never to port 25", async () => {
    const { identity } = GOOD_IDENTITY;
    const without = identity.providers.filter(({ kind }) => kind !== "ldap");
    const ports = async (settings: Readonly<Record<string, unknown>>): Promise<unknown> =>
      inputOf(
        await tenantResources(settings),
        "kubernetes:networking.k8s.io/v1:NetworkPolicy",
        "acme-network-allow-app",
        "spec.egress.2.ports",
      );
    const tcp = (port: number): object => ({ protocol: "TCP", port });
    expect(await ports(GOOD_IDENTITY)).toEqual([tcp(443), tcp(587), tcp(636)]);
    expect(await ports({ identity: { ...identity, providers: without } })).toEqual([
      tcp(443),
      tcp(587),
    ]);
  });

  it("lets the ingress reach the port for MQTT of a tenant that speaks it, and nobody else", async () => {
    const ingress = async (settings: Readonly<Record<string, unknown>>): Promise<unknown> =>
      inputOf(
        await tenantResources(settings),
        "kubernetes:networking.k8s.io/v1:NetworkPolicy",
        "acme-network-allow-app",
        "spec.ingress",
      );
    const from = [system({ "app.kubernetes.io/name": "traefik" })];
    const tcp = (port: number): object => ({ protocol: "TCP", port });
    expect(await ingress({ mqtt: true })).toEqual([{ from, ports: [tcp(8080), tcp(1883)] }]);
    expect(await ingress({})).toEqual([{ from, ports: [tcp(8080)] }]);
  });
});
