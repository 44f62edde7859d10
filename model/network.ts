import { COMPONENT_LABEL } from "./labels.ts";

/** Addresses that no tenant's pod may call on its way out, one line per reason. */
export const SHUT_RANGES = [
  // Private networks (RFC 1918): other pods, services, machines, neighbours in the data centre.
  "10.0.0.0/8",
  "172.16.0.0/12",
  "192.168.0.0/16",
  // Carrier-grade NAT, which some providers use for their own services.
  "100.64.0.0/10",
  // Link-local, with the metadata service of most providers at 169.254.169.254.
  "169.254.0.0/16",
  // This host, this network, multicast and reserved.
  "127.0.0.0/8",
  "0.0.0.0/8",
  "224.0.0.0/4",
  "240.0.0.0/4",
] as const;

/** Port on which a relay takes mail by submission, over STARTTLS. Port 25 leads nowhere (claim P15). */
export const MAIL_PORT = 587;
/** Port on which a directory answers over TLS. */
export const LDAPS_PORT = 636;

/**
 * Ports of the outer world that a tenant's application may call: HTTPS and mail by submission, and a directory's only
 * where one of the tenant's identity providers is one.
 *
 * @param kinds Kinds of the tenant's identity providers.
 */
export function egressPorts(kinds: readonly string[]): readonly number[] {
  return [443, MAIL_PORT, ...(kinds.includes("ldap") ? [LDAPS_PORT] : [])];
}

/** Port on which the application listens. */
export const APP_PORT = 8080;

/** Port on which the application speaks MQTT, where its tenant has that; also of its service (claim W12). */
export const MQTT_PORT = 1883;
/** Name of that port of the service. */
export const MQTT_PORT_NAME = "mqtt";
/** The ingress's entry point for MQTT over TLS. */
export const MQTT_ENTRY_POINT = "mqtts";
/** Its port, of the ingress's own pods and of a location's node alike. */
export const MQTTS_PORT = 8883;

/** Labels of the pods that the ingress of a cluster runs in. */
export const INGRESS_POD_LABELS = { "app.kubernetes.io/name": "traefik" } as const;
/** Labels of the pods that answer for a location's suspended tenants. */
export const SUSPENDED_PAGE_POD_LABELS = {
  "app.kubernetes.io/name": "suspended-page",
  [COMPONENT_LABEL]: "suspended-page",
} as const;
/** Labels of the pods that answer DNS in a cluster. */
export const DNS_POD_LABELS = { "k8s-app": "kube-dns" } as const;

/** Ports on which the ingress's own pods listen: plain HTTP and TLS, as K3s ships it. */
export const INGRESS_PORTS = [8000, 8443] as const;
/** Labels of the pods with which K3s leads a node's ports to the ingress. */
export const LOAD_BALANCER_POD_LABELS = {
  "svccontroller.k3s.cattle.io/svcname": "traefik",
} as const;
/** Ports of a node that lead to the ingress. */
export const NODE_INGRESS_PORTS = [80, 443] as const;
/** Port of a node on which its kubelet answers. */
export const KUBELET_PORT = 10_250;
/** Port of a name server. */
export const DNS_PORT = 53;

/** A range that nobody can come from: who is let in from here alone is let in never. */
export const NOBODY = "255.255.255.255/32";
