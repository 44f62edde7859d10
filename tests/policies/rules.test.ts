import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { ResourceValidationPolicy, StackValidationPolicy } from "@pulumi/policy";
import { describe, expect, it } from "vitest";
import { RULES } from "../../policies/rules.ts";
import { fleetResources, tenantResources } from "../support/good.ts";
import { judge, judged, judgeStack, UNKNOWN } from "../support/judge.ts";
import type { Judged } from "../support/judge.ts";

const FOLDER = join(import.meta.dirname, "../../policies/rules");
const NAMESPACE = "kubernetes:core/v1:Namespace";
const POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy";
const DEPLOYMENT = "kubernetes:apps/v1:Deployment";
const CRON_JOB = "kubernetes:batch/v1:CronJob";
const INGRESS = "kubernetes:networking.k8s.io/v1:Ingress";
const MIDDLEWARE = "kubernetes:traefik.io/v1alpha1:Middleware";
const TLS_OPTION = "kubernetes:traefik.io/v1alpha1:TLSOption";
const ROUTE = "kubernetes:traefik.io/v1alpha1:IngressRoute";
const SERVICE = "kubernetes:core/v1:Service";
const ACCOUNT = "kubernetes:core/v1:ServiceAccount";
const ROLE = "postgresql:index/role:Role";
const DATABASE = "postgresql:index/database:Database";
const GRANT = "postgresql:index/grant:Grant";
const TENANT = "fluxbilling:tenant:Tenant";

const POD = "spec.template.spec";
const CONTAINER = `${POD}.containers.0`;
const UNKNOWN_FAULT =
  "everything that this rule judges must be known at preview, got an unknown value. Pass a plain value, not an Output.";

/** One thing spoiled in a good stack, and what the rule must say. */
interface Mutant {
  /** Which good stack. @default "tenant" */
  readonly stack?: "fleet" | "tenant" | "suspended tenant";
  readonly type: string;
  readonly name: string;
  /** Path of the field, and the value it gets instead; `undefined` removes it. */
  readonly set: Readonly<Record<string, unknown>>;
  /** Messages, each after `<name>: `. */
  readonly says: readonly string[];
}

