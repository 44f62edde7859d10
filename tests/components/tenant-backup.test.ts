import { describe, expect, it } from "vitest";
import { at, inputOf, TEST_PUBLIC_KEY } from "../support/construct.ts";
import { TEST_AUTHORITY, TEST_RECIPIENT, tenantResources } from "../support/good.ts";

/** One input of a tenant's CronJob. */
async function job(path: string): Promise<unknown> {
  return inputOf(await tenantResources(), "kubernetes:batch/v1:CronJob", "acme-backup-job", path);
}

describe("TenantBackup", () => {
  it("runs once a night, never twice at once, and gives up in the end", async () => {
    const spec = await job("spec");
    expect({
      schedule: at(spec, "schedule"),
      timeZone: at(spec, "timeZone"),
      concurrencyPolicy: at(spec, "concurrencyPolicy"),
      startingDeadlineSeconds: at(spec, "startingDeadlineSeconds"),
      backoffLimit: at(spec, "jobTemplate.spec.backoffLimit"),
      activeDeadlineSeconds: at(spec, "jobTemplate.spec.activeDeadlineSeconds"),
      restartPolicy: at(spec, "jobTemplate.spec.template.spec.restartPolicy"),
    }).toEqual({
      schedule: "37 4 * * *",
      timeZone: "Etc/UTC",
      concurrencyPolicy: "Forbid",
      startingDeadlineSeconds: 3600,
      backoffLimit: 2,
      activeDeadlineSeconds: 3600,
      restartPolicy: "Never",
    });
  });

  it("knows the backup role, the store and its host key, and no key of the application", async () => {
    const pod = await job("spec.jobTemplate.spec.template.spec");
    const variables = at(pod, "containers.0.env") as readonly {
      readonly name: string;
      readonly value: string;
    }[];
    expect(Object.fromEntries(variables.map(({ name, value }) => [name, value]))).toEqual({
      TENANT: "acme",
      DATABASE_HOST: "10.77.0.21",
      DATABASE_PORT: "5432",
      DATABASE_NAME: "tenant_acme",
      DATABASE_USER: "backup_acme",
      DATABASE_PASSWORD_FILE: "/run/secrets/database/password",
      DATABASE_CA_FILE: "/run/secrets/database/ca.crt",
      RECIPIENTS: TEST_RECIPIENT,
      STORE_HOST: "10.77.0.10",
      STORE_PORT: "22",
      STORE_USER: "fluxbackup",
      STORE_HOST_KEY: expect.stringMatching(/^ssh-ed25519 AQEB/) as string,
      STORE_KEY_FILE: "/run/secrets/store/id_ed25519",
      STORE_CERTIFICATE_FILE: "/run/secrets/store/id_ed25519-cert.pub",
    });
    expect(at(pod, "volumes")).toEqual([
      { name: "database", secret: { secretName: "database-backup-seed-1", defaultMode: 0o440 } },
      { name: "store", secret: { secretName: "store-1", defaultMode: 0o440 } },
    ]);
  });

  it("has a key that opens one command on the store, for this tenant, from this location", async () => {
    const type = "kubernetes:core/v1:Secret";
    expect(inputOf(await tenantResources(), type, "acme-backup-store", "stringData")).toEqual({
      id_ed25519: "private-openssh-of-acme-backup-key-1",
      "id_ed25519-cert.pub": TEST_AUTHORITY.certify({
        publicKey: TEST_PUBLIC_KEY,
        principal: "fluxbackup",
        forceCommand:
          "/usr/local/lib/fluxbilling/receive -root /var/lib/fluxbilling/backups -keep-days 7 -tenant acme",
        sourceAddresses: ["10.77.0.21/32"],
        keyId: "backup-acme",
        serial: 1,
      }),
    });
  });
});
