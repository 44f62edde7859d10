import { MQTT_PORT, MQTT_PORT_NAME } from "../../model/network.ts";
import { isTraefik, metadataOf, routeSpecOf } from "../kubernetes-objects.ts";
import type { RouteReference } from "../kubernetes-objects.ts";
import { shown, stackRule } from "../rule.ts";
import type { Subject } from "../rule.ts";
import { ofType, tenantsOf } from "../tenant-stack.ts";

interface ServiceSpec {
  readonly ports?: readonly { readonly name?: string; readonly targetPort?: number | string }[];
}

/**
 * The one way in over TCP is a tenant's that speaks MQTT, and leads to its application's port for MQTT alone.
 *
 * Why: such a way has no headers, no limit of requests and no word of who calls: HTTP behind it would believe any caller.
 * Blind to: what the application says on that port.
 */
export const tcpRouteIsATenantsMqtt = stackRule(
  {
    name: "tcp-route-is-a-tenants-mqtt",
    description:
      "The one way in over TCP is a tenant's that speaks MQTT, and leads to its application's port for MQTT alone.",
    group: "isolation",
    severity: "critical",
    claims: ["P12", "W12"],
    references: ["PCI DSS 4.0.1 1.3.1", "SOC 2 CC6.6", "ISO 27001:2022 A.8.22"],
    remediation: "Set mqtt: true for a tenant that is not suspended, and take out every other.",
  },
  (subjects, report) => {
    const routes = subjects.filter(({ type }) => isTraefik(type, "IngressRouteTCP"));
    const speaking = tenantsOf(subjects).some(({ says }) => says.mqtt === true);
    for (const subject of routes) {
      if (!speaking) {
        report(
          `${subject.name}: a TCP route must be of a tenant that speaks MQTT, got one of no such tenant.`,
          subject,
        );
        continue;
      }
      const services = (routeSpecOf(subject.props).routes ?? []).flatMap((route) => [
        ...(route.services ?? []),
      ]);
      for (const service of services) {
        const led = service.port === MQTT_PORT_NAME ? ledTo(subjects, service) : service.port;
        if (led !== MQTT_PORT) {
          report(
            `${subject.name}: it must lead to port ${MQTT_PORT_NAME} of a Service, which is ${MQTT_PORT} of its pods, got ${shown(led)}.`,
            subject,
          );
        }
      }
    }
  },
);

/** The pods' port behind a Service's port for MQTT. */
function ledTo(
  subjects: readonly Subject[],
  { name }: RouteReference,
): number | string | undefined {
  return ofType<{ spec?: ServiceSpec }>(subjects, "kubernetes:core/v1:Service")
    .filter(({ props }) => metadataOf(props).name === name)
    .flatMap(({ props }) => [...(props.spec?.ports ?? [])])
    .find((port) => port.name === MQTT_PORT_NAME)?.targetPort;
}
