import { resourceRule } from "../rule.ts";

/** Types that the rules of this pack know how to judge, or that can do nothing by themselves. */
const KNOWN = new Set([
  ...[
    "core/v1:ConfigMap",
    "core/v1:LimitRange",
    "core/v1:Namespace",
    "core/v1:PersistentVolumeClaim",
    "core/v1:Pod",
    "core/v1:ResourceQuota",
    "core/v1:Secret",
    "core/v1:Service",
    "core/v1:ServiceAccount",
    "apps/v1:DaemonSet",
    "apps/v1:Deployment",
    "apps/v1:StatefulSet",
    "batch/v1:CronJob",
    "batch/v1:Job",
    "networking.k8s.io/v1:Ingress",
    "networking.k8s.io/v1:NetworkPolicy",
    "policy/v1:PodDisruptionBudget",
    "rbac.authorization.k8s.io/v1:ClusterRole",
    "rbac.authorization.k8s.io/v1:ClusterRoleBinding",
    "rbac.authorization.k8s.io/v1:Role",
    "rbac.authorization.k8s.io/v1:RoleBinding",
    "storage.k8s.io/v1:StorageClass",
    "traefik.io/v1alpha1:IngressRoute",
    "traefik.io/v1alpha1:IngressRouteTCP",
    "traefik.io/v1alpha1:Middleware",
    "traefik.io/v1alpha1:TLSOption",
    "traefik.io/v1alpha1:TLSStore",
  ].map((type) => `kubernetes:${type}`),
  ...[
    "database:Database",
    "defaultPrivileges:DefaultPrivileges",
    "grant:Grant",
    "grantRole:GrantRole",
    "role:Role",
    "schema:Schema",
  ].map((type) => `postgresql:index/${type}`),
  "command:remote:Command",
  "command:remote:CopyToRemote",
  "random:index/randomBytes:RandomBytes",
  "random:index/randomPassword:RandomPassword",
  "tls:index/certRequest:CertRequest",
  "tls:index/locallySignedCert:LocallySignedCert",
  "tls:index/privateKey:PrivateKey",
  "tls:index/selfSignedCert:SelfSignedCert",
  "pulumi:index:Stash",
  "pulumi:pulumi:Stack",
  // What a review reads of a server beside its roles and grants, of a cluster beside its objects, and of a host.
  "live:kubernetes:Nodes",
  "live:postgresql:Server",
  "live:ssh:Storage",
  ...["command", "kubernetes", "postgresql", "pulumi", "random", "tls"].map(
    (provider) => `pulumi:providers:${provider}`,
  ),
]);

/**
 * Every resource is of a type that the pack knows.
 *
 * Why: a rule says nothing about a type that it does not know, and silence would read as consent.
 * Blind to: what a known type makes at run time; components, which make nothing by themselves.
 */
export const typeIsKnown = resourceRule(
  {
    name: "type-is-known",
    description: "Every resource is of a type that the pack knows.",
    group: "isolation",
    severity: "high",
    claims: ["F1", "F42"],
    references: ["PCI DSS 4.0.1 2.2.4", "SOC 2 CC7.1", "ISO 27001:2022 A.8.9"],
    remediation:
      "Use a type of the list, or teach the pack the new one: policies/rules/type-is-known.ts.",
    judges: () => true,
  },
  (subject, report) => {
    if (!KNOWN.has(subject.type) && !subject.type.startsWith("fluxbilling:")) {
      report(`${subject.name}: type must be one that the pack knows, got ${subject.type}.`);
    }
  },
);
