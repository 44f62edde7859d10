/** Everything that the pack is shown to refuse: one thing spoiled in a good stack, and what the rule says of it. */
import type { Exception } from "../../model/exceptions.ts";
import { SHUT_RANGES } from "../../model/network.ts";
import { rootKeyId } from "../../model/settings-key.ts";
import type { Subject } from "../../policies/rule.ts";
import { EXCEPTION_TYPE } from "../../policies/tenant-stack.ts";
import {
  fleetResources,
  GOOD_IDENTITY,
  hostResources,
  tenantResources,
  TEST_ROOT_KEY,
} from "../support/good.ts";
import { judged } from "../support/judge.ts";
import type { Judged } from "../support/judge.ts";
import { setPath } from "../support/set-path.ts";

const NAMESPACE = "kubernetes:core/v1:Namespace";
const POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy";
const DEPLOYMENT = "kubernetes:apps/v1:Deployment";
const CRON_JOB = "kubernetes:batch/v1:CronJob";
const INGRESS = "kubernetes:networking.k8s.io/v1:Ingress";
const MIDDLEWARE = "kubernetes:traefik.io/v1alpha1:Middleware";
const TLS_OPTION = "kubernetes:traefik.io/v1alpha1:TLSOption";
const ROUTE = "kubernetes:traefik.io/v1alpha1:IngressRoute";
const TCP_ROUTE = "kubernetes:traefik.io/v1alpha1:IngressRouteTCP";
const SERVICE = "kubernetes:core/v1:Service";
const ACCOUNT = "kubernetes:core/v1:ServiceAccount";
const ROLE = "postgresql:index/role:Role";
const DATABASE = "postgresql:index/database:Database";
const GRANT = "postgresql:index/grant:Grant";
const TENANT = "fluxbilling:tenant:Tenant";
const SCHEMA = "postgresql:index/schema:Schema";
const SECRET = "kubernetes:core/v1:Secret";
const QUOTA = "kubernetes:core/v1:ResourceQuota";
const LIMITS = "kubernetes:core/v1:LimitRange";
const BACKUP = "fluxbilling:tenant:TenantBackup";
const COMMAND = "command:remote:Command";
const CLAIM = "kubernetes:core/v1:PersistentVolumeClaim";
const STORAGE_CLASS = "kubernetes:storage.k8s.io/v1:StorageClass";
const STORAGE = "fluxbilling:fleet:EncryptedStorage";
const HOST = "fluxbilling:host:PreparedHost";

/** What installs K3s on the good host. */
const K3S_COMMAND =
  `VERSION=v1.33.5+k3s1 URL=https://github.com/k3s-io/k3s/releases/download/v1.33.5%2Bk3s1/k3s DIGEST=sha256:${"5".repeat(64)} ` +
  `IMAGES_URL=https://github.com/k3s-io/k3s/releases/download/v1.33.5%2Bk3s1/k3s-airgap-images-amd64.tar.zst IMAGES_DIGEST=sha256:${"6".repeat(64)} ` +
  "GENERATION=1 ADDRESS=10.77.0.21 API_PORT=6443 POD_RANGE=10.42.0.0/16 VOLUMES=/var/lib/rancher/k3s/storage " +
  "FOLDERS='/var/lib/rancher /var/lib/kubelet /var/lib/postgresql /var/log' /usr/local/lib/fluxbilling/k3s install";

const SYSTEM_OPEN =
  "nl-1-edge-tls: the cluster of nl-1-cluster must have a NetworkPolicy in kube-system that selects every pod and allows nothing either way, got none.";

const POD = "spec.template.spec";
const CONTAINER = `${POD}.containers.0`;
/** Followed by the name of a variable, not its place. */
const JOB_ENV = "spec.jobTemplate.spec.template.spec.containers.0.env";

/** One thing spoiled in a good stack, and what the rule must say. */
export interface Mutant {
  /** Which good stack. @default "tenant" */
  readonly stack?: "fleet" | "host" | "tenant" | "suspended tenant" | "full tenant";
  /** The resource that is spoiled; neither where one is added. */
  readonly type?: string;
  readonly name?: string;
  /** Path of the field, and the value it gets instead; `undefined` removes it. */
  readonly set?: Readonly<Record<string, unknown>>;
  /** Options of the resource instead. */
  readonly opts?: Partial<Subject["opts"]>;
  /** Name of its provider instead. */
  readonly provider?: string;
  /** Whether the resource is taken out. */
  readonly remove?: boolean;
  /** A resource that is added. */
  readonly add?: Judged;
  /** Messages, without the way out that each rule adds to them. */
  readonly says: readonly string[];
  /** The same where a provider has filled in what is missing. @default says */
  readonly saysWithDefaults?: readonly string[];
  /** Whether the rule says more of the same kind. */
  readonly andMore?: boolean;
  /** Whether an unknown value may stand in its place: one that is found by looking, not by reading a field. */
  readonly opaque?: boolean;
}

type MutantTable = Readonly<Record<string, readonly Mutant[]>>;

/** A class of volumes beside the one of its cluster. */
function storageClass(parameters: object): Judged {
  return {
    type: STORAGE_CLASS,
    name: "fast",
    props: {
      metadata: { name: "fast", labels: { "fluxbilling.dev/location": "nl-1" } },
      provisioner: "rancher.io/local-path",
      parameters,
    },
    provider: "nl-1-cluster",
  };
}

/** A role or a binding in the control plane's namespace. */
function access(kind: string, props: object): Judged {
  return {
    type: `kubernetes:rbac.authorization.k8s.io/v1:${kind}`,
    name: "access",
    props: {
      metadata: {
        name: "access",
        namespace: "fluxbilling-control-plane",
        labels: { "fluxbilling.dev/location": "master" },
      },
      ...props,
    },
    provider: "master-cluster",
  };
}

function exception(spoilt: Partial<Exception>): Judged {
  const good = {
    tenant: "acme",
    rule: "image-by-digest",
    reason: "The old image has no digest yet.",
    approver: "security",
    endDate: "2020-01-01",
  };
  return {
    type: EXCEPTION_TYPE,
    name: "exception of acme from image-by-digest",
    props: { ...good, ...spoilt },
  };
}

function tomorrow(): string {
  return new Date(Date.now() + 86_400_000).toISOString().slice(0, 10);
}

function goodCommand(): object {
  return {
    connection: { hostKey: "ssh-ed25519 AAAA" },
    logging: "none",
    create: "true",
  };
}

function tenantMetadata(name: string): object {
  return {
    name,
    namespace: "tenant-acme",
    labels: {
      "fluxbilling.dev/tenant": "acme",
      "fluxbilling.dev/zone": "eu",
      "fluxbilling.dev/location": "nl-1",
    },
  };
}

/** The route of a tenant that speaks MQTT, spoilt. */
function mqttRoute(
  set: Readonly<Record<string, unknown>>,
  ...says: readonly string[]
): Mutant & { readonly name: string } {
  return { stack: "full tenant", type: TCP_ROUTE, name: "acme-ingress-mqtt", set, says };
}

/** The replay of a tenant that has one, spoilt; paths of its pods begin with `pod.`. */
function replay(set: Readonly<Record<string, unknown>>, ...says: readonly string[]): Mutant {
  return {
    stack: "full tenant",
    type: CRON_JOB,
    name: "acme-replay-job",
    set: Object.fromEntries(
      Object.entries(set).map(([path, value]) => [
        path.replace(/^pod\./, "spec.jobTemplate.spec.template."),
        value,
      ]),
    ),
    says: says.map((message) => `acme-replay-job: ${message}`),
  };
}

/** A good TCP route of nobody. */
function foreignTcpRoute(namespace: string, provider: string): Judged {
  return {
    type: TCP_ROUTE,
    name: "by-hand",
    props: {
      apiVersion: "traefik.io/v1alpha1",
      kind: "IngressRouteTCP",
      metadata: { ...tenantMetadata("by-hand"), namespace },
      spec: {
        entryPoints: ["mqtts"],
        routes: [
          { match: "HostSNI(`acme.tenants.test`)", services: [{ name: "app", port: "mqtt" }] },
        ],
        tls: {},
      },
    },
    provider,
  };
}