/** For every rule about one resource: mutants that it must refuse. */
const RESOURCE_MUTANTS: Readonly<Record<string, readonly Mutant[]>> = {
  "namespace-names-its-zone": [
    {
      type: NAMESPACE,
      name: "acme-namespace",
      set: { "metadata.labels.fluxbilling\\.dev/zone": "mars" },
      says: ["label fluxbilling.dev/zone must be one of eu, us, apac, got mars."],
    },
    {
      type: NAMESPACE,
      name: "acme-namespace",
      set: { "metadata.labels.fluxbilling\\.dev/zone": undefined },
      says: ["label fluxbilling.dev/zone must be one of eu, us, apac, got none."],
    },
    {
      type: NAMESPACE,
      name: "acme-namespace",
      set: { "metadata.labels.fluxbilling\\.dev/location": undefined },
      says: ["label fluxbilling.dev/location must name a location, got none."],
    },
    {
      type: NAMESPACE,
      name: "acme-namespace",
      set: { "metadata.labels.fluxbilling\\.dev/zone": "us" },
      says: ["annotation fluxbilling.dev/contract must name the contract for zone us, got none."],
    },
  ],
  "data-stays-in-its-zone": [
    {
      type: TENANT,
      name: "acme",
      set: { zone: "nowhere" },
      says: ["zone must be one of eu, us, apac, got nowhere."],
    },
    {
      type: TENANT,
      name: "acme",
      set: { locationZone: "us" },
      says: ["its location must lie in zone eu, got zone us."],
    },
    {
      type: TENANT,
      name: "acme",
      set: { backupStoreZone: "apac" },
      says: ["its backup store must lie in zone eu, got zone apac."],
    },
    {
      type: TENANT,
      name: "acme",
      set: { zone: "us", locationZone: "us", backupStoreZone: "us" },
      says: ["zone us must come with a contract's reference, got none."],
    },
    {
      stack: "fleet",
      type: "fluxbilling:fleet:Location",
      name: "nl-1",
      set: { backupStoreZone: "us" },
      says: ["its backup store must lie in zone eu, got zone us."],
    },
  ],
  "network-peer-is-exact": [
    {
      type: POLICY,
      name: "acme-network-allow-app",
      set: { "spec.ingress.0.from": [] },
      says: ["each ingress rule must name its peers, got none, which means everyone."],
    },
    {
      type: POLICY,
      name: "acme-network-allow-app",
      set: { "spec.ingress.0.from.0.namespaceSelector": {} },
      says: ["a peer's namespace must be kube-system by its name, got a selector without a name."],
    },
    {
      type: POLICY,
      name: "acme-network-allow-app",
      set: {
        "spec.ingress.0.from.0.namespaceSelector.matchLabels.kubernetes\\.io/metadata\\.name":
          "tenant-other",
      },
      says: ["a peer's namespace must be kube-system by its name, got tenant-other."],
    },
    {
      type: POLICY,
      name: "acme-network-allow-app",
      set: { "spec.ingress.0.from.0.podSelector": {} },
      says: ["a peer in kube-system must select its pods by label, got every pod."],
    },
    {
      type: POLICY,
      name: "acme-network-allow-app",
      set: { "spec.ingress.0.from.0": { ipBlock: { cidr: "0.0.0.0/0" } } },
      says: [
        "a peer's addresses must be one address, or on the way out 0.0.0.0/0 with its exceptions, got 0.0.0.0/0.",
      ],
    },
    {
      type: POLICY,
      name: "acme-network-allow-app",
      set: { "spec.egress.1.to.0.ipBlock.cidr": "10.0.0.0/8" },
      says: [
        "a peer's addresses must be one address, or on the way out 0.0.0.0/0 with its exceptions, got 10.0.0.0/8.",
      ],
    },
    {
      type: POLICY,
      name: "acme-network-allow-app",
      set: { "spec.egress.1.to.0.ipBlock.cidr": "169.254.169.254/32" },
      says: ["a peer's address must not be link-local or this host, got 169.254.169.254/32."],
    },
    {
      type: POLICY,
      name: "acme-network-allow-app",
      set: { "spec.egress.2.to.0.ipBlock.except.4": "1.1.1.1/32" },
      says: [
        "the way to 0.0.0.0/0 must leave out 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10, 169.254.0.0/16, 127.0.0.0/8, 0.0.0.0/8, 224.0.0.0/4, 240.0.0.0/4, got it without 169.254.0.0/16.",
      ],
    },
    {
      type: POLICY,
      name: "acme-network-allow-backup",
      set: { "spec.egress.0.ports": undefined },
      says: ["each egress rule must name its ports, got none."],
    },
  ],
  "tls-option-floor-is-1-3": [
    {
      stack: "fleet",
      type: TLS_OPTION,
      name: "nl-1-edge-tls",
      set: { "spec.minVersion": "VersionTLS12" },
      says: ["minVersion must be VersionTLS13, got VersionTLS12."],
    },
    {
      stack: "fleet",
      type: TLS_OPTION,
      name: "nl-1-edge-tls",
      set: { "spec.minVersion": undefined },
      says: ["minVersion must be VersionTLS13, got none, which means VersionTLS12."],
    },
    {
      stack: "fleet",
      type: TLS_OPTION,
      name: "nl-1-edge-tls",
      set: { "spec.maxVersion": "VersionTLS12" },
      says: ["maxVersion must not be set, got VersionTLS12."],
    },
  ],
  "ingress-speaks-tls-only": [
    {
      type: INGRESS,
      name: "acme-ingress-ingress",
      set: {
        "metadata.annotations.traefik\\.ingress\\.kubernetes\\.io/router\\.entrypoints":
          "web,websecure",
      },
      says: [
        "annotation traefik.ingress.kubernetes.io/router.entrypoints must be websecure, got web,websecure.",
      ],
    },
    {
      type: INGRESS,
      name: "acme-ingress-ingress",
      set: { "metadata.annotations.traefik\\.ingress\\.kubernetes\\.io/router\\.tls": undefined },
      says: ["annotation traefik.ingress.kubernetes.io/router.tls must be true, got none."],
    },
    {
      type: INGRESS,
      name: "acme-ingress-ingress",
      set: {
        "metadata.annotations.traefik\\.ingress\\.kubernetes\\.io/router\\.tls\\.options": "old",
      },
      says: [
        "annotation traefik.ingress.kubernetes.io/router.tls.options must not be set, got old.",
      ],
    },
    {
      type: INGRESS,
      name: "acme-ingress-ingress",
      set: {
        "metadata.annotations.traefik\\.ingress\\.kubernetes\\.io/router\\.middlewares": undefined,
      },
      says: [
        "annotation traefik.ingress.kubernetes.io/router.middlewares must name tenant-acme-security-headers@kubernetescrd, got none.",
      ],
    },
    {
      type: INGRESS,
      name: "acme-ingress-ingress",
      set: { "spec.tls": undefined },
      says: ["spec.tls must name host acme.tenants.test, got none."],
    },
    {
      type: INGRESS,
      name: "acme-ingress-ingress",
      set: { "spec.rules.0.host": "*.tenants.test" },
      says: ["each rule must name one host, got *.tenants.test."],
    },
    {
      type: INGRESS,
      name: "acme-ingress-ingress",
      set: { "spec.defaultBackend": { service: { name: "app" } } },
      says: ["defaultBackend must not be set, got one."],
    },
    {
      stack: "suspended tenant",
      type: ROUTE,
      name: "acme-ingress-suspended-route",
      set: { "spec.entryPoints": undefined },
      says: ["entryPoints must be websecure alone, got none, which means all."],
    },
    {
      stack: "suspended tenant",
      type: ROUTE,
      name: "acme-ingress-suspended-route",
      set: { "spec.tls": undefined },
      says: ["tls must be set, got none."],
    },
    {
      stack: "suspended tenant",
      type: ROUTE,
      name: "acme-ingress-suspended-route",
      set: { "spec.tls": { options: { name: "old" } } },
      says: ["tls.options must not be set, got some."],
    },
    {
      stack: "suspended tenant",
      type: ROUTE,
      name: "acme-ingress-suspended-route",
      set: { "spec.routes.0.middlewares": [] },
      says: ["each route must use middleware security-headers, got none."],
    },
  ],
  "headers-insist-on-https": [
    {
      type: MIDDLEWARE,
      name: "acme-ingress-security-headers",
      set: { "spec.headers.stsSeconds": 3600 },
      says: ["stsSeconds must be at least 31536000, got 3600."],
    },
    {
      type: MIDDLEWARE,
      name: "acme-ingress-security-headers",
      set: { "spec.headers.stsIncludeSubdomains": false, "spec.headers.frameDeny": undefined },
      says: ["stsIncludeSubdomains must be true, got false.", "frameDeny must be true, got none."],
    },
  ],
  "no-grant-role": [],
  "role-has-no-power": [
    {
      type: ROLE,
      name: "acme-database-app",
      set: { superuser: true },
      says: ["superuser must be false, got true."],
    },
    {
      type: ROLE,
      name: "acme-database-app",
      set: { createDatabase: true },
      says: ["createDatabase must be false, got true."],
    },
    {
      type: ROLE,
      name: "acme-database-app",
      set: { createRole: true },
      says: ["createRole must be false, got true."],
    },
    {
      type: ROLE,
      name: "acme-database-app",
      set: { replication: true },
      says: ["replication must be fluxbilling_replica's alone, got app_acme's."],
    },
    {
      type: ROLE,
      name: "acme-database-app",
      set: { bypassRowLevelSecurity: true },
      says: ["bypassRowLevelSecurity must be a backup role's alone, got app_acme's."],
    },
    {
      type: ROLE,
      name: "acme-database-app",
      set: { "roles.0": "pg_read_all_data" },
      says: ["roles must name no role of the server's own, got pg_read_all_data."],
    },
    {
      type: ROLE,
      name: "acme-database-app",
      set: { connectionLimit: undefined },
      says: ["a login must have a connectionLimit above 0, got none."],
    },
  ],
  "secrets-are-files": [
    {
      type: DEPLOYMENT,
      name: "acme-app-deployment",
      set: { [`${CONTAINER}.env.0`]: { name: "DATABASE_PASSWORD", value: "hunter2" } },
      says: ["container app must get secrets as files, got variable DATABASE_PASSWORD."],
    },
    {
      type: DEPLOYMENT,
      name: "acme-app-deployment",
      set: { [`${CONTAINER}.env.0`]: { name: "X", valueFrom: { secretKeyRef: {} } } },
      says: ["container app must get variable X as a plain value, got valueFrom."],
    },
    {
      type: CRON_JOB,
      name: "acme-backup-job",
      set: {
        "spec.jobTemplate.spec.template.spec.containers.0.envFrom": [{ secretRef: { name: "x" } }],
      },
      says: ["container backup must name its variables one by one, got envFrom."],
    },
  ],
  "pods-run-restricted": [
    {
      type: NAMESPACE,
      name: "acme-namespace",
      set: { "metadata.labels.pod-security\\.kubernetes\\.io/enforce": "baseline" },
      says: ["label pod-security.kubernetes.io/enforce must be restricted, got baseline."],
    },
    {
      type: ACCOUNT,
      name: "acme-app-account",
      set: { automountServiceAccountToken: undefined },
      says: ["automountServiceAccountToken must be false, got none."],
    },
    {
      type: DEPLOYMENT,
      name: "acme-app-deployment",
      set: { "spec.template": undefined },
      says: ["the pods that it makes must be described, got nothing."],
    },
    ...["hostNetwork", "hostPID", "hostIPC"].map((key) => ({
      type: DEPLOYMENT,
      name: "acme-app-deployment",
      set: { [`${POD}.${key}`]: true },
      says: [`${key} must be false, got true.`],
    })),
    {
      type: CRON_JOB,
      name: "acme-backup-job",
      set: { "spec.jobTemplate.spec.template.spec.automountServiceAccountToken": undefined },
      says: ["automountServiceAccountToken must be false, got none."],
    },
    {
      type: DEPLOYMENT,
      name: "acme-app-deployment",
      set: { [`${POD}.securityContext`]: undefined },
      says: [
        "securityContext.runAsNonRoot must be true, got none.",
        "seccompProfile must be RuntimeDefault, got none.",
      ],
    },
    {
      type: DEPLOYMENT,
      name: "acme-app-deployment",
      set: { [`${POD}.volumes.0`]: { name: "host", hostPath: { path: "/" } } },
      says: ["a volume must be one that Pod Security's restricted allows, got hostPath."],
    },
    {
      type: DEPLOYMENT,
      name: "acme-app-deployment",
      set: { [`${CONTAINER}.securityContext`]: undefined },
      says: [
        "container app must have allowPrivilegeEscalation false, got none.",
        "container app must have a read-only root, got readOnlyRootFilesystem none.",
        "container app must drop ALL capabilities, got none.",
      ],
    },
    {
      type: DEPLOYMENT,
      name: "acme-app-deployment",
      set: {
        [`${CONTAINER}.securityContext.privileged`]: true,
        [`${CONTAINER}.securityContext.runAsNonRoot`]: false,
        [`${CONTAINER}.securityContext.capabilities.add`]: ["NET_ADMIN"],
      },
      says: [
        "container app must not be privileged, got true.",
        "container app must not take back runAsNonRoot, got false.",
        "container app must add no capability, got NET_ADMIN.",
      ],
    },
    {
      type: DEPLOYMENT,
      name: "acme-app-deployment",
      set: { [`${CONTAINER}.ports.0.hostPort`]: 8080 },
      says: ["container app must take no port of its host, got a hostPort."],
    },
  ],
  "image-by-digest": [
    {
      type: DEPLOYMENT,
      name: "acme-app-deployment",
      set: { [`${CONTAINER}.image`]: "registry.test/fluxbilling/tenant-app:latest" },
      says: [
        "the image of container app must be <registry>/<repository>@sha256:<64 hexadecimal digits>, without a tag, got registry.test/fluxbilling/tenant-app:latest.",
      ],
    },
    {
      type: CRON_JOB,
      name: "acme-backup-job",
      set: { "spec.jobTemplate.spec.template.spec.containers.0.image": undefined },
      says: [
        "the image of container backup must be <registry>/<repository>@sha256:<64 hexadecimal digits>, without a tag, got none.",
      ],
    },
  ],
  "service-stays-inside": [
    {
      type: SERVICE,
      name: "acme-app-service",
      set: { "spec.type": "NodePort" },
      says: ["type must be ClusterIP, got NodePort."],
    },
    {
      type: SERVICE,
      name: "acme-app-service",
      set: { "spec.externalIPs": ["192.0.2.1"] },
      says: ["externalIPs must not be set, got 192.0.2.1."],
    },
    {
      type: SERVICE,
      name: "acme-app-service",
      set: { "spec.externalName": "other.test" },
      says: ["externalName must not be set, got other.test."],
    },
    {
      type: SERVICE,
      name: "acme-app-service",
      set: { "spec.selector": undefined },
      says: ["selector must name the pods' labels, got none."],
    },
  ],
  "provider-is-the-locations-own": [
    {
      type: NAMESPACE,
      name: "acme-namespace",
      set: { "metadata.labels.fluxbilling\\.dev/location": "fi-1" },
      says: [
        "label fluxbilling.dev/location must be nl-1, the location of its provider, got fi-1.",
      ],
    },
  ],
  "connection-proves-its-peer": [
    {
      type: "pulumi:providers:postgresql",
      name: "nl-1-server",
      set: { sslmode: "require" },
      says: ["sslmode must be verify-full, got require."],
    },
    {
      type: "pulumi:providers:postgresql",
      name: "nl-1-server",
      set: { sslrootcert: undefined },
      says: ["sslrootcert must name the server's authority, got none."],
    },
    {
      type: "pulumi:providers:kubernetes",
      name: "nl-1-cluster",
      set: { kubeconfig: '{"cluster": {"insecure-skip-tls-verify": true}}' },
      says: [
        "kubeconfig must be given and must check the server's certificate, got one that skips the check.",
      ],
    },
    {
      stack: "fleet",
      type: "command:remote:Command",
      name: "store-master-host",
      set: { "connection.hostKey": undefined },
      says: ["connection.hostKey must pin the host's ssh-ed25519 key, got none."],
    },
    {
      stack: "fleet",
      type: "command:remote:Command",
      name: "store-master-host",
      set: { logging: undefined },
      says: ["logging must be none, got stdoutAndStderr."],
    },
  ],
};

