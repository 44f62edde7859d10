import { describe, expect, it } from "vitest";
import { selects } from "../../policies/kubernetes-objects.ts";
import type { NetworkPolicySpec } from "../../policies/kubernetes-objects.ts";
import { at, inputOf, inputsOf } from "../support/construct.ts";
import { tenantResources } from "../support/good.ts";

const CRON_JOB = "kubernetes:batch/v1:CronJob";

/** One input of the replay of a tenant that has one. */
async function replay(path: string): Promise<unknown> {
  return inputOf(await tenantResources({ replay: true }), CRON_JOB, "acme-replay-job", path);
}

describe("TenantReplay", () => {
  it("never starts by itself, is not tried again, and gives up in the end", async () => {
    const spec = await replay("spec");
    expect({
      suspend: at(spec, "suspend"),
      // There is no such day.
      schedule: at(spec, "schedule"),
      backoffLimit: at(spec, "jobTemplate.spec.backoffLimit"),
      activeDeadlineSeconds: at(spec, "jobTemplate.spec.activeDeadlineSeconds"),
      restartPolicy: at(spec, "jobTemplate.spec.template.spec.restartPolicy"),
    }).toEqual({
      suspend: true,
      schedule: "0 0 31 2 *",
      backoffLimit: 0,
      activeDeadlineSeconds: 3600,
      restartPolicy: "Never",
    });
  });

  it("is the application's image as a restricted pod with its plan's limits, the tenant's files to read, and nothing else", async () => {
    expect(await replay("spec.jobTemplate.spec.template.spec")).toEqual({
      serviceAccountName: "replay",
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      restartPolicy: "Never",
      securityContext: {
        runAsNonRoot: true,
        runAsUser: 10_001,
        runAsGroup: 10_001,
        fsGroup: 10_001,
        fsGroupChangePolicy: "OnRootMismatch",
        seccompProfile: { type: "RuntimeDefault" },
      },
      containers: [
        {
          name: "replay",
          image: `registry.test/fluxbilling/tenant-app@sha256:${"1".repeat(64)}`,
          imagePullPolicy: "IfNotPresent",
          args: ["replay"],
          securityContext: {
            allowPrivilegeEscalation: false,
            readOnlyRootFilesystem: true,
            runAsNonRoot: true,
            capabilities: { drop: ["ALL"] },
          },
          resources: {
            requests: { cpu: "20m", memory: "128Mi", "ephemeral-storage": "512Mi" },
            limits: { cpu: "250m", memory: "128Mi", "ephemeral-storage": "512Mi" },
          },
          env: [
            { name: "TENANT", value: "acme" },
            { name: "FILES_DIRECTORY", value: "/var/lib/app" },
          ],
          volumeMounts: [
            { name: "files", mountPath: "/var/lib/app", readOnly: true },
            { name: "temporary", mountPath: "/tmp" },
          ],
        },
      ],
      volumes: [
        { name: "files", persistentVolumeClaim: { claimName: "files" } },
        { name: "temporary", emptyDir: { sizeLimit: "128Mi" } },
      ],
    });
  });

  it("is selected by the default deny alone", async () => {
    const labels = (await replay("spec.jobTemplate.spec.template.metadata.labels")) as Readonly<
      Record<string, string>
    >;
    const policies = inputsOf(
      await tenantResources({ replay: true }),
      "kubernetes:networking.k8s.io/v1:NetworkPolicy",
    );
    const selecting = Object.entries(policies).filter(([, policy]) =>
      selects((at(policy, "spec") as NetworkPolicySpec).podSelector, labels),
    );
    expect(selecting.map(([name]) => name)).toEqual(["acme-network-default-deny"]);
  });
});
