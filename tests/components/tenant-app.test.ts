import { describe, expect, it } from "vitest";
import { PLANS } from "../../model/plan.ts";
import { at, inputOf } from "../support/construct.ts";
import { GOOD_IDENTITY, tenantResources, TEST_CERTIFICATE } from "../support/good.ts";

/** One input of a tenant's Deployment. */
async function deployment(
  path: string,
  settings: Readonly<Record<string, unknown>> = {},
): Promise<unknown> {
  const resources = await tenantResources(settings);
  return inputOf(resources, "kubernetes:apps/v1:Deployment", "acme-app-deployment", path);
}

describe("TenantApp", () => {
  it("runs the image by digest as a restricted pod without a token", async () => {
    const pod = await deployment("spec.template.spec");
    expect({
      replicas: await deployment("spec.replicas"),
      token: at(pod, "automountServiceAccountToken"),
      links: at(pod, "enableServiceLinks"),
      security: at(pod, "securityContext"),
      container: at(pod, "containers.0.securityContext"),
      image: at(pod, "containers.0.image"),
      resources: at(pod, "containers.0.resources"),
    }).toEqual({
      replicas: 1,
      token: false,
      links: false,
      security: {
        runAsNonRoot: true,
        runAsUser: 10_001,
        runAsGroup: 10_001,
        fsGroup: 10_001,
        fsGroupChangePolicy: "OnRootMismatch",
        seccompProfile: { type: "RuntimeDefault" },
      },
      container: {
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        runAsNonRoot: true,
        capabilities: { drop: ["ALL"] },
      },
      image: `registry.test/fluxbilling/tenant-app@sha256:${"1".repeat(64)}`,
      resources: {
        requests: { cpu: "20m", memory: "128Mi", "ephemeral-storage": "512Mi" },
        limits: { cpu: "250m", memory: "128Mi", "ephemeral-storage": "512Mi" },
      },
    });
  });

  it("hands the contract over as plain variables and mounted files", async () => {
    expect(await deployment("spec.template.spec.containers.0.env")).toEqual([
      { name: "TENANT", value: "acme" },
      { name: "PLAN", value: "lite" },
      { name: "LOCATION", value: "nl-1" },
      { name: "PUBLIC_URL", value: "https://acme.tenants.test" },
      { name: "TRUSTED_PROXIES", value: "10.42.0.0/16" },
      { name: "DATABASE_HOST", value: "10.77.0.21" },
      { name: "DATABASE_PORT", value: "5432" },
      { name: "DATABASE_NAME", value: "tenant_acme" },
      { name: "DATABASE_USER", value: "app_acme" },
      { name: "DATABASE_OWNER_ROLE", value: "owner_acme" },
      { name: "DATABASE_PASSWORD_FILE", value: "/run/secrets/database/password" },
      { name: "DATABASE_CA_FILE", value: "/run/secrets/database/ca.crt" },
      { name: "DATABASE_MAX_CONNECTIONS", value: "5" },
      { name: "KEYS_DIRECTORY", value: "/run/secrets/keys" },
      { name: "CONTRACT_DIRECTORY", value: "/run/secrets/contract" },
      { name: "FILES_DIRECTORY", value: "/var/lib/app" },
      { name: "DATA_RETENTION_DAYS", value: "7" },
      { name: "EXECUTIONS_PER_MONTH", value: "1000" },
      { name: "REPLAYS_PER_MONTH", value: "100" },
      { name: "REGISTRATION", value: "closed" },
      { name: "SECOND_FACTOR_ROLES", value: "operator" },
      { name: "SESSION_DAYS", value: "14" },
      { name: "ACCESS_MINUTES", value: "60" },
      { name: "REFRESH_DAYS", value: "30" },
    ]);
    expect(await deployment("spec.template.spec.volumes")).toEqual([
      { name: "database", secret: { secretName: "database-app-seed-1", defaultMode: 0o440 } },
      { name: "keys", secret: { secretName: "keys-1-1", defaultMode: 0o440 } },
      { name: "contract", secret: { secretName: "contract-seed-1", defaultMode: 0o440 } },
      { name: "files", persistentVolumeClaim: { claimName: "files" } },
      { name: "temporary", emptyDir: { sizeLimit: "128Mi" } },
    ]);
  });

  it("tells who signs in how and where mail goes, and mounts what both need for it", async () => {
    const variables = (await deployment(
      "spec.template.spec.containers.0.env",
      GOOD_IDENTITY,
    )) as readonly { readonly name: string; readonly value: string }[];
    const told = Object.fromEntries(variables.map(({ name, value }) => [name, value]));
    expect(told).toMatchObject({
      REGISTRATION: "open",
      SECOND_FACTOR_ROLES: "operator,owner",
      SESSION_DAYS: "7",
      ACCESS_MINUTES: "15",
      REFRESH_DAYS: "10",
      MAIL_HOST: "smtp.example.com",
      MAIL_PORT: "587",
      MAIL_FROM: "billing@acme.example",
      MAIL_STARTTLS: "required",
      CREDENTIALS_DIRECTORY: "/run/secrets/credentials",
    });
    expect(JSON.parse(told["IDENTITY_PROVIDERS"] ?? "")).toEqual([
      { kind: "oidc", name: "work", issuer: "https://login.example.com/realms/acme" },
      {
        ...{ kind: "oauth2", name: "git" },
        authorizeUrl: "https://git.example.com/authorize",
        tokenUrl: "https://git.example.com/token",
      },
      {
        ...{ kind: "saml", name: "partner", entityId: "urn:example:partner" },
        ...{ ssoUrl: "https://partner.example.com/sso", certificate: TEST_CERTIFICATE },
      },
      {
        ...{ kind: "ldap", name: "directory", url: "ldaps://directory.example.com" },
        baseDn: "dc=example,dc=com",
      },
    ]);
    const pod = "spec.template.spec";
    expect(await deployment(`${pod}.volumes.3`, GOOD_IDENTITY)).toEqual({
      name: "credentials",
      secret: {
        secretName: expect.stringMatching(/^credentials-[0-9a-f]{16}$/) as string,
        defaultMode: 0o440,
      },
    });
    expect(await deployment(`${pod}.containers.0.volumeMounts.3`, GOOD_IDENTITY)).toEqual({
      name: "credentials",
      mountPath: "/run/secrets/credentials",
      readOnly: true,
    });
  });

  it("has a port for MQTT, and a service that leads there, where it is told to speak it", async () => {
    const speaking = { mqtt: true };
    const container = "spec.template.spec.containers.0";
    expect(await deployment(`${container}.ports`, speaking)).toEqual([
      { name: "http", containerPort: 8080, protocol: "TCP" },
      { name: "mqtt", containerPort: 1883, protocol: "TCP" },
    ]);
    const variables = [{ name: "MQTT_PORT", value: "1883" }];
    expect(await deployment(`${container}.env`, speaking)).toEqual(
      expect.arrayContaining(variables),
    );
    expect(await deployment(`${container}.env`)).not.toEqual(expect.arrayContaining(variables));
    const service = async (settings: Readonly<Record<string, unknown>>): Promise<unknown> =>
      inputOf(
        await tenantResources(settings),
        "kubernetes:core/v1:Service",
        "acme-app-service",
        "spec.ports",
      );
    const http = { name: "http", port: 80, targetPort: 8080, protocol: "TCP" };
    expect(await service({})).toEqual([http]);
    expect(await service(speaking)).toEqual([
      http,
      { name: "mqtt", port: 1883, targetPort: 1883, protocol: "TCP" },
    ]);
  });

  it("never lets its pods use more connections than the plan has, rollout included", async () => {
    const plan = { plan: "business" };
    const variables = (await deployment("spec.template.spec.containers.0.env", plan)) as readonly {
      readonly name: string;
      readonly value: string;
    }[];
    const limit = variables.find(({ name }) => name === "DATABASE_MAX_CONNECTIONS")?.value;
    expect([limit, await deployment("spec.replicas", plan)]).toEqual(["13", 2]);
    expect(13 * (2 + 1)).toBeLessThanOrEqual(PLANS.business.databaseConnections);
  });

  it("has no pod while the tenant is suspended, and keeps its volume", async () => {
    const suspended = { suspended: true };
    expect(await deployment("spec.replicas", suspended)).toBe(0);
    const type = "kubernetes:core/v1:PersistentVolumeClaim";
    expect(inputOf(await tenantResources(suspended), type, "acme-app-files", "spec")).toEqual({
      accessModes: ["ReadWriteOnce"],
      storageClassName: "encrypted",
      resources: { requests: { storage: "2Gi" } },
    });
  });

  it("has its volume made before a pod asks for it, where the node is known", async () => {
    const type = "kubernetes:core/v1:PersistentVolumeClaim";
    const metadata = inputOf(await tenantResources(), type, "acme-app-files", "metadata");
    expect(metadata).toMatchObject({
      annotations: { "volume.kubernetes.io/selected-node": "nl-1" },
    });
  });
});