const RESOURCE_MUTANTS: MutantTable = {
  "namespace-names-its-zone": [
    {
      stack: "fleet",
      type: NAMESPACE,
      name: "master-namespace",
      set: { "metadata.labels.fluxbilling\\.dev/zone": undefined },
      says: ["label fluxbilling.dev/zone must be one of eu, us, apac, got none."],
    },
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
    {
      stack: "fleet",
      type: "fluxbilling:fleet:Standby",
      name: "standby",
      set: { masterZone: "us" },
      says: ["its master must lie in zone eu, got zone us."],
    },
    {
      stack: "fleet",
      type: "fluxbilling:fleet:StoreMirror",
      name: "mirror-master",
      set: { standbyZone: undefined },
      says: ["its standby must lie in zone eu, got zone none."],
    },
  ],
  "network-peer-is-exact": [
    {
      stack: "fleet",
      type: POLICY,
      name: "nl-1-system-allow-dns",
      set: { "spec.podSelector.matchLabels": { app: "other" } },
      says: [
        "a peer's namespace must be kube-system by its name, got a selector without a name.",
        `the way to 0.0.0.0/0 must leave out ${SHUT_RANGES.join(", ")}, got it without ${SHUT_RANGES.join(", ")}.`,
      ],
    },
    {
      stack: "fleet",
      type: POLICY,
      name: "nl-1-system-allow-dns",
      set: { "spec.egress.1.ports.0.port": 443 },
      says: [
        `the way to 0.0.0.0/0 must leave out ${SHUT_RANGES.join(", ")}, got it without ${SHUT_RANGES.join(", ")}.`,
      ],
    },
    {
      stack: "fleet",
      type: POLICY,
      name: "nl-1-system-allow-ingress",
      set: { "spec.podSelector.matchLabels.extra": "label" },
      says: [
        "a peer's addresses must be one address, or on the way out 0.0.0.0/0 with its exceptions, got 0.0.0.0/0.",
        "a peer's namespace must be kube-system by its name, got a selector without a name.",
        "a peer's namespace must be kube-system by its name, got fluxbilling-edge.",
      ],
    },
    {
      stack: "fleet",
      type: POLICY,
      name: "nl-1-system-allow-ingress",
      set: { "spec.egress.2.to.0.podSelector": {} },
      says: ["a peer's namespace must be kube-system by its name, got a selector without a name."],
    },
    ...Object.entries({
      "fluxbilling-edge": { "spec.egress.3.to.0.podSelector": {} },
      "fluxbilling-other": {
        "spec.egress.3.to.0.namespaceSelector.matchLabels.kubernetes\\.io/metadata\\.name":
          "fluxbilling-other",
      },
    }).map(([namespace, set]): Mutant => ({
      stack: "fleet",
      type: POLICY,
      name: "nl-1-system-allow-ingress",
      set,
      says: [`a peer's namespace must be kube-system by its name, got ${namespace}.`],
    })),
    {
      stack: "fleet",
      type: POLICY,
      name: "nl-1-page-allow-page",
      set: { "spec.ingress.0.from.0.podSelector": {} },
      says: ["a peer in kube-system must select its pods by label, got every pod."],
    },
    {
      stack: "fleet",
      type: POLICY,
      name: "nl-1-page-allow-page",
      set: { "spec.ingress.0.from.0": { podSelector: {} } },
      says: ["a peer's namespace must be kube-system by its name, got a selector without a name."],
    },
    {
      stack: "fleet",
      type: POLICY,
      name: "nl-1-system-allow-ingress",
      set: { "metadata.namespace": "tenant-acme" },
      says: [
        "a peer's addresses must be one address, or on the way out 0.0.0.0/0 with its exceptions, got 0.0.0.0/0.",
        "a peer's namespace must be kube-system by its name, got a selector without a name.",
        "a peer's namespace must be kube-system by its name, got fluxbilling-edge.",
      ],
    },
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
      stack: "fleet",
      type: ROUTE,
      name: "nl-1-edge-unknown",
      set: { "spec.entryPoints": undefined },
      says: ["entryPoints must be websecure alone, got none, which means all."],
    },
    {
      stack: "fleet",
      type: ROUTE,
      name: "nl-1-edge-unknown",
      set: { "spec.tls": undefined },
      says: ["tls must be set, got none."],
    },
    {
      stack: "fleet",
      type: ROUTE,
      name: "nl-1-edge-unknown",
      set: { "spec.tls": { options: { name: "old" } } },
      says: ["tls.options must not be set, got some."],
    },
    {
      stack: "fleet",
      type: ROUTE,
      name: "nl-1-edge-unknown",
      set: { "spec.routes.0.middlewares": [] },
      says: ["each route must use middleware security-headers, got none."],
    },
    mqttRoute(
      { "spec.entryPoints": ["websecure"] },
      "entryPoints must be mqtts alone, got websecure.",
    ),
    mqttRoute(
      { "spec.entryPoints": undefined },
      "entryPoints must be mqtts alone, got none, which means all.",
    ),
    mqttRoute({ "spec.tls": undefined }, "tls must be set, got none."),
    mqttRoute({ "spec.tls.passthrough": true }, "tls.passthrough must be false, got true."),
    mqttRoute(
      { "spec.tls.options": { name: "old", namespace: "tenant-acme" } },
      "tls.options must not be set, got some.",
    ),
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
  "no-grant-role": [
    {
      add: {
        type: "postgresql:index/grantRole:GrantRole",
        name: "member",
        props: { role: "app_acme", grantRole: "owner_acme" },
        provider: "nl-1-server",
      },
      says: ["a membership must stand in the Role's own roles, got a GrantRole. Move it there."],
    },
  ],
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
      saysWithDefaults: ["a login must have a connectionLimit above 0, got -1."],
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
      stack: "fleet",
      type: NAMESPACE,
      name: "master-namespace",
      set: { "metadata.labels.fluxbilling\\.dev/location": "fi-1" },
      says: [
        "label fluxbilling.dev/location must be master, the location of its provider, got fi-1.",
      ],
    },
    {
      stack: "fleet",
      type: ROLE,
      name: "standby-replica",
      provider: "default",
      says: ["provider must be <location>-server, got default."],
    },
    {
      type: NAMESPACE,
      name: "acme-namespace",
      provider: "default",
      says: ["provider must be <location>-cluster, got default."],
    },
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
  "type-is-known": [
    {
      add: {
        type: "kubernetes:helm.sh/v3:Release",
        name: "chart",
        props: { chart: "ingress" },
      },
      says: ["type must be one that the pack knows, got kubernetes:helm.sh/v3:Release."],
    },
    {
      stack: "fleet",
      add: { type: "aws:s3/bucket:Bucket", name: "copies", props: {} },
      says: ["type must be one that the pack knows, got aws:s3/bucket:Bucket."],
    },
    {
      add: {
        type: "kubernetes:traefik.io/v1alpha1:IngressRouteUDP",
        name: "datagrams",
        props: { metadata: tenantMetadata("datagrams"), spec: {} },
        provider: "nl-1-cluster",
      },
      says: [
        "type must be one that the pack knows, got kubernetes:traefik.io/v1alpha1:IngressRouteUDP.",
      ],
    },
  ],
  "nothing-judged-is-ignored": [
    {
      type: DEPLOYMENT,
      name: "acme-app-deployment",
      opts: { ignoreChanges: ["spec.template"] },
      says: ["ignoreChanges must not name what is judged, got spec.template."],
    },
    {
      stack: "fleet",
      type: TLS_OPTION,
      name: "nl-1-edge-tls",
      opts: { ignoreChanges: ["spec"] },
      says: ["ignoreChanges must not name what is judged, got spec."],
    },
  ],
  "tenant-secret-is-immutable": [
    {
      type: SECRET,
      name: "acme-key-keys",
      set: { immutable: undefined },
      says: ["immutable must be true, got none."],
    },
    {
      type: SECRET,
      name: "acme-database-app-secret",
      set: { immutable: false },
      says: ["immutable must be true, got false."],
    },
  ],
  "access-stays-in-its-namespace": [
    ...[
      { verbs: ["*"], resources: ["secrets"], apiGroups: [""] },
      { verbs: ["get"], resources: ["*"], apiGroups: [""] },
      { verbs: ["get"], resources: ["secrets"], apiGroups: ["*"] },
    ].map((rule) => {
      const [field = ""] = Object.entries(rule).find(([, values]) => values.includes("*")) ?? [];
      return {
        stack: "fleet" as const,
        add: access("Role", { rules: [rule] }),
        says: [`${field} must name each one, got *.`],
      };
    }),
    {
      stack: "fleet",
      add: access("ClusterRole", {
        rules: [{ verbs: ["bind"], resources: ["clusterroles"], apiGroups: ["rbac"] }],
      }),
      says: ["verbs must not raise the role's own rights, got bind."],
    },
    {
      stack: "fleet",
      add: access("ClusterRole", { aggregationRule: { clusterRoleSelectors: [{}] }, rules: [] }),
      says: ["aggregationRule must not be set, got one."],
    },
    {
      stack: "fleet",
      add: access("RoleBinding", {
        roleRef: { kind: "Role", name: "reader" },
        subjects: [{ kind: "ServiceAccount", name: "app", namespace: "tenant-other" }],
      }),
      says: ["a subject must be an account of the binding's own namespace, got tenant-other/app."],
    },
    {
      stack: "fleet",
      add: access("RoleBinding", {
        roleRef: { kind: "Role", name: "reader" },
        subjects: [{ kind: "Group", name: "system:authenticated" }],
      }),
      says: ["a subject must be a ServiceAccount, got Group system:authenticated."],
    },
    {
      stack: "fleet",
      add: access("ClusterRoleBinding", {
        roleRef: { kind: "ClusterRole", name: "reader" },
        subjects: [{ kind: "ServiceAccount", name: "app", namespace: "tenant-acme" }],
      }),
      says: [
        "a subject must be an account of fluxbilling-control-plane or kube-system, got tenant-acme/app.",
      ],
    },
    {
      stack: "fleet",
      add: access("ClusterRoleBinding", {
        roleRef: { kind: "ClusterRole", name: "cluster-admin" },
        subjects: [],
      }),
      says: ["roleRef must name a role made for it, got cluster-admin."],
    },
    {
      stack: "fleet",
      add: access("SelfSubjectReview", {}),
      says: ["must be a role or a binding, got SelfSubjectReview."],
    },
  ],
  "redirect-goes-to-https": [
    {
      stack: "fleet",
      type: MIDDLEWARE,
      name: "nl-1-edge-redirect",
      set: { "spec.redirectScheme.scheme": "http" },
      says: ["redirectScheme.scheme must be https, got http."],
    },
    {
      stack: "fleet",
      type: MIDDLEWARE,
      name: "nl-1-edge-redirect",
      set: { "spec.redirectScheme.permanent": undefined },
      says: ["redirectScheme.permanent must be true, got none."],
    },
    {
      stack: "fleet",
      type: ROUTE,
      name: "nl-1-edge-plain",
      set: { "spec.routes.0.services.0": { name: "app", port: 80 } },
      says: ["a route that redirects must serve noop@internal, got Service app."],
    },
  ],
  "route-stays-in-its-namespace": [
    {
      type: INGRESS,
      name: "acme-ingress-ingress",
      set: {
        "metadata.annotations.traefik\\.ingress\\.kubernetes\\.io/router\\.middlewares":
          "tenant-acme-rate-limit@kubernetescrd,tenant-acme-security-headers@kubernetescrd,tenant-other-open@kubernetescrd",
      },
      says: [
        "a reference must stay in namespace tenant-acme, got tenant-other-open@kubernetescrd.",
      ],
    },
    ...[
      "fluxbilling-edge-open@kubernetescrd",
      "fluxbilling-edge-suspended-shut@kubernetescrd",
      "fluxbilling-edge-suspended@file",
      "tenant-other-suspended@kubernetescrd",
    ].map((reference): Mutant => ({
      stack: "suspended tenant",
      type: INGRESS,
      name: "acme-ingress-ingress",
      set: {
        "metadata.annotations.traefik\\.ingress\\.kubernetes\\.io/router\\.middlewares": `tenant-acme-security-headers@kubernetescrd,tenant-acme-rate-limit@kubernetescrd,${reference},fluxbilling-edge-suspended@kubernetescrd`,
      },
      says: [`a reference must stay in namespace tenant-acme, got ${reference}.`],
    })),
    {
      stack: "fleet",
      type: ROUTE,
      name: "nl-1-edge-unknown",
      set: { "spec.routes.0.services.0": { name: "app", namespace: "tenant-other", port: 80 } },
      says: ["a reference must stay in namespace kube-system, got tenant-other/app."],
    },
    {
      stack: "fleet",
      type: ROUTE,
      name: "nl-1-edge-unknown",
      set: { "spec.routes.0.services.0": { kind: "TraefikService", name: "app@file" } },
      says: ["a reference must stay in namespace kube-system, got app@file."],
    },
    mqttRoute(
      { "spec.routes.0.services.0.namespace": "tenant-other" },
      "a reference must stay in namespace tenant-acme, got tenant-other/app.",
    ),
    mqttRoute(
      { "spec.routes.0.middlewares": [{ name: "open", namespace: "tenant-other" }] },
      "a reference must stay in namespace tenant-acme, got tenant-other/open.",
    ),
  ],
  "grant-is-least": [
    {
      type: GRANT,
      name: "acme-database-app-connect",
      set: { privileges: ["CONNECT", "CREATE"] },
      says: ["privileges on a database must be of CONNECT, got CREATE."],
    },
    {
      type: GRANT,
      name: "acme-database-no-public-schema",
      set: { privileges: ["USAGE"] },
      says: ["privileges on a schema must be of none, got USAGE."],
    },
    {
      type: "postgresql:index/defaultPrivileges:DefaultPrivileges",
      name: "acme-database-app-tables",
      set: { privileges: ["SELECT", "TRUNCATE"] },
      says: ["privileges on a table must be of SELECT, INSERT, UPDATE, DELETE, got TRUNCATE."],
    },
    {
      type: GRANT,
      name: "acme-database-app-usage",
      set: { objectType: "function" },
      says: ["objectType must be one of database, schema, table, sequence, got function."],
    },
    {
      type: GRANT,
      name: "acme-database-app-connect",
      set: { withGrantOption: true },
      says: ["withGrantOption must be false, got true."],
    },
  ],
  "backup-key-only-adds": [
    {
      type: BACKUP,
      name: "acme-backup",
      set: { forceCommand: "/bin/sh" },
      says: [
        "forceCommand must be /usr/local/lib/fluxbilling/receive -root <folder> -keep-days <days> -tenant acme, got /bin/sh.",
      ],
    },
    {
      type: BACKUP,
      name: "acme-backup",
      set: { tenant: "other" },
      says: [
        "forceCommand must be /usr/local/lib/fluxbilling/receive -root <folder> -keep-days <days> -tenant other, got /usr/local/lib/fluxbilling/receive -root /var/lib/fluxbilling/backups -keep-days 7 -tenant acme.",
      ],
    },
    {
      type: BACKUP,
      name: "acme-backup",
      set: { sourceAddresses: ["0.0.0.0/0"] },
      says: ["sourceAddresses must be single addresses, at least one, got 0.0.0.0/0."],
    },
    {
      type: BACKUP,
      name: "acme-backup",
      set: { sourceAddresses: undefined },
      says: ["sourceAddresses must be single addresses, at least one, got none."],
    },
    {
      stack: "fleet",
      type: COMMAND,
      name: "store-master-host",
      set: {
        create: "printf '%s\\n' 'cert-authority ssh-ed25519 AAAA' > .ssh/authorized_keys.new",
      },
      says: ["keys must be trusted by cert-authority,restrict alone, got cert-authority."],
    },
    {
      stack: "fleet",
      type: COMMAND,
      name: "store-master-host",
      set: { create: "cat key >> .ssh/authorized_keys" },
      says: ["keys must be trusted by cert-authority,restrict alone, got another line."],
    },
  ],
  "root-key-is-in-no-resource": [
    ...[
      TEST_ROOT_KEY.toString("base64"),
      TEST_ROOT_KEY.toString("hex"),
      TEST_ROOT_KEY.toString("base64url"),
      Buffer.from(TEST_ROOT_KEY.toString("base64")).toString("base64"),
      Buffer.from(TEST_ROOT_KEY.toString("hex")).toString("base64"),
      rootKeyId(TEST_ROOT_KEY),
    ].map((form) => ({
      type: SECRET,
      name: "acme-key-keys",
      set: { "data.extra": form },
      says: ["data.extra must not hold the root key or its id, got one of them."],
      opaque: true,
    })),
  ],
};

