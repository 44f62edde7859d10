/** What the master's ingress serves: the first label of the host, which is also the service's name. */
export const CONTROL_PLANE_HOSTS = {
  /** The operators' panel. */
  operator: "operator",
  /** The customers' panel: signup, plan, invoices. */
  customer: "account",
  /** The fleet's image registry. */
  registry: "registry",
} as const;

/** One of the hosts of the control plane. */
export type ControlPlaneHost = keyof typeof CONTROL_PLANE_HOSTS;

/**
 * A host of the control plane.
 *
 * @param panelDomain Domain of the panels, from the fleet's settings.
 */
export function controlPlaneHost(host: ControlPlaneHost, panelDomain: string): string {
  return `${CONTROL_PLANE_HOSTS[host]}.${panelDomain}`;
}

/** Requests a second that the ingress lets through per client address, to each host. */
export const PANEL_REQUESTS_PER_SECOND = 50;
