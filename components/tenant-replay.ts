import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { COMPONENT_LABEL } from "../model/labels.ts";
import { PLANS } from "../model/plan.ts";
import type { PlanName } from "../model/plan.ts";
import { CONTAINER_SECURITY, containerResources, POD_SECURITY } from "../model/pod.ts";
import type { TenantName } from "../model/tenant-name.ts";

/** What a tenant's replays need to know. */
export interface TenantReplayArgs {
  readonly tenant: TenantName;
  readonly plan: PlanName;
  readonly namespace: k8s.core.v1.Namespace;
  readonly namespaceName: string;
  readonly labels: Readonly<Record<string, string>>;
  /** The application's image, by digest. */
  readonly image: string;
  /** Name of the volume claim with the tenant's files. */
  readonly filesName: string;
}

/** The thirty-first of February. */
const NEVER = "0 0 31 2 *";

/**
 * What replays the requests that the tenant's application has recorded, when somebody starts it:
 * `kubectl create job --from=cronjob/replay`.
 *
 * Holds: it never starts by itself; its pods get the tenant's files to read and nothing else, no Secret,
 * no token and no database; no network policy but the default deny selects them, so that they reach
 * nothing and nobody, the name server included (claim R6).
 */
export class TenantReplay extends pulumi.ComponentResource {
  constructor(name: string, args: TenantReplayArgs, opts?: pulumi.ComponentResourceOptions) {
    super("fluxbilling:tenant:TenantReplay", name, {}, opts);
    const placed = { parent: this, dependsOn: [args.namespace], deletedWith: args.namespace };
    const selector = { "app.kubernetes.io/name": "tenant-replay", [COMPONENT_LABEL]: "replay" };
    const labels = { ...args.labels, ...selector };
    const metadata = { name: "replay", namespace: args.namespaceName, labels };

    const account = new k8s.core.v1.ServiceAccount(
      `${name}-account`,
      { metadata, automountServiceAccountToken: false },
      placed,
    );
    new k8s.batch.v1.CronJob(
      `${name}-job`,
      {
        metadata,
        spec: {
          // Kubernetes wants a schedule: this one is twice none.
          schedule: NEVER,
          timeZone: "Etc/UTC",
          suspend: true,
          concurrencyPolicy: "Forbid",
          successfulJobsHistoryLimit: 3,
          failedJobsHistoryLimit: 3,
          jobTemplate: {
            metadata: { labels },
            spec: {
              backoffLimit: 0,
              activeDeadlineSeconds: 3600,
              ttlSecondsAfterFinished: 172_800,
              template: { metadata: { labels }, spec: podSpec(args) },
            },
          },
        },
      },
      { ...placed, dependsOn: [args.namespace, account] },
    );
    this.registerOutputs({});
  }
}

function podSpec(args: TenantReplayArgs): k8s.types.input.core.v1.PodSpec {
  const plan = PLANS[args.plan];
  return {
    serviceAccountName: "replay",
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    restartPolicy: "Never",
    securityContext: POD_SECURITY,
    containers: [
      {
        name: "replay",
        image: args.image,
        imagePullPolicy: "IfNotPresent",
        args: ["replay"],
        securityContext: CONTAINER_SECURITY,
        resources: containerResources(
          plan.appCpuRequestMilli,
          plan.appCpuLimitMilli,
          plan.appMemoryMib,
        ),
        env: [
          { name: "TENANT", value: args.tenant },
          { name: "FILES_DIRECTORY", value: "/var/lib/app" },
        ],
        volumeMounts: [
          { name: "files", mountPath: "/var/lib/app", readOnly: true },
          { name: "temporary", mountPath: "/tmp" },
        ],
      },
    ],
    volumes: [
      { name: "files", persistentVolumeClaim: { claimName: args.filesName } },
      { name: "temporary", emptyDir: { sizeLimit: "128Mi" } },
    ],
  };
}