/** For every rule about a stack: mutants that it must refuse. The resource is spoiled, or taken out. */
const STACK_MUTANTS: Readonly<Record<string, readonly (Mutant & { readonly remove?: boolean })[]>> =
  {
    "tenant-namespace-has-default-deny": [
      {
        type: POLICY,
        name: "acme-network-default-deny",
        set: {},
        remove: true,
        says: [
          "acme-namespace: namespace tenant-acme must have a NetworkPolicy that selects every pod and allows nothing either way, got none.",
        ],
      },
      ...[
        { "spec.podSelector": { matchLabels: { a: "b" } } },
        { "spec.policyTypes": ["Ingress"] },
        { "spec.policyTypes": ["Egress"] },
        { "spec.ingress": [{}] },
        { "spec.egress": [{}] },
        { "metadata.namespace": "tenant-other" },
      ].map((set) => ({
        type: POLICY,
        name: "acme-network-default-deny",
        set,
        says: [
          "acme-namespace: namespace tenant-acme must have a NetworkPolicy that selects every pod and allows nothing either way, got none.",
        ],
      })),
    ],
    "one-default-tls-option": [
      {
        stack: "fleet",
        type: TLS_OPTION,
        name: "nl-1-edge-tls",
        set: { "metadata.name": "modern" },
        says: ["nl-1-edge-tls: a TLSOption must be kube-system/default, got kube-system/modern."],
      },
      {
        stack: "fleet",
        type: TLS_OPTION,
        name: "nl-1-edge-tls",
        set: { "metadata.namespace": "tenant-acme" },
        says: ["nl-1-edge-tls: a TLSOption must be kube-system/default, got tenant-acme/default."],
      },
      {
        stack: "fleet",
        type: TLS_OPTION,
        name: "fi-1-edge-tls",
        set: {},
        remove: true,
        says: ["fi-1-cluster: a cluster must have exactly one TLSOption, got 0."],
      },
    ],
    "database-refuses-public-connect": [
      {
        type: GRANT,
        name: "acme-database-no-public",
        set: {},
        remove: true,
        says: [
          "acme-database-database: database tenant_acme must have a Grant that leaves PUBLIC nothing, got none.",
        ],
      },
      {
        type: GRANT,
        name: "acme-database-no-public",
        set: { privileges: ["CONNECT"] },
        says: [
          "acme-database-no-public: PUBLIC must have no right, got CONNECT.",
          "acme-database-database: database tenant_acme must have a Grant that leaves PUBLIC nothing, got none.",
        ],
      },
      {
        type: DATABASE,
        name: "acme-database-database",
        set: { owner: "app_acme" },
        says: ["acme-database-database: owner must be fluxbilling_databases, got app_acme."],
      },
    ],
  };

