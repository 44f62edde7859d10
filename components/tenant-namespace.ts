import * as k8s from "@pulumi/kubernetes";
import type * as pulumi from "@pulumi/pulumi";
import {
  BACKUP_STORE_LABEL,
  CONTRACT_ANNOTATION,
  IDENTITY_ANNOTATION,
  MQTT_ANNOTATION,
  PLAN_LABEL,
  REPLAY_ANNOTATION,
} from "../model/labels.ts";
import { PLANS, planQuota } from "../model/plan.ts";
import { containerResources, POD_SECURITY_LABELS } from "../model/pod.ts";
import type { TenantSettings } from "../model/settings.ts";
import { tenantNames } from "../model/tenant-name.ts";

/** What a tenant's namespace needs to know. */
export interface TenantNamespaceArgs {
  readonly settings: TenantSettings;
  /** Labels of every object in the namespace. */
  readonly labels: Readonly<Record<string, string>>;
  /** Name of the store that holds the tenant's copies. */
  readonly storeName: string;
  /** Kinds of the tenant's identity providers: a review of the live cluster knows them from here. */
  readonly identityKinds: readonly string[];
  /** Whether the application is reached over MQTT: known from here as well. */
  readonly mqtt: boolean;
  /** Whether recorded requests can be replayed: as well. */
  readonly replay: boolean;
  /** Whether the namespace refuses to be deleted. */
  readonly protectData: boolean;
}

/** A namespace, and what must stand before a pod may start in it. */
export interface TenantNamespace {
  readonly namespace: k8s.core.v1.Namespace;
  /** The plan's quota and limits. */
  readonly bounds: readonly pulumi.Resource[];
}

/** A tenant's namespace, and what bounds everything in it by the tenant's plan. */
export function tenantNamespace(
  name: string,
  args: TenantNamespaceArgs,
  parent: pulumi.Resource,
): TenantNamespace {
  const { settings } = args;
  const plan = PLANS[settings.plan];
  const namespaceName = tenantNames(settings.name).namespace;
  const namespace = new k8s.core.v1.Namespace(
    `${name}-namespace`,
    {
      metadata: {
        name: namespaceName,
        labels: {
          ...args.labels,
          [PLAN_LABEL]: settings.plan,
          [BACKUP_STORE_LABEL]: args.storeName,
          ...POD_SECURITY_LABELS,
        },
        annotations: {
          ...(settings.contractRef === undefined
            ? {}
            : { [CONTRACT_ANNOTATION]: settings.contractRef }),
          ...(args.identityKinds.length === 0
            ? {}
            : { [IDENTITY_ANNOTATION]: args.identityKinds.join(",") }),
          ...(args.mqtt ? { [MQTT_ANNOTATION]: "true" } : {}),
          ...(args.replay ? { [REPLAY_ANNOTATION]: "true" } : {}),
        },
      },
    },
    {
      parent,
      // The volume with the tenant's files goes with it: only an operation that says so may.
      protect: args.protectData,
    },
  );
  const placed = { parent, dependsOn: [namespace], deletedWith: namespace };
  const metadata = { namespace: namespaceName, labels: args.labels, name: "plan" };
  const quota = new k8s.core.v1.ResourceQuota(
    `${name}-quota`,
    { metadata, spec: { hard: planQuota(plan, args.replay) } },
    placed,
  );
  const usual = containerResources(
    plan.appCpuRequestMilli,
    plan.appCpuLimitMilli,
    plan.appMemoryMib,
  );
  const limits = new k8s.core.v1.LimitRange(
    `${name}-limits`,
    {
      metadata,
      spec: {
        limits: [{ type: "Container", default: usual.limits, defaultRequest: usual.requests }],
      },
    },
    placed,
  );
  return { namespace, bounds: [quota, limits] };
}
