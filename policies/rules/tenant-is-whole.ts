import { HEADERS_MIDDLEWARE, RATE_MIDDLEWARE } from "../../model/headers.ts";
import {
  COMPONENT_LABEL,
  CONTROL_PLANE_NAMESPACE,
  TENANT_LABEL,
  TENANT_NAMESPACE_PREFIX,
} from "../../model/labels.ts";
import { isTenantName, TENANT_NAME_RULE } from "../../model/tenant-name.ts";
import { isTenantNamespace, isTraefik, metadataOf } from "../kubernetes-objects.ts";
import { stackRule } from "../rule.ts";
import type { Subject } from "../rule.ts";
import { ofType, tenantLabelOf, tenantsOf, TENANT_TYPE } from "../tenant-stack.ts";
import type { TenantStatement } from "../tenant-stack.ts";

const CRON_JOB = "kubernetes:batch/v1:CronJob";

type Parts = Readonly<Record<string, (subject: Subject) => boolean>>;

/** What every tenant has, and how it is known. */
const PARTS: Parts = {
  "a namespace": ({ type }) => type === "kubernetes:core/v1:Namespace",
  "a database": ({ type }) => type === "postgresql:index/database:Database",
  "a quota": ({ type }) => type === "kubernetes:core/v1:ResourceQuota",
  "limits for containers": ({ type }) => type === "kubernetes:core/v1:LimitRange",
  "a network policy": ({ type }) => type === "kubernetes:networking.k8s.io/v1:NetworkPolicy",
  "a volume": ({ type }) => type === "kubernetes:core/v1:PersistentVolumeClaim",
  "an application": ({ type, props }) =>
    type === "kubernetes:apps/v1:Deployment" &&
    metadataOf(props).labels?.[COMPONENT_LABEL] === "app",
  "a backup job": ({ type, props }) =>
    type === CRON_JOB && metadataOf(props).labels?.[COMPONENT_LABEL] === "backup",
  "a Secret with its keys": ({ type, props }) =>
    type === "kubernetes:core/v1:Secret" && (metadataOf(props).name ?? "").startsWith("keys-"),
  "security headers": ({ type, props }) =>
    isTraefik(type, "Middleware") && metadataOf(props).name === HEADERS_MIDDLEWARE,
  "a limit of requests": ({ type, props }) =>
    isTraefik(type, "Middleware") && metadataOf(props).name === RATE_MIDDLEWARE,
  "a way in": ({ type }) =>
    type === "kubernetes:networking.k8s.io/v1:Ingress" || isTraefik(type, "IngressRoute"),
};

/** What a tenant has that speaks MQTT. */
const MQTT_PARTS: Parts = {
  "a way in for MQTT": ({ type }) => isTraefik(type, "IngressRouteTCP"),
};

/** What a tenant has that replays. */
const REPLAY_PARTS: Parts = {
  "a replay": ({ type, props }) =>
    type === CRON_JOB && metadataOf(props).labels?.[COMPONENT_LABEL] === "replay",
};

/**
 * A tenant has a namespace, a database, a quota, limits, policies, keys, a volume, an application, a way in with its headers, a backup, and what it asked for beside; and whatever says that it is a tenant's has a tenant.
 *
 * Why: what is left out is held by no other rule, and rules about a tenant are silent where none is named.
 * Blind to: whether each part works.
 */
export const tenantIsWhole = stackRule(
  {
    name: "tenant-is-whole",
    description:
      "A tenant has a namespace, a database, a quota, limits, policies, keys, a volume, an application, a way in with its headers, a backup, and what it asked for beside; and whatever says that it is a tenant's has a tenant.",
    group: "plans",
    severity: "high",
    claims: ["F4", "F17", "F41"],
    references: ["SOC 2 CC8.1", "ISO 27001:2022 A.8.9", "PCI DSS 4.0.1 A1.1.2"],
    remediation: "Make the tenant by components/tenant.ts, whole.",
  },
  (subjects, report) => {
    for (const { subject, props } of ofType<TenantStatement>(subjects, TENANT_TYPE)) {
      if (!isTenantName(props.tenant)) {
        report(
          `${subject.name}: tenant ${TENANT_NAME_RULE}, got ${props.tenant ?? "none"}.`,
          subject,
        );
      }
    }
    const tenants = tenantsOf(subjects);
    for (const { subject, tenant, says } of tenants) {
      const parts = {
        ...PARTS,
        ...(says.mqtt === true ? MQTT_PARTS : {}),
        ...(says.replay === true ? REPLAY_PARTS : {}),
      };
      for (const [part, isPart] of Object.entries(parts)) {
        if (!subjects.some(isPart)) {
          report(`${subject.name}: tenant ${tenant} must have ${part}, got none.`, subject);
        }
      }
    }
    for (const subject of subjects.filter(({ type }) => type.startsWith("kubernetes:"))) {
      const metadata = metadataOf(subject.props);
      const named =
        tenantLabelOf(subject.props) ??
        (subject.type === "kubernetes:core/v1:Namespace" &&
        isTenantNamespace(metadata, TENANT_LABEL, TENANT_NAMESPACE_PREFIX)
          ? metadata.name
          : undefined);
      if (
        named !== undefined &&
        metadata.name !== CONTROL_PLANE_NAMESPACE &&
        !tenants.some(({ tenant, names }) => named === tenant || named === names.namespace)
      ) {
        report(
          `${subject.name}: what names a tenant must belong to a Tenant of its stack, got ${named}.`,
          subject,
        );
      }
    }
  },
);