/** Built once, one after the other: mocks are global. Tests copy what they spoil. */
const STACKS = {
  fleet: judged(await fleetResources()),
  tenant: judged(await tenantResources()),
  "suspended tenant": judged(await tenantResources({ suspended: true })),
};

describe.each(RULES.filter(isResourceRule))("$name", (rule) => {
  const mutants = RESOURCE_MUTANTS[rule.name] ?? [];

  it.each(mutants.map((mutant) => ({ title: titleOf(mutant), mutant })))(
    "refuses $title",
    async ({ mutant }) => {
      const spoiled = spoil(find(mutant), mutant.set);
      expect(await judge(rule, spoiled)).toEqual(
        mutant.says.map((message) => `${mutant.name}: ${message}`),
      );
    },
  );

  it.each(mutants.map((mutant) => ({ title: titleOf(mutant), mutant })))(
    "refuses an unknown value where $title could stand",
    async ({ mutant }) => {
      const unknown = Object.fromEntries(Object.keys(mutant.set).map((path) => [path, UNKNOWN]));
      expect(await judge(rule, spoil(find(mutant), unknown))).toContain(
        `${mutant.name}: ${UNKNOWN_FAULT}`,
      );
    },
  );

  it("says nothing about a type that it does not judge", async () => {
    const foreign = { type: "random:index/randomId:RandomId", name: "other", props: {} };
    expect(await judge(rule, foreign)).toEqual([]);
  });
});