/** For every rule about a stack; these messages are whole. */
const STACK_MUTANTS: MutantTable = {
  "namespace-has-default-deny": [
    {
      type: POLICY,
      name: "acme-network-default-deny",
      set: {},
      remove: true,
      says: [
        "acme-namespace: namespace tenant-acme must have a NetworkPolicy that selects every pod and allows nothing either way, got none.",
      ],
    },
    {
      // Another location's, of the same name, is shut: that shuts nothing here.
      stack: "fleet",
      type: POLICY,
      name: "nl-1-page-default-deny",
      remove: true,
      says: [
        "nl-1-page-namespace: namespace fluxbilling-edge must have a NetworkPolicy that selects every pod and allows nothing either way, got none.",
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
  "suspended-is-answered-402": [
    ...(
      [
        [
          "suspended",
          { "spec.chain.middlewares": [{ name: "suspended-visitor" }, { name: "suspended-page" }] },
          "chain.middlewares must be suspended-visitor, suspended-page, suspended-shut, got suspended-visitor, suspended-page.",
        ],
        [
          "suspended",
          {
            "spec.chain.middlewares.1.name": "suspended-shut",
            "spec.chain.middlewares.2.name": "suspended-page",
          },
          "chain.middlewares must be suspended-visitor, suspended-page, suspended-shut, got suspended-visitor, suspended-shut, suspended-page.",
        ],
        [
          "suspended",
          { "spec.chain.middlewares.2.namespace": "tenant-acme" },
          "chain.middlewares must be suspended-visitor, suspended-page, suspended-shut, got suspended-visitor, suspended-page, tenant-acme/suspended-shut.",
        ],
        [
          "suspended-visitor",
          { "spec.headers.customRequestHeaders.Cookie": undefined },
          "headers.customRequestHeaders.Cookie must be empty, got none.",
        ],
        [
          "suspended-page",
          { "spec.errors.status": ["402", "500-599"] },
          "errors.status must be 402, got 402, 500-599.",
        ],
        [
          "suspended-page",
          { "spec.errors.statusRewrites": { "402": 200 } },
          "errors.statusRewrites must be none, got an object.",
        ],
        [
          "suspended-page",
          { "spec.errors.service": { name: "app", namespace: "tenant-acme", port: "http" } },
          "errors.service must be suspended-page, got tenant-acme/app.",
        ],
        [
          "suspended-page",
          { "spec.errors.service": { kind: "TraefikService", name: "suspended-page" } },
          "errors.service must be suspended-page, got TraefikService/suspended-page.",
        ],
        [
          "suspended-shut",
          { "spec.ipAllowList.sourceRange": ["0.0.0.0/0"] },
          "ipAllowList.sourceRange must be 255.255.255.255/32, got 0.0.0.0/0.",
        ],
        [
          "suspended-shut",
          { "spec.ipAllowList.rejectStatusCode": undefined },
          "ipAllowList.rejectStatusCode must be 402, got none.",
        ],
        [
          "suspended-shut",
          { "spec.ipAllowList.ipStrategy": { depth: 1 } },
          "ipAllowList.ipStrategy must be none, got an object.",
        ],
      ] as const
    ).map(([name, set, fault]): Mutant => ({
      stack: "fleet",
      type: MIDDLEWARE,
      name: `nl-1-page-${name}`,
      set,
      says: [`nl-1-page-${name}: ${fault}`],
    })),
    {
      stack: "suspended tenant",
      type: INGRESS,
      name: "acme-ingress-ingress",
      set: {
        "metadata.annotations.traefik\\.ingress\\.kubernetes\\.io/router\\.middlewares":
          "tenant-acme-security-headers@kubernetescrd,tenant-acme-rate-limit@kubernetescrd",
      },
      says: [
        "acme-ingress-ingress: annotation traefik.ingress.kubernetes.io/router.middlewares of a tenant without pods must end with fluxbilling-edge-suspended@kubernetescrd, got tenant-acme-security-headers@kubernetescrd,tenant-acme-rate-limit@kubernetescrd.",
      ],
    },
    {
      // An answer of its own before the security headers would be without them.
      stack: "suspended tenant",
      type: INGRESS,
      name: "acme-ingress-ingress",
      set: {
        "metadata.annotations.traefik\\.ingress\\.kubernetes\\.io/router\\.middlewares":
          "fluxbilling-edge-suspended@kubernetescrd,tenant-acme-security-headers@kubernetescrd",
      },
      says: [
        "acme-ingress-ingress: annotation traefik.ingress.kubernetes.io/router.middlewares of a tenant without pods must end with fluxbilling-edge-suspended@kubernetescrd, got fluxbilling-edge-suspended@kubernetescrd,tenant-acme-security-headers@kubernetescrd.",
      ],
    },
    {
      type: INGRESS,
      name: "acme-ingress-ingress",
      set: {
        "metadata.annotations.traefik\\.ingress\\.kubernetes\\.io/router\\.middlewares":
          "tenant-acme-security-headers@kubernetescrd,fluxbilling-edge-suspended@kubernetescrd",
      },
      says: [
        "acme-ingress-ingress: annotation traefik.ingress.kubernetes.io/router.middlewares of a tenant with pods must not name fluxbilling-edge-suspended@kubernetescrd, got tenant-acme-security-headers@kubernetescrd,fluxbilling-edge-suspended@kubernetescrd.",
      ],
    },
    {
      type: DEPLOYMENT,
      name: "acme-app-deployment",
      set: { "spec.replicas": 0 },
      says: [
        "acme-ingress-ingress: annotation traefik.ingress.kubernetes.io/router.middlewares of a tenant without pods must end with fluxbilling-edge-suspended@kubernetescrd, got tenant-acme-security-headers@kubernetescrd,tenant-acme-rate-limit@kubernetescrd.",
      ],
    },
  ],
  "system-namespace-is-shut": [
    {
      stack: "fleet",
      type: POLICY,
      name: "nl-1-system-default-deny",
      remove: true,
      says: [SYSTEM_OPEN],
    },
    {
      stack: "fleet",
      type: POLICY,
      name: "nl-1-system-default-deny",
      set: { "spec.policyTypes": ["Ingress"] },
      says: [SYSTEM_OPEN],
    },
    {
      stack: "fleet",
      type: POLICY,
      name: "nl-1-system-default-deny",
      set: { "metadata.namespace": "default" },
      says: [SYSTEM_OPEN],
    },
  ],
  "files-lie-on-encrypted-volumes": [
    {
      type: CLAIM,
      name: "acme-app-files",
      set: { "spec.storageClassName": "local-path" },
      says: ["acme-app-files: storageClassName must be encrypted, got local-path."],
    },
    {
      type: CLAIM,
      name: "acme-app-files",
      set: { "spec.storageClassName": undefined },
      says: ["acme-app-files: storageClassName must be encrypted, got none."],
    },
    {
      type: DEPLOYMENT,
      name: "acme-app-deployment",
      set: {
        [`${POD}.volumes.0.ephemeral`]: {
          volumeClaimTemplate: { spec: { storageClassName: "local-path" } },
        },
      },
      says: ["acme-app-deployment: storageClassName must be encrypted, got local-path."],
    },
    {
      stack: "fleet",
      type: STORAGE_CLASS,
      name: "nl-1-storage-class",
      set: { "metadata.name": "fast" },
      says: ["nl-1-storage-class: a StorageClass must be called encrypted, got fast."],
    },
    {
      stack: "fleet",
      add: storageClass({ nodePath: "/srv/volumes" }),
      says: [
        "fast: a StorageClass must be called encrypted, got fast.",
        "fast: parameters.nodePath must lie in a folder that is proved encrypted, got /srv/volumes.",
      ],
    },
    {
      stack: "fleet",
      add: storageClass({
        nodePath: "/var/lib/postgresql",
        pathPattern: "../../../srv/{{ .PVName }}",
      }),
      says: [
        "fast: a StorageClass must be called encrypted, got fast.",
        "fast: parameters must hold nodePath alone, got pathPattern too.",
      ],
    },
  ],
  "host-artefacts-are-pinned": [
    {
      stack: "host",
      type: HOST,
      name: "nl-1",
      set: { "k3s.url": "http://mirror.test/k3s" },
      says: [
        "nl-1: k3s.url must be an https address of a file, of plain characters, without a user or a query, got http://mirror.test/k3s.",
        `nl-1-k3s: create must install what nl-1 says, got "${K3S_COMMAND}".`,
        `nl-1-k3s: update must install what nl-1 says, got "${K3S_COMMAND}".`,
      ],
    },
    {
      stack: "host",
      type: HOST,
      name: "nl-1",
      set: { "k3s.digest": "latest" },
      says: ["nl-1: k3s.digest must be sha256:<64 hexadecimal digits>, got latest."],
      andMore: true,
    },
    {
      stack: "host",
      type: HOST,
      name: "nl-1",
      set: { "k3s.images.digest": undefined },
      says: ["nl-1: k3s.images.digest must be sha256:<64 hexadecimal digits>, got none."],
      andMore: true,
    },
    {
      stack: "host",
      type: HOST,
      name: "nl-1",
      set: { "postgresql.version": "15" },
      says: [
        "nl-1: postgresql.version must be the exact version of Debian's package of PostgreSQL 15 or later, with Debian's own +deb<release>u<number>, as in 15.18-0+deb12u1, got 15.",
      ],
      andMore: true,
    },
    {
      stack: "host",
      type: HOST,
      name: "nl-1",
      set: { "postgresql.version": "15.18-1.pgdg120+1" },
      says: [
        "nl-1: postgresql.version must be the exact version of Debian's package of PostgreSQL 15 or later, with Debian's own +deb<release>u<number>, as in 15.18-0+deb12u1, got 15.18-1.pgdg120+1.",
      ],
      andMore: true,
    },
    {
      stack: "host",
      type: COMMAND,
      name: "nl-1-k3s",
      set: { create: "curl -sfL https://get.k3s.io | sh" },
      says: [
        'nl-1-k3s: create must install what nl-1 says, got "curl -sfL https://get.k3s.io | sh".',
      ],
    },
    {
      stack: "host",
      type: COMMAND,
      name: "nl-1-postgresql",
      set: { update: "apt-get install postgresql" },
      says: [
        'nl-1-postgresql: update must install what nl-1 says, got "apt-get install postgresql".',
      ],
    },
    {
      stack: "host",
      type: COMMAND,
      name: "nl-1-k3s",
      remove: true,
      says: ["nl-1: exactly one command must install k3s, got 0."],
    },
  ],
  "host-proves-its-encryption": [
    {
      stack: "host",
      type: STORAGE,
      name: "nl-1-storage",
      remove: true,
      says: ["nl-1: its storage must be proved encrypted, got no proof."],
    },
    {
      stack: "host",
      type: STORAGE,
      name: "nl-1-storage",
      set: { folders: ["/var/lib/rancher", "/var/lib/kubelet", "/var/log"] },
      says: [
        "nl-1: its folder /var/lib/postgresql must be among those that are proved, got /var/lib/rancher, /var/lib/kubelet, /var/log.",
        'nl-1-storage-check: its command must check the folders that it stands for, got "sh -s check /var/lib/rancher /var/lib/kubelet /var/lib/postgresql /var/log".',
      ],
    },
    {
      stack: "host",
      type: HOST,
      name: "nl-1",
      set: { folders: ["/srv/data"] },
      says: [
        "nl-1: its folder /srv/data must be among those that are proved, got /var/lib/rancher, /var/lib/kubelet, /var/lib/postgresql, /var/log.",
      ],
    },
    {
      stack: "host",
      type: COMMAND,
      name: "nl-1-storage-check",
      set: { update: "true" },
      says: [
        'nl-1-storage-check: its command must check the folders that it stands for, got "true".',
      ],
    },
    {
      stack: "fleet",
      type: STORAGE,
      name: "nl-1-storage",
      remove: true,
      says: ["nl-1: its storage must be proved encrypted, got no proof."],
    },
    {
      stack: "fleet",
      type: STORAGE,
      name: "fi-1-storage",
      set: { address: "10.77.0.21" },
      says: [
        "fi-1: the host that proves its storage must be its own, 10.77.0.31, got 10.77.0.21.",
        "fi-1-storage-check: it must ask 10.77.0.21, got 10.77.0.31.",
      ],
    },
    {
      stack: "fleet",
      type: STORAGE,
      name: "store-master-storage",
      set: { folders: ["/etc"] },
      says: [
        "store-master: its folder /var/lib/fluxbilling/backups must be among those that are proved, got /etc.",
        'store-master-storage-check: its command must check the folders that it stands for, got "sh -s check /var/lib/fluxbilling/backups".',
      ],
    },
    {
      stack: "fleet",
      type: STORAGE,
      name: "store-master-storage",
      set: { folders: [] },
      says: [
        "store-master: its folder /var/lib/fluxbilling/backups must be among those that are proved, got none.",
        'store-master-storage-check: its command must check the folders that it stands for, got "sh -s check /var/lib/fluxbilling/backups".',
      ],
    },
    {
      stack: "fleet",
      type: COMMAND,
      name: "master-storage-check",
      set: { create: "true" },
      says: [
        'master-storage-check: its command must check the folders that it stands for, got "true".',
      ],
    },
    {
      stack: "fleet",
      type: COMMAND,
      name: "master-storage-check",
      set: { "connection.host": "10.77.0.11" },
      says: ["master-storage-check: it must ask 10.77.0.10, got 10.77.0.11."],
    },
    {
      stack: "fleet",
      type: COMMAND,
      name: "nl-1-storage-check",
      remove: true,
      says: ["nl-1-storage: exactly one command must prove it, got 0."],
    },
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
      stack: "fleet",
      type: GRANT,
      name: "nl-1-server-no-public-template1",
      remove: true,
      says: [
        "nl-1-server: the shipped database template1 must have a Grant that leaves PUBLIC nothing, got none.",
      ],
    },
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
  "host-is-the-tenants-own": [
    {
      type: INGRESS,
      name: "acme-ingress-ingress",
      set: {
        "spec.rules.0.host": "other.tenants.test",
        "spec.tls.0.hosts.0": "other.tenants.test",
      },
      says: [
        "acme-ingress-ingress: host must begin with acme., got other.tenants.test.",
        "acme-ingress-ingress: host must begin with acme., got other.tenants.test.",
      ],
    },
    {
      add: {
        type: ROUTE,
        name: "acme-route",
        props: {
          metadata: tenantMetadata("route"),
          spec: {
            entryPoints: ["websecure"],
            routes: [
              {
                kind: "Rule",
                match: "Host(`acme.tenants.test`) || Host(`other.tenants.test`)",
                middlewares: [{ name: "security-headers" }, { name: "rate-limit" }],
                services: [{ kind: "TraefikService", name: "noop@internal" }],
              },
            ],
            tls: {},
          },
        },
        provider: "nl-1-cluster",
      },
      says: [
        "acme-route: match must be one host that begins with acme., got Host(`acme.tenants.test`) || Host(`other.tenants.test`).",
      ],
    },
    ...[
      "HostSNI(`other.tenants.test`)",
      "HostSNI(`*`)",
      "HostSNI(`acme.tenants.test`) || HostSNI(`other.tenants.test`)",
    ].map((match) =>
      mqttRoute(
        { "spec.routes.0.match": match },
        `acme-ingress-mqtt: match must be one host that begins with acme., got ${match}.`,
      ),
    ),
  ],
  "tcp-route-is-a-tenants-mqtt": [
    mqttRoute(
      { "spec.routes.0.services.0.port": "http" },
      "acme-ingress-mqtt: it must lead to port mqtt of a Service, which is 1883 of its pods, got http.",
    ),
    mqttRoute(
      { "spec.routes.0.services.0.name": "other" },
      "acme-ingress-mqtt: it must lead to port mqtt of a Service, which is 1883 of its pods, got none.",
    ),
    {
      stack: "full tenant",
      type: SERVICE,
      name: "acme-app-service",
      set: { "spec.ports.1.targetPort": 8080 },
      says: [
        "acme-ingress-mqtt: it must lead to port mqtt of a Service, which is 1883 of its pods, got 8080.",
      ],
    },
    ...(
      [
        ["tenant", "tenant-acme", "nl-1-cluster"],
        ["suspended tenant", "tenant-acme", "nl-1-cluster"],
        ["fleet", "kube-system", "nl-1-cluster"],
      ] as const
    ).map(([stack, namespace, provider]) => ({
      stack,
      add: foreignTcpRoute(namespace, provider),
      says: [
        "by-hand: a TCP route must be of a tenant that speaks MQTT, got one of no such tenant.",
      ],
    })),
  ],
  "replay-reaches-nothing": [
    replay(
      { "spec.suspend": undefined },
      "a replay must be a CronJob with suspend true, got a CronJob with none.",
    ),
    replay(
      { "pod.metadata.labels.app\\.kubernetes\\.io/component": "app" },
      "label app.kubernetes.io/component of its pods must be replay, got app.",
      "no policy that allows anything may select its pods, got acme-network-allow-app.",
    ),
    {
      stack: "full tenant",
      type: POLICY,
      name: "acme-network-allow-backup",
      set: {
        "spec.podSelector": {
          matchExpressions: [
            { key: "app.kubernetes.io/component", operator: "In", values: ["backup", "replay"] },
          ],
        },
      },
      says: [
        "acme-replay-job: no policy that allows anything may select its pods, got acme-network-allow-backup.",
      ],
    },
    replay(
      { "pod.spec.volumes.0": { name: "files", configMap: { name: "settings" } } },
      "its volumes must be persistentVolumeClaim or emptyDir, got configMap.",
    ),
    replay(
      { "pod.spec.volumes.1": { name: "temporary", secret: { secretName: "keys-1-1" } } },
      "its volumes must be persistentVolumeClaim or emptyDir, got secret.",
      "container replay must mount temporary readOnly true, got none.",
    ),
    replay(
      { "pod.spec.volumes.2": { name: "token", projected: { sources: [] } } },
      "its volumes must be persistentVolumeClaim or emptyDir, got projected.",
    ),
    replay(
      { "pod.spec.containers.0.volumeMounts.0.readOnly": undefined },
      "container replay must mount files readOnly true, got none.",
    ),
    replay(
      { "pod.spec.containers.0.volumeDevices": [{ name: "files", devicePath: "/dev/files" }] },
      "container replay must have no device, got one.",
    ),
    replay(
      { "pod.spec.containers.0.env.0.valueFrom": { secretKeyRef: { name: "keys-1-1" } } },
      "container replay must get its variables as plain values, got TENANT from elsewhere.",
    ),
    replay(
      { "pod.spec.containers.0.envFrom": [{ secretRef: { name: "keys-1-1" } }] },
      "container replay must get its variables as plain values, got envFrom.",
    ),
    {
      stack: "full tenant",
      type: DEPLOYMENT,
      name: "acme-app-deployment",
      set: { "metadata.labels.app\\.kubernetes\\.io/component": "replay" },
      says: [
        "acme-app-deployment: a replay must be a CronJob with suspend true, got a Deployment with none.",
      ],
      andMore: true,
    },
  ],
  "image-from-an-allowed-registry": [
    {
      type: DEPLOYMENT,
      name: "acme-app-deployment",
      set: { [`${CONTAINER}.image`]: `elsewhere.test/app@sha256:${"3".repeat(64)}` },
      says: [
        `acme-app-deployment: the image of container app must come from registry.test, registry.panels.test, got elsewhere.test/app@sha256:${"3".repeat(64)}.`,
      ],
    },
    {
      type: TENANT,
      name: "acme",
      set: { imageRegistries: undefined },
      says: [
        `acme-app-deployment: the image of container app must come from a registry that the fleet names, got registry.test/fluxbilling/tenant-app@sha256:${"1".repeat(64)}.`,
        `acme-backup-job: the image of container backup must come from a registry that the fleet names, got registry.test/fluxbilling/backup@sha256:${"2".repeat(64)}.`,
      ],
    },
  ],
  "login-owns-nothing": [
    {
      type: SCHEMA,
      name: "acme-database-schema",
      set: { owner: "app_acme" },
      says: [
        "acme-database-schema: owner must be a role of this stack without login, got app_acme, which logs in.",
      ],
    },
    {
      type: ROLE,
      name: "acme-database-owner",
      set: { login: true, connectionLimit: 1 },
      says: [
        "acme-database-schema: owner must be a role of this stack without login, got owner_acme, which logs in.",
        "acme-database-app-tables: owner must be a role of this stack without login, got owner_acme, which logs in.",
        "acme-database-app-sequences: owner must be a role of this stack without login, got owner_acme, which logs in.",
      ],
    },
  ],
  "network-policy-selects-a-pod": [
    {
      type: POLICY,
      name: "acme-network-allow-app",
      set: { "spec.podSelector.matchLabels": { "app.kubernetes.io/component": "web" } },
      says: [
        "acme-network-allow-app: podSelector must select a pod of namespace tenant-acme, got app.kubernetes.io/component=web for no pod.",
      ],
    },
    {
      type: DEPLOYMENT,
      name: "acme-app-deployment",
      set: { "spec.template.metadata.labels": { app: "web" } },
      says: [
        "acme-network-allow-app: podSelector must select a pod of namespace tenant-acme, got app.kubernetes.io/component=app for no pod.",
      ],
    },
  ],
  "no-exception-has-ended": [
    {
      add: exception({ endDate: "2020-01-01" }),
      says: [
        "exception of acme from image-by-digest: endDate must not have passed, got 2020-01-01.",
      ],
    },
    {
      add: exception({ endDate: "2999-01-01" }),
      says: [
        "exception of acme from image-by-digest: endDate must be at most 90 days ahead, got 2999-01-01.",
      ],
    },
    {
      add: exception({ endDate: "soon" }),
      says: [
        "exception of acme from image-by-digest: endDate must be a day, YYYY-MM-DD, got soon.",
      ],
    },
    {
      add: exception({ approver: " ", endDate: tomorrow() }),
      says: ["exception of acme from image-by-digest: approver must be given, got none."],
    },
  ],
  "no-key-literal": [
    ...(
      [
        ["-----BEGIN OPENSSH PRIVATE KEY-----", "a private key"],
        ["postgres://app:hunter2@10.0.0.1/x", "a password in an address"],
        ["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhY21lIn0.x", "a signed token"],
        ["AKIAIOSFODNN7EXAMPLE", "an access key"],
        [Buffer.alloc(32, 7).toString("base64"), "32 bytes in base64"],
        ["07".repeat(32), "32 bytes in hexadecimal"],
      ] as const
    ).map(([value, what]) => ({
      type: DEPLOYMENT,
      name: "acme-app-deployment",
      set: { [`${CONTAINER}.env.0`]: { name: "SETTING", value } },
      says: [
        `acme-app-deployment: spec.template.spec.containers.0.env.0.value must hold no secret, got ${what}.`,
      ],
    })),
    {
      stack: "fleet",
      type: COMMAND,
      name: "store-master-host",
      set: { create: "echo postgres://app:hunter2@10.0.0.1/x" },
      says: ["store-master-host: create must hold no secret, got a password in an address."],
    },
    {
      add: {
        type: "kubernetes:core/v1:ConfigMap",
        name: "settings",
        props: { data: { shade: Buffer.alloc(32, 7).toString("base64") } },
      },
      says: ["settings: data.shade must hold no secret, got 32 bytes in base64."],
    },
    {
      add: {
        type: "pulumi:pulumi:Stack",
        name: "outputs",
        props: { answer: "-----BEGIN PRIVATE KEY-----" },
      },
      says: ["outputs: answer must hold no secret, got a private key."],
    },
  ],
  "tenant-fits-its-plan": [
    {
      type: TENANT,
      name: "acme",
      set: { plan: "gold" },
      says: ["acme: plan must be one of lite, standard, business, got gold."],
    },
    {
      type: NAMESPACE,
      name: "acme-namespace",
      set: { "metadata.labels.fluxbilling\\.dev/plan": "business" },
      says: ["acme-namespace: label fluxbilling.dev/plan must be lite, got business."],
    },
    {
      type: QUOTA,
      name: "acme-quota",
      set: { "spec.hard.pods": "100" },
      says: ["acme-quota: spec.hard.pods must be 3, got 100."],
    },
    {
      type: QUOTA,
      name: "acme-quota",
      set: { "spec.hard.services\\.nodeports": undefined },
      says: ["acme-quota: spec.hard.services.nodeports must be 0, got none."],
    },
    {
      type: QUOTA,
      name: "acme-quota",
      set: { "spec.scopes": ["BestEffort"] },
      says: ["acme-quota: spec.scopes must be none, got BestEffort."],
    },
    {
      type: QUOTA,
      name: "acme-quota",
      set: { "spec.scopeSelector": { matchExpressions: [] } },
      says: ["acme-quota: spec.scopeSelector must be none, got an object."],
    },
    {
      type: LIMITS,
      name: "acme-limits",
      set: { "spec.limits.0.default.memory": "8Gi" },
      says: ["acme-limits: the default limit of memory must be 128Mi, got 8Gi."],
    },
    {
      type: DEPLOYMENT,
      name: "acme-app-deployment",
      set: { "spec.replicas": 5 },
      says: ["acme-app-deployment: spec.replicas must be 1, got 5."],
    },
    {
      type: DEPLOYMENT,
      name: "acme-app-deployment",
      set: { [`${CONTAINER}.resources.limits.cpu`]: undefined },
      says: ["acme-app-deployment: container app's cpu limit must be 250m, got none."],
    },
    {
      stack: "full tenant",
      type: QUOTA,
      name: "acme-quota",
      set: { "spec.hard.pods": "3" },
      says: ["acme-quota: spec.hard.pods must be 4, got 3."],
    },
    {
      stack: "full tenant",
      type: TENANT,
      name: "acme",
      set: { replay: undefined },
      says: ["acme-quota: spec.hard.requests.cpu must be 240m, got 260m."],
      andMore: true,
    },
    replay(
      { "pod.spec.containers.0.resources.limits.memory": "1Gi" },
      "container replay's memory limit must be 128Mi, got 1Gi.",
    ),
    ...(
      [
        ["DATA_RETENTION_DAYS", "90", "7"],
        ["EXECUTIONS_PER_MONTH", "500000", "1000"],
        ["REPLAYS_PER_MONTH", undefined, "100"],
      ] as const
    ).map(([variable, got, expected]) => ({
      type: DEPLOYMENT,
      name: "acme-app-deployment",
      set: { [`${CONTAINER}.env.${variable}`]: got },
      says: [
        `acme-app-deployment: variable ${variable} must be ${expected}, got ${got ?? "none"}.`,
      ],
    })),
    {
      type: ROLE,
      name: "acme-database-app",
      set: { connectionLimit: 1000 },
      says: ["acme-database-app: connectionLimit must be 10, got 1000."],
    },
    {
      type: ROLE,
      name: "acme-database-app",
      set: { statementTimeout: undefined },
      says: ["acme-database-app: statementTimeout must be 15000, got none."],
    },
    {
      type: DATABASE,
      name: "acme-database-database",
      set: { connectionLimit: -1 },
      says: ["acme-database-database: connectionLimit must be 12, got -1."],
    },
    {
      type: MIDDLEWARE,
      name: "acme-ingress-rate-limit",
      set: { "spec.rateLimit.average": 0 },
      says: ["acme-ingress-rate-limit: rateLimit.average must be 20, got 0."],
    },
  ],
  "tenant-holds-tenant-types": [
    {
      add: { type: COMMAND, name: "script", props: goodCommand() },
      says: [
        "script: the stack of tenant acme must hold only a tenant's types, got command:remote:Command.",
      ],
    },
    {
      add: { type: HOST, name: "host", props: { location: "nl-1" } },
      says: [
        "host: the stack of tenant acme must hold only a tenant's types, got fluxbilling:host:PreparedHost.",
      ],
    },
    {
      add: {
        type: "kubernetes:rbac.authorization.k8s.io/v1:Role",
        name: "reader",
        props: { metadata: tenantMetadata("reader"), rules: [] },
        provider: "nl-1-cluster",
      },
      says: [
        "reader: the stack of tenant acme must hold only a tenant's types, got kubernetes:rbac.authorization.k8s.io/v1:Role.",
      ],
    },
  ],
  "tenant-is-backed-up-daily": [
    {
      type: CRON_JOB,
      name: "acme-backup-job",
      set: { "spec.schedule": "0 3 * * 0" },
      says: ["acme-backup-job: schedule must be once a day, <minute> <hour> * * *, got 0 3 * * 0."],
    },
    {
      type: CRON_JOB,
      name: "acme-backup-job",
      set: { "spec.timeZone": undefined },
      says: ["acme-backup-job: timeZone must be Etc/UTC, got none."],
    },
    {
      type: CRON_JOB,
      name: "acme-backup-job",
      set: { "spec.suspend": true },
      says: ["acme-backup-job: suspend must be false, got true."],
    },
    {
      type: CRON_JOB,
      name: "acme-backup-job",
      set: { "spec.concurrencyPolicy": "Allow" },
      says: ["acme-backup-job: concurrencyPolicy must be Forbid, got Allow."],
    },
    {
      type: CRON_JOB,
      name: "acme-backup-job",
      set: { "metadata.labels.app\\.kubernetes\\.io/component": "report" },
      says: ["acme: a CronJob with app.kubernetes.io/component backup must exist, got none."],
    },
    {
      stack: "full tenant",
      type: CRON_JOB,
      name: "acme-backup-job",
      remove: true,
      says: ["acme: a CronJob with app.kubernetes.io/component backup must exist, got none."],
    },
    ...(
      [
        ["DATABASE_NAME", "tenant_other", "tenant_acme"],
        ["DATABASE_USER", "app_acme", "backup_acme"],
        ["STORE_HOST_KEY", "any", "the store's ssh-ed25519 host key"],
      ] as const
    ).map(([variable, value, rule]) => ({
      type: CRON_JOB,
      name: "acme-backup-job",
      set: { [`${JOB_ENV}.${variable}`]: value },
      says: [`acme-backup-job: ${variable} must be ${rule}, got ${value}.`],
    })),
  ],
  "backup-is-kept-as-the-plan-says": [
    ...(
      [
        ["-keep-days 3", "3"],
        ["-keep-days 8", "8"],
        ["", "none"],
      ] as const
    ).map(([kept, got]) => ({
      type: BACKUP,
      name: "acme-backup",
      set: {
        forceCommand: `/usr/local/lib/fluxbilling/receive -root /var/lib/fluxbilling/backups ${kept} -tenant acme`,
      },
      says: [`acme-backup: forceCommand must keep dumps for 7 days, -keep-days 7, got ${got}.`],
    })),
  ],
  "tenant-is-whole": [
    ...(
      [
        [NAMESPACE, "acme-namespace", "a namespace"],
        [DATABASE, "acme-database-database", "a database"],
        [QUOTA, "acme-quota", "a quota"],
        [LIMITS, "acme-limits", "limits for containers"],
        ["kubernetes:core/v1:PersistentVolumeClaim", "acme-app-files", "a volume"],
        [DEPLOYMENT, "acme-app-deployment", "an application"],
        [CRON_JOB, "acme-backup-job", "a backup job"],
        [SECRET, "acme-key-keys", "a Secret with its keys"],
        [MIDDLEWARE, "acme-ingress-security-headers", "security headers"],
        [MIDDLEWARE, "acme-ingress-rate-limit", "a limit of requests"],
        [INGRESS, "acme-ingress-ingress", "a way in"],
      ] as const
    ).map(([type, name, part]) => ({
      type,
      name,
      remove: true,
      says: [`acme: tenant acme must have ${part}, got none.`],
    })),
    ...(
      [
        // A replay is no backup, a way in over TCP none over HTTP.
        [CRON_JOB, "acme-backup-job", "a backup job"],
        [INGRESS, "acme-ingress-ingress", "a way in"],
        [CRON_JOB, "acme-replay-job", "a replay"],
        [TCP_ROUTE, "acme-ingress-mqtt", "a way in for MQTT"],
      ] as const
    ).map(([type, name, part]) => ({
      stack: "full tenant" as const,
      type,
      name,
      remove: true,
      says: [`acme: tenant acme must have ${part}, got none.`],
    })),
    {
      type: TENANT,
      name: "acme",
      set: { tenant: "Acme!" },
      // Of the objects without a tenant the first one is enough here.
      says: [
        "acme: tenant must be 2 to 40 small letters, digits and single hyphens, start with a letter and end with a letter or digit, got Acme!.",
        "acme-namespace: what names a tenant must belong to a Tenant of its stack, got acme.",
      ],
      andMore: true,
    },
    {
      type: TENANT,
      name: "acme",
      remove: true,
      says: ["acme-namespace: what names a tenant must belong to a Tenant of its stack, got acme."],
      andMore: true,
    },
  ],
  "tenant-objects-are-its-own": [
    {
      type: SERVICE,
      name: "acme-app-service",
      set: { "metadata.namespace": "tenant-other" },
      says: ["acme-app-service: namespace must be tenant-acme, got tenant-other."],
    },
    {
      type: NAMESPACE,
      name: "acme-namespace",
      set: { "metadata.name": "tenant-acme2" },
      says: ["acme-namespace: namespace must be tenant-acme, got tenant-acme2."],
    },
    ...["tenant", "zone", "location"].map((label) => ({
      type: SERVICE,
      name: "acme-app-service",
      set: { [`metadata.labels.fluxbilling\\.dev/${label}`]: "other" },
      says: [
        `acme-app-service: label fluxbilling.dev/${label} must be ${{ tenant: "acme", zone: "eu", location: "nl-1" }[label] ?? ""}, got other.`,
      ],
    })),
  ],
  "tenant-reaches-only-its-own": [
    {
      type: POLICY,
      name: "acme-network-allow-app",
      set: { "spec.egress.2.ports.1.port": 636 },
      says: [
        "acme-network-allow-app: egress to the outer world must use TCP/443, TCP/587, got TCP/443, TCP/636.",
      ],
    },
    {
      stack: "suspended tenant",
      type: TENANT,
      name: "acme",
      set: { "identityKinds.0": "oidc" },
      says: [
        "acme-network-allow-app: egress to the outer world must use TCP/443, TCP/587, got TCP/443, TCP/587, TCP/636.",
      ],
    },
    {
      stack: "suspended tenant",
      type: POLICY,
      name: "acme-network-allow-app",
      set: { "spec.egress.2.ports.2.port": 389 },
      says: [
        "acme-network-allow-app: egress to the outer world must use TCP/443, TCP/587, TCP/636, got TCP/443, TCP/587, TCP/389.",
      ],
    },
    {
      type: POLICY,
      name: "acme-network-allow-app",
      set: { "spec.egress.1.to.0.ipBlock.cidr": "10.77.0.31/32" },
      says: ["acme-network-allow-app: egress to must be the tenant's own, got 10.77.0.31/32."],
    },
    {
      type: POLICY,
      name: "acme-network-allow-app",
      set: { "spec.egress.1.ports.0.port": 6443 },
      says: [
        "acme-network-allow-app: egress to its service at 10.77.0.21 must use TCP/5432, got TCP/6443.",
      ],
    },
    {
      type: POLICY,
      name: "acme-network-allow-app",
      set: { "spec.egress.1.ports.0.endPort": 65535 },
      says: [
        "acme-network-allow-app: egress to its service at 10.77.0.21 must use TCP/5432, got TCP/5432-65535.",
      ],
    },
    {
      type: POLICY,
      name: "acme-network-allow-app",
      set: { "spec.egress.2.ports.1.port": 25 },
      says: [
        "acme-network-allow-app: egress to the outer world must use TCP/443, TCP/587, got TCP/443, TCP/25.",
      ],
    },
    {
      type: POLICY,
      name: "acme-network-allow-app",
      set: { "spec.egress.0.to.0.podSelector.matchLabels": { "k8s-app": "metrics-server" } },
      says: [
        "acme-network-allow-app: egress to must be the tenant's own, got pods k8s-app=metrics-server of namespaces kubernetes.io/metadata.name=kube-system.",
      ],
    },
    {
      type: POLICY,
      name: "acme-network-allow-app",
      set: { "spec.ingress.0.ports": undefined },
      says: ["acme-network-allow-app: ingress from the ingress must use TCP/8080, got every port."],
    },
    {
      type: POLICY,
      name: "acme-network-allow-app",
      set: { "spec.ingress.0.ports.0.port": 1883 },
      says: ["acme-network-allow-app: ingress from the ingress must use TCP/8080, got TCP/1883."],
    },
    {
      stack: "full tenant",
      type: TENANT,
      name: "acme",
      set: { mqtt: false },
      says: [
        "acme-network-allow-app: ingress from the ingress must use TCP/8080, got TCP/8080, TCP/1883.",
      ],
    },
    {
      stack: "full tenant",
      type: POLICY,
      name: "acme-network-allow-app",
      set: { "spec.ingress.0.ports.1.port": 1884 },
      says: [
        "acme-network-allow-app: ingress from the ingress must use TCP/8080, TCP/1883, got TCP/8080, TCP/1884.",
      ],
    },
    {
      stack: "full tenant",
      type: POLICY,
      name: "acme-network-allow-app",
      set: { "spec.ingress.0.from": [{ ipBlock: { cidr: "10.77.0.21/32" } }] },
      says: ["acme-network-allow-app: ingress from must be the tenant's own, got 10.77.0.21/32."],
    },
    {
      type: POLICY,
      name: "acme-network-allow-backup",
      set: { "spec.egress.1.to.0.ipBlock.cidr": "10.42.0.7/32" },
      says: ["acme-network-allow-backup: egress to must be the tenant's own, got 10.42.0.7/32."],
    },
    {
      type: POLICY,
      name: "acme-network-default-deny",
      set: { "spec.ingress": [{}] },
      says: ["acme-network-default-deny: ingress from must be the tenant's own, got everyone."],
    },
  ],
  "tenant-roles-are-its-own": [
    {
      type: ROLE,
      name: "acme-database-app",
      set: { name: "app_other" },
      says: [
        "acme-database-app: name must be one of tenant_acme, owner_acme, app_acme, backup_acme, got app_other.",
      ],
    },
    {
      type: ROLE,
      name: "acme-database-app",
      set: { roles: ["tenant_acme", "tenant_other"] },
      says: ["acme-database-app: roles must be the tenant's own, got tenant_other."],
    },
    {
      type: DATABASE,
      name: "acme-database-database",
      set: { name: "tenant_other" },
      says: ["acme-database-database: name must be tenant_acme, got tenant_other."],
    },
    {
      type: GRANT,
      name: "acme-database-app-connect",
      set: { database: "tenant_other" },
      says: ["acme-database-app-connect: database must be tenant_acme, got tenant_other."],
    },
    {
      type: GRANT,
      name: "acme-database-app-connect",
      set: { role: "app_other" },
      says: ["acme-database-app-connect: a role must be the tenant's own, got app_other."],
    },
    {
      type: SCHEMA,
      name: "acme-database-schema",
      set: { owner: "owner_other" },
      says: ["acme-database-schema: a role must be the tenant's own, got owner_other."],
    },
  ],
  "tenant-uses-its-locations-providers": [
    {
      type: SERVICE,
      name: "acme-app-service",
      provider: "fi-1-cluster",
      says: ["acme-app-service: provider must be nl-1-cluster, got fi-1-cluster."],
    },
    {
      type: DATABASE,
      name: "acme-database-database",
      provider: "fi-1-server",
      says: ["acme-database-database: provider must be nl-1-server, got fi-1-server."],
    },
    {
      type: "pulumi:providers:kubernetes",
      name: "nl-1-cluster",
      set: { clusterIdentifier: "fi-1" },
      says: ["nl-1-cluster: clusterIdentifier must be nl-1, got fi-1."],
    },
  ],
  "what-holds-data-is-protected": [
    ...(
      [
        [DATABASE, "acme-database-database"],
        [NAMESPACE, "acme-namespace"],
        ["kubernetes:core/v1:PersistentVolumeClaim", "acme-app-files"],
      ] as const
    ).map(([type, name]) => ({
      type,
      name,
      opts: { protect: false },
      says: [`${name}: protect must be true, for it holds data, got false.`],
    })),
    {
      stack: "fleet",
      type: DATABASE,
      name: "master-database",
      opts: { protect: false },
      says: ["master-database: protect must be true, for it holds data, got false."],
    },
    {
      type: TENANT,
      name: "acme",
      set: { protectData: undefined },
      says: ["acme: protectData must say whether the fleet keeps its data, got none."],
    },
  ],
};

/** For every rule: what it refuses. */
export const MUTANTS: MutantTable = {
  ...Object.fromEntries(
    Object.entries(RESOURCE_MUTANTS).map(([rule, mutants]) => [
      rule,
      mutants.map((mutant) => ({
        ...mutant,
        ...Object.fromEntries(
          (["says", "saysWithDefaults"] as const)
            .filter((key) => mutant[key] !== undefined)
            .map((key) => [
              key,
              mutant[key]?.map((message) => `${nameOf(mutant)}: ${message}`) ?? [],
            ]),
        ),
      })),
    ]),
  ),
  ...STACK_MUTANTS,
};

/** The name of the resource that a mutant is about. */
export function nameOf({ name, add }: Mutant): string {
  return name ?? add?.name ?? "none";
}

/** Beside being suspended it signs people in by a directory: what only such tenants have is spoiled there. */
export const SUSPENDED = {
  suspended: true,
  identity: { providers: GOOD_IDENTITY.identity.providers.filter(({ kind }) => kind === "ldap") },
};

/** What a tenant may have beside, and most have not. */
export const FULL = { mqtt: true, replay: true };

/** Built once, one after the other: mocks are global. Copy what you spoil. */
export const STACKS = {
  fleet: judged(await fleetResources()),
  host: judged(await hostResources()),
  tenant: judged(await tenantResources()),
  "suspended tenant": judged(await tenantResources(SUSPENDED)),
  "full tenant": judged(await tenantResources(FULL)),
};

/** What a mutant does, in words. */
export function titleOf(mutant: Mutant): string {
  const { set = {}, opts, provider, remove, add } = mutant;
  const name = nameOf(mutant);
  if (add !== undefined) {
    return `${mutant.stack ?? "tenant"} with ${add.type} ${JSON.stringify(add.props).slice(0, 200)}`;
  }
  if (remove === true) {
    return `a stack without ${name}`;
  }
  const changes = Object.entries({
    ...set,
    ...opts,
    ...(provider === undefined ? {} : { provider }),
  });
  return `${name} with ${changes
    .map(([path, value]) => `${path} ${JSON.stringify(value) ?? "missing"}`)
    .join(" and ")}`;
}

/** The stack that a mutant makes of a good one. */
export function mutated(mutant: Mutant): readonly Judged[] {
  const good = STACKS[mutant.stack ?? "tenant"];
  if (mutant.add !== undefined) {
    return [...good, mutant.add];
  }
  if (!good.some((resource) => isTarget(mutant, resource))) {
    throw new Error(`the good stack must have ${mutant.type ?? ""} ${mutant.name ?? ""}`);
  }
  return good.flatMap((resource) => {
    if (!isTarget(mutant, resource)) {
      return [resource];
    }
    if (mutant.remove === true) {
      return [];
    }
    return [
      {
        ...spoil(resource, mutant.set ?? {}),
        opts: { protect: false, ignoreChanges: [], ...resource.opts, ...mutant.opts },
        ...(mutant.provider === undefined ? {} : { provider: mutant.provider }),
      },
    ];
  });
}

/** Whether a resource is the one that a mutant is about. */
export function isTarget({ type, name, add }: Mutant, resource: Judged): boolean {
  return add === resource || (resource.type === type && resource.name === name);
}

/** A copy of a resource with some fields set; dots part the steps of a path, `\\.` is a dot. */
export function spoil(resource: Judged, set: Readonly<Record<string, unknown>>): Judged {
  const props = copied(resource.props);
  for (const [path, value] of Object.entries(set)) setPath(props as object, path, value);
  return { ...resource, props };
}

/** A deep copy of plain values; anything else, such as a file to copy, is kept as it is. */
function copied(value: unknown): unknown {
  if (Array.isArray(value)) {
    return value.map(copied);
  }
  return typeof value === "object" &&
    value !== null &&
    Object.getPrototypeOf(value) === Object.prototype
    ? Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, copied(inner)]))
    : value;
}
