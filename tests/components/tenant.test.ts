import { beforeAll, describe, expect, it } from "vitest";
import { planQuota, PLANS } from "../../model/plan.ts";
import { at, inputOf, inputsOf } from "../support/construct.ts";
import type { Registered } from "../support/construct.ts";
import { GOOD_IDENTITY, tenantResources } from "../support/good.ts";

describe("Tenant", () => {
  let resources: readonly Registered[];
  beforeAll(async () => {
    resources = await tenantResources();
  });

  it("says on itself where tenant, location and copies are, for policies to judge", () => {
    expect(inputsOf(resources, "fluxbilling:tenant:Tenant")["acme"]).toEqual({
      tenant: "acme",
      plan: "lite",
      zone: "eu",
      location: "nl-1",
      locationZone: "eu",
      backupStore: "master",
      backupStoreZone: "eu",
      imageRegistries: ["registry.test", "registry.panels.test"],
      protectData: true,
    });
  });

  it("says on itself and on its namespace of which kinds its identity providers are", async () => {
    const identified = await tenantResources(GOOD_IDENTITY);
    const kinds = ["oidc", "oauth2", "saml", "ldap"];
    expect(at(inputsOf(identified, "fluxbilling:tenant:Tenant")["acme"], "identityKinds")).toEqual(
      kinds,
    );
    const type = "kubernetes:core/v1:Namespace";
    expect(inputOf(identified, type, "acme-namespace", "metadata.annotations")).toEqual({
      "fluxbilling.dev/identity": kinds.join(","),
    });
  });

  it("makes nothing more for identity and mail than one Secret", async () => {
    const names = (all: readonly Registered[]): readonly string[] => all.map(({ name }) => name);
    const more = names(await tenantResources(GOOD_IDENTITY));
    expect(more.filter((name) => !names(resources).includes(name))).toEqual([
      "acme-key-credentials",
    ]);
  });

  it("says of MQTT and replays that it has them, and makes a route and a job for them alone", async () => {
    const full = await tenantResources({ mqtt: true, replay: true });
    expect(inputsOf(full, "fluxbilling:tenant:Tenant")["acme"]).toMatchObject({
      mqtt: true,
      replay: true,
    });
    const type = "kubernetes:core/v1:Namespace";
    expect(inputOf(full, type, "acme-namespace", "metadata.annotations")).toEqual({
      "fluxbilling.dev/mqtt": "true",
      "fluxbilling.dev/replay": "true",
    });
    const names = (all: readonly Registered[]): readonly string[] => all.map(({ name }) => name);
    const more = names(full).filter((name) => !names(resources).includes(name));
    expect(more.toSorted()).toEqual([
      "acme-ingress-mqtt",
      "acme-replay",
      "acme-replay-account",
      "acme-replay-job",
    ]);
  });

  it("has nothing of either while it is suspended", async () => {
    expect(await tenantResources({ suspended: true, mqtt: true, replay: true })).toEqual(
      await tenantResources({ suspended: true }),
    );
  });

  it("has a namespace that names tenant, zone, location, plan and store and enforces restricted pods", () => {
    expect(
      inputOf(resources, "kubernetes:core/v1:Namespace", "acme-namespace", "metadata"),
    ).toEqual({
      name: "tenant-acme",
      labels: {
        "fluxbilling.dev/tenant": "acme",
        "fluxbilling.dev/zone": "eu",
        "fluxbilling.dev/location": "nl-1",
        "fluxbilling.dev/plan": "lite",
        "fluxbilling.dev/backup-store": "master",
        "pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/enforce-version": "v1.36",
        "pod-security.kubernetes.io/audit": "restricted",
        "pod-security.kubernetes.io/audit-version": "v1.36",
        "pod-security.kubernetes.io/warn": "restricted",
        "pod-security.kubernetes.io/warn-version": "v1.36",
      },
      annotations: {},
    });
  });

  it("keeps every object in its own namespace", () => {
    const namespaces = resources
      .filter(({ type }) => type.startsWith("kubernetes:"))
      .filter(({ type }) => type !== "kubernetes:core/v1:Namespace")
      .map(({ inputs }) => at(inputs, "metadata.namespace"));
    expect(new Set(namespaces)).toEqual(new Set(["tenant-acme"]));
  });

  it("goes through the providers of its own location alone", () => {
    const providers = resources
      .filter(({ type }) => /^(kubernetes|postgresql):/.test(type))
      .map(({ provider }) => provider.split("::").at(-2));
    expect(new Set(providers)).toEqual(new Set(["nl-1-cluster", "nl-1-server"]));
  });

  it("is bounded by its plan", async () => {
    const upgraded = await tenantResources({ plan: "business" });
    const type = "kubernetes:core/v1:ResourceQuota";
    expect(inputOf(upgraded, type, "acme-quota", "spec.hard")).toEqual(planQuota(PLANS.business));
    const replaying = await tenantResources({ replay: true });
    expect(inputOf(replaying, type, "acme-quota", "spec.hard")).toEqual(
      planQuota(PLANS.lite, true),
    );
  });

  it("changes its plan without another name anywhere, so nothing is replaced", async () => {
    const names = (all: readonly Registered[]): readonly string[] =>
      all.map(({ type, name, inputs }) =>
        JSON.stringify([type, name, at(inputs, "metadata.name") ?? at(inputs, "name")]),
      );
    const upgraded = await tenantResources({ plan: "business" });
    expect(names(upgraded).toSorted()).toEqual(names(resources).toSorted());
  });

  it("marks every value secret that is one", async () => {
    const secret = (await tenantResources(GOOD_IDENTITY))
      .filter(({ secretInputs }) => secretInputs.length > 0)
      .map(({ name, secretInputs }) => `${name} ${secretInputs.join()}`);
    expect(secret.toSorted()).toEqual([
      "acme-backup-store stringData",
      "acme-database-app password",
      "acme-database-app-secret stringData",
      "acme-database-backup password",
      "acme-database-backup-secret stringData",
      "acme-key-contract stringData",
      "acme-key-credentials stringData",
      "acme-key-keys data",
      "nl-1-cluster kubeconfig",
      "nl-1-server password",
    ]);
  });
});