describe.each(RULES.filter(isStackRule))("$name", (rule) => {
  const mutants = STACK_MUTANTS[rule.name] ?? [];

  it.each(mutants.map((mutant) => ({ title: titleOf(mutant), mutant })))(
    "refuses $title",
    async ({ mutant }) => {
      const resources = stackOf(mutant);
      const spoiled = resources.flatMap((resource) =>
        resource.type !== mutant.type || resource.name !== mutant.name
          ? [resource]
          : mutant.remove === true
            ? []
            : [spoil(resource, mutant.set)],
      );
      expect(await judgeStack(rule, spoiled)).toEqual(mutant.says);
    },
  );

  it.each(
    mutants
      .filter(({ remove }) => remove !== true)
      .map((mutant) => ({ title: titleOf(mutant), mutant })),
  )("refuses an unknown value where $title could stand", async ({ mutant }) => {
    const unknown = Object.fromEntries(Object.keys(mutant.set).map((path) => [path, UNKNOWN]));
    const spoiled = stackOf(mutant).map((resource) =>
      resource.type === mutant.type && resource.name === mutant.name
        ? spoil(resource, unknown)
        : resource,
    );
    expect(await judgeStack(rule, spoiled)).toContain(`the stack: ${UNKNOWN_FAULT}`);
  });

  it("says nothing about types that it does not judge", async () => {
    const foreign = { type: "random:index/randomId:RandomId", name: "other", props: {} };
    expect(await judgeStack(rule, [foreign])).toEqual([]);
  });
});

