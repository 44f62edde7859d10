import { SYSTEM_NAMESPACE } from "../../model/labels.ts";
import {
  APP_PORT,
  DNS_POD_LABELS,
  egressPorts,
  INGRESS_POD_LABELS,
  MQTT_PORT,
  SHUT_RANGES,
} from "../../model/network.ts";
import type { NetworkPeer, NetworkPolicySpec, NetworkPort } from "../kubernetes-objects.ts";
import { metadataOf } from "../kubernetes-objects.ts";
import { shown, stackRule } from "../rule.ts";
import type { Subject } from "../rule.ts";
import { containersOfComponent, ofType, tenantsOf, variableOf } from "../tenant-stack.ts";

/** One allowed end of a flow: what it is, and the ports that belong to it as `<protocol>/<port>`. */
interface End {
  readonly is: string;
  readonly ports: readonly string[];
}

/**
 * A tenant's pods reach DNS, their own database, their own backup store and the outer world, a directory there only where they sign people in by one, and only the ingress reaches the application, on the port for MQTT where it speaks that.
 *
 * Why: each further end would be another tenant, the cluster's API server, the metadata address or a neighbour on the network.
 * Blind to: whether the cluster enforces policies; ports that a node keeps open for everyone.
 */
export const tenantReachesOnlyItsOwn = stackRule(
  {
    name: "tenant-reaches-only-its-own",
    description:
      "A tenant's pods reach DNS, their own database, their own backup store and the outer world, a directory there only where they sign people in by one, and only the ingress reaches the application, on the port for MQTT where it speaks that.",
    group: "isolation",
    severity: "critical",
    claims: ["F1", "F16", "P6", "P12", "P15", "R7", "W1", "W12"],
    references: [
      "PCI DSS 4.0.1 1.3.1",
      "PCI DSS 4.0.1 1.3.2",
      "PCI DSS 4.0.1 A1.1.2",
      "SOC 2 CC6.6",
      "ISO 27001:2022 A.8.22",
      "CIS Kubernetes 5.3.2",
    ],
    remediation: "Leave the policies as components/tenant-network.ts makes them.",
  },
  (subjects, report) => {
    for (const { names, says } of tenantsOf(subjects)) {
      const own = ownServices(subjects, names.namespace);
      const served = [APP_PORT, ...(says.mqtt === true ? [MQTT_PORT] : [])];
      const outer = egressPorts(says.identityKinds ?? []).map((port) => `TCP/${port}`);
      for (const { subject, props } of ofType<{ spec?: NetworkPolicySpec }>(
        subjects,
        "kubernetes:networking.k8s.io/v1:NetworkPolicy",
      )) {
        if (metadataOf(props).namespace !== names.namespace) {
          continue;
        }
        for (const { from, ports } of props.spec?.ingress ?? []) {
          judgeFlow(subject, "ingress from", from, ports, (peer) =>
            isSystemPod(peer, INGRESS_POD_LABELS)
              ? { is: "the ingress", ports: served.map((port) => `TCP/${port}`) }
              : undefined,
          );
        }
        for (const { to, ports } of props.spec?.egress ?? []) {
          judgeFlow(subject, "egress to", to, ports, (peer) => egressEnd(peer, own, outer));
        }
      }
    }

    function judgeFlow(
      subject: Subject,
      way: string,
      peers: readonly NetworkPeer[] | undefined,
      ports: readonly NetworkPort[] | undefined,
      endOf: (peer: NetworkPeer) => End | undefined,
    ): void {
      for (const peer of peers ?? [{}]) {
        const end = endOf(peer);
        if (end === undefined) {
          report(
            `${subject.name}: ${way} must be the tenant's own, got ${describe(peer)}.`,
            subject,
          );
          continue;
        }
        const given = (ports ?? []).map(portName);
        const foreign = given.filter((port) => !end.ports.includes(port));
        if (given.length === 0 || foreign.length > 0) {
          report(
            `${subject.name}: ${way} ${end.is} must use ${end.ports.join(", ")}, got ${given.join(", ") || "every port"}.`,
            subject,
          );
        }
      }
    }
  },
);

/** The two services with private addresses that a tenant may reach: `<address>` and its port. */
function ownServices(subjects: readonly Subject[], namespace: string): ReadonlyMap<string, End> {
  const ends = new Map<string, string[]>();
  const add = (address: string | undefined, port: number): void => {
    if (address !== undefined && Number.isInteger(port)) {
      ends.set(address, [...(ends.get(address) ?? []), `TCP/${port}`]);
    }
  };
  // The provider is where the database really is; the tenant's own word for it is not asked.
  for (const { props } of ofType<{ host?: string; port?: string | number }>(
    subjects,
    "pulumi:providers:postgresql",
  )) {
    add(props.host, Number(props.port ?? Number.NaN));
  }
  const backup = containersOfComponent(subjects, namespace, "backup");
  add(variableOf(backup, "STORE_HOST"), Number(variableOf(backup, "STORE_PORT") ?? Number.NaN));
  return new Map(
    [...ends].map(([address, ports]) => [address, { is: `its service at ${address}`, ports }]),
  );
}

function egressEnd(
  peer: NetworkPeer,
  own: ReadonlyMap<string, End>,
  outer: readonly string[],
): End | undefined {
  if (peer.ipBlock === undefined) {
    return isSystemPod(peer, DNS_POD_LABELS)
      ? { is: "DNS", ports: ["UDP/53", "TCP/53"] }
      : undefined;
  }
  const { cidr = "", except = [] } = peer.ipBlock;
  if (cidr === "0.0.0.0/0" && SHUT_RANGES.every((range) => except.includes(range))) {
    return { is: "the outer world", ports: outer };
  }
  return cidr.endsWith("/32") && except.length === 0 ? own.get(cidr.slice(0, -3)) : undefined;
}

function isSystemPod(
  { ipBlock, namespaceSelector, podSelector }: NetworkPeer,
  labels: Readonly<Record<string, string>>,
): boolean {
  return (
    ipBlock === undefined &&
    namespaceSelector?.matchLabels?.["kubernetes.io/metadata.name"] === SYSTEM_NAMESPACE &&
    Object.entries(labels).every(([label, value]) => podSelector?.matchLabels?.[label] === value)
  );
}

/** A port as one text; a named port and a range are no number, so they match nothing. */
function portName({ protocol, port, endPort }: NetworkPort): string {
  return `${protocol ?? "TCP"}/${port ?? "every"}${endPort === undefined ? "" : `-${endPort}`}`;
}

function describe({ ipBlock, namespaceSelector, podSelector }: NetworkPeer): string {
  if (ipBlock !== undefined) {
    return `${ipBlock.cidr ?? "no range"}${ipBlock.except === undefined ? "" : ` without ${shown(ipBlock.except)}`}`;
  }
  if (namespaceSelector === undefined && podSelector === undefined) {
    return "everyone";
  }
  const labels = (selector: NetworkPeer["podSelector"]): string =>
    Object.entries(selector?.matchLabels ?? {})
      .map(([label, value]) => `${label}=${value}`)
      .join(",") || "all";
  return `pods ${labels(podSelector)} of namespaces ${namespaceSelector === undefined ? "own" : labels(namespaceSelector)}`;
}