describe("no-grant-role", () => {
  it("refuses a GrantRole", async () => {
    const rule = RULES.filter(isResourceRule).find(({ name }) => name === "no-grant-role");
    if (rule === undefined) {
      throw new Error("the pack must have the rule");
    }
    const grant = { type: "postgresql:index/grantRole:GrantRole", name: "member", props: {} };
    expect(await judge(rule, grant)).toEqual([
      "member: a membership must stand in the Role's own roles, got a GrantRole. Move it there.",
    ]);
  });
});

describe("one-default-tls-option", () => {
  it("refuses a TLSOption in a tenant's stack", async () => {
    const rule = RULES.filter(isStackRule).find(({ name }) => name === "one-default-tls-option");
    if (rule === undefined) {
      throw new Error("the pack must have the rule");
    }
    const option = {
      type: TLS_OPTION,
      name: "own",
      props: { metadata: { name: "default", namespace: "kube-system" } },
    };
    expect(await judgeStack(rule, [...STACKS.tenant, option])).toEqual([
      "acme: a tenant's stack must hold no TLSOption, got 1.",
    ]);
  });
});

describe("provider-is-the-locations-own", () => {
  it.each([
    [NAMESPACE, "acme-namespace", "provider must be <location>-cluster, got default."],
    [ROLE, "acme-database-app", "provider must be <location>-server, got default."],
  ])("refuses a %s through the default provider", async (type, name, message) => {
    const rule = RULES.filter(isResourceRule).find(
      (candidate) => candidate.name === "provider-is-the-locations-own",
    );
    if (rule === undefined) {
      throw new Error("the pack must have the rule");
    }
    const resource = find({ type, name, set: {}, says: [] });
    expect(await judge(rule, { ...resource, provider: "default" })).toEqual([
      `${name}: ${message}`,
    ]);
  });
});

describe("the register of rules", () => {
  it("holds exactly the files of the folder", () => {
    const files = readdirSync(FOLDER).map((file) => file.replace(/\.ts$/, ""));
    expect(RULES.map(({ name }) => name).sort()).toEqual(files.sort());
  });

  it("has mutants for exactly its rules", () => {
    expect([...Object.keys(RESOURCE_MUTANTS), ...Object.keys(STACK_MUTANTS)].sort()).toEqual(
      RULES.map(({ name }) => name).sort(),
    );
  });

  it.each(RULES)(
    "documents $name by its description, its reason and what it cannot see",
    (rule) => {
      const source = readFileSync(join(FOLDER, `${rule.name}.ts`), "utf8");
      expect(source).toContain(`/**\n * ${rule.description}\n *\n * Why: `);
      expect(source).toMatch(/\n \* Blind to: /);
    },
  );

  it("makes every rule mandatory", () => {
    expect(RULES.filter(({ enforcementLevel }) => enforcementLevel !== "mandatory")).toEqual([]);
  });
});

function isResourceRule(
  rule: ResourceValidationPolicy | StackValidationPolicy,
): rule is ResourceValidationPolicy {
  return "validateResource" in rule;
}

function isStackRule(
  rule: ResourceValidationPolicy | StackValidationPolicy,
): rule is StackValidationPolicy {
  return "validateStack" in rule;
}

function titleOf({ name, set, remove }: Mutant & { readonly remove?: boolean }): string {
  return remove === true
    ? `a stack without ${name}`
    : `${name} with ${Object.entries(set)
        .map(([path, value]) => `${path} ${JSON.stringify(value) ?? "missing"}`)
        .join(" and ")}`;
}

function stackOf({ stack = "tenant" }: Mutant): readonly Judged[] {
  return STACKS[stack];
}

function find(mutant: Mutant): Judged {
  const found = stackOf(mutant).find(
    ({ type, name }) => type === mutant.type && name === mutant.name,
  );
  if (found === undefined) {
    throw new Error(`the good stack must have ${mutant.type} ${mutant.name}`);
  }
  return found;
}

/** A copy of a resource with some fields set; dots part the steps of a path, `\.` is a dot. */
function spoil(resource: Judged, set: Readonly<Record<string, unknown>>): Judged {
  const props: unknown = structuredClone(resource.props);
  for (const [path, value] of Object.entries(set)) {
    const steps = path.split(/(?<!\\)\./).map((step) => step.replaceAll("\\.", "."));
    const last = steps.pop() ?? "";
    let target = props as Record<string, unknown>;
    for (const step of steps) {
      target[step] ??= {};
      target = target[step] as Record<string, unknown>;
    }
    if (value === undefined) {
      Reflect.deleteProperty(target, last);
    } else {
      target[last] = value;
    }
  }
  return { ...resource, props };
}
