import { createHash } from "node:crypto";
import { PUBLIC_ROLE } from "../model/database.ts";
import { SHUT_RANGES } from "../model/network.ts";
import { tenantNames } from "../model/tenant-name.ts";
import type { TenantName } from "../model/tenant-name.ts";
import {
  isRoute,
  makesPods,
  metadataOf,
  podLabelsOf,
  podSpecOf,
  selects,
} from "../policies/kubernetes-objects.ts";
import type {
  NetworkPeer,
  NetworkPolicySpec,
  ObjectMetadata,
} from "../policies/kubernetes-objects.ts";
import type { RuleFacts, Subject } from "../policies/rule.ts";
import { containersOfComponent, ofType, variableOf } from "../policies/tenant-stack.ts";
import type { Scope } from "./assess.ts";
import type { Finding } from "./finding.ts";

/** The rule under which the question is answered. */
export const CANNOT_REACH: RuleFacts = {
  name: "tenant-cannot-reach-tenant",
  description:
    "No way leads from one tenant to another: network, database, Secrets, hosts, copies.",
  group: "isolation",
  severity: "critical",
  claims: ["F1", "F3", "P6", "R7"],
  references: [
    "PCI DSS 4.0.1 A1.1.2",
    "PCI DSS 4.0.1 A1.1.3",
    "SOC 2 CC6.1",
    "SOC 2 CC6.6",
    "ISO 27001:2022 A.8.22",
    "GDPR Art. 32(1)(b)",
  ],
  remediation: "Run npm run review without a question: it names what is wrong with either tenant.",
};

/** A tenant with everything of it that was read. */
export interface Side {
  readonly tenant: TenantName;
  readonly scope: Scope;
}

const POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy";
const GRANT = "postgresql:index/grant:Grant";

/** Shows, step by step and each with what it rests on, whether one tenant can reach another. */
export function cannotReach(from: Side, to: Side): readonly Finding[] {
  return [
    ...networkSteps(from, to),
    ...databaseSteps(from, to),
    ...accessSteps(from, to),
    ...hostSteps(from, to),
    ...backupSteps(from, to),
  ];
}

/** For each kind of pod of one and each of the other: does a policy let the flow out, and one let it in? */
function networkSteps(from: Side, to: Side): readonly Finding[] {
  const sources = podsOf(from);
  const targets = podsOf(to);
  if (sources.length === 0 || targets.length === 0) {
    const empty = sources.length === 0 ? from : to;
    return [
      step(from, to, "network", "not-assessed", `${empty.tenant} has no pods to look at.`, []),
    ];
  }
  return sources.flatMap((source) =>
    targets.map((target) => {
      const out = selecting(from, source, "Egress");
      const into = selecting(to, target, "Ingress");
      const opensOut = out.filter(({ spec }) =>
        (spec.egress ?? []).some(({ to: peers }) => reaches(peers, target, to, from)),
      );
      const opensIn = into.filter(({ spec }) =>
        (spec.ingress ?? []).some(({ from: peers }) => reaches(peers, source, from, to)),
      );
      const shutOut = out.length > 0 && opensOut.length === 0;
      const shutIn = into.length > 0 && opensIn.length === 0;
      const names = (policies: readonly { readonly subject: Subject }[]): string =>
        policies.map(({ subject }) => subject.name).join(", ") || "no policy";
      return step(
        from,
        to,
        `network: ${source.subject.name} to ${target.subject.name}`,
        shutOut || shutIn ? "pass" : "fail",
        `Pods of ${source.subject.name} are held on their way out by ${names(out)}, of which ${opensOut.length} let a flow to ${to.tenant} out; pods of ${target.subject.name} are held on their way in by ${names(into)}, of which ${opensIn.length} let a flow from ${from.tenant} in.`,
        [...out, ...into].map(({ subject }) => subject),
      );
    }),
  );
}

function databaseSteps(from: Side, to: Side): readonly Finding[] {
  const own = tenantNames(from.tenant);
  const theirs = tenantNames(to.tenant);
  const roles = [own.database, own.ownerRole, own.appRole, own.backupRole];
  const grants = ofType<{
    role?: string;
    database?: string;
    objectType?: string;
    privileges?: readonly string[];
  }>(to.scope.subjects, GRANT).filter(({ props }) => props.database === theirs.database);
  const open = grants.filter(
    ({ props }) =>
      (roles.includes(props.role ?? "") || props.role === PUBLIC_ROLE) &&
      (props.privileges ?? []).length > 0,
  );
  const shut = grants.find(
    ({ props }) => props.role === PUBLIC_ROLE && props.objectType === "database",
  );
  const members = ofType<{ name?: string; roles?: readonly string[] }>(
    [...from.scope.subjects, ...to.scope.subjects],
    "postgresql:index/role:Role",
  );
  const their = [theirs.database, theirs.ownerRole, theirs.appRole, theirs.backupRole];
  const crossing = members.filter(
    ({ props }) =>
      roles.includes(props.name ?? "") && (props.roles ?? []).some((role) => their.includes(role)),
  );
  return [
    step(
      from,
      to,
      `database ${theirs.database}: who may connect`,
      shut !== undefined && open.length === 0 ? "pass" : "fail",
      shut === undefined
        ? `${theirs.database} has no grant that shuts PUBLIC out.`
        : `PUBLIC may do nothing in ${theirs.database}, and of ${grants.length} grants there ${open.length} name ${from.tenant}'s roles or PUBLIC.`,
      grants.map(({ subject }) => subject),
    ),
    step(
      from,
      to,
      `database ${theirs.database}: who is a member of whom`,
      members.length > 0 && crossing.length === 0 ? "pass" : "fail",
      `Of ${members.length} roles of both, ${crossing.length} of ${from.tenant}'s are members of ${to.tenant}'s.`,
      members.map(({ subject }) => subject),
    ),
  ];
}

/** A pod reads another namespace's Secrets only with a token, or with rights that were bound to it. */
function accessSteps(from: Side, to: Side): readonly Finding[] {
  const pods = podsOf(from);
  const tokens = pods.filter(
    ({ subject }) => podSpecOf(subject.type, subject.props)?.automountServiceAccountToken !== false,
  );
  const bindings = [...from.scope.subjects, ...to.scope.subjects].filter(
    ({ type, props }) =>
      type.startsWith("kubernetes:rbac.authorization.k8s.io/") &&
      JSON.stringify((props as { subjects?: unknown }).subjects ?? "").includes(
        tenantNames(from.tenant).namespace,
      ),
  );
  return [
    step(
      from,
      to,
      `Secrets of ${tenantNames(to.tenant).namespace}`,
      tokens.length === 0 && bindings.length === 0 ? "pass" : "fail",
      `Of ${pods.length} kinds of pods of ${from.tenant}, ${tokens.length} have a token of the cluster; ${bindings.length} bindings name its accounts.`,
      [...pods.map(({ subject }) => subject), ...bindings],
    ),
  ];
}

function hostSteps(from: Side, to: Side): readonly Finding[] {
  const routes = from.scope.subjects.filter(
    ({ type }) => type.endsWith(":Ingress") || isRoute(type),
  );
  const host = new RegExp(`(^|[\`"])${to.tenant}\\.`);
  const taking = routes.filter(({ props }) =>
    host.test(JSON.stringify((props as { spec?: unknown }).spec ?? {})),
  );
  return [
    step(
      from,
      to,
      `host of ${to.tenant}`,
      routes.length > 0 && taking.length === 0 ? "pass" : "fail",
      `Of ${routes.length} routes of ${from.tenant}, ${taking.length} serve a host of ${to.tenant}.`,
      routes,
    ),
  ];
}

function backupSteps(from: Side, to: Side): readonly Finding[] {
  const [key] = ofType<{ forceCommand?: string }>(
    from.scope.subjects,
    "fluxbilling:tenant:TenantBackup",
  );
  if (key === undefined) {
    return [
      step(
        from,
        to,
        "copies",
        "not-assessed",
        "What the backup key opens is in the stack, not in the cluster.",
        [],
      ),
    ];
  }
  const command = key.props.forceCommand ?? "none";
  return [
    step(
      from,
      to,
      `copies of ${to.tenant}`,
      command.endsWith(` -tenant ${from.tenant}`) ? "pass" : "fail",
      `${from.tenant}'s backup key runs one command on the store: ${command}. It takes dumps in and gives none out.`,
      [key.subject],
    ),
  ];
}

interface Pods {
  readonly subject: Subject;
  readonly labels: Readonly<Record<string, string>>;
}

function podsOf({ tenant, scope }: Side): readonly Pods[] {
  const { namespace } = tenantNames(tenant);
  return scope.subjects
    .filter(({ type, props }) => makesPods(type) && metadataOf(props).namespace === namespace)
    .map((subject) => ({ subject, labels: podLabelsOf(subject.type, subject.props) }));
}

/** The policies of a side that hold a pod in one direction. */
function selecting(
  { tenant, scope }: Side,
  pods: Pods,
  direction: "Ingress" | "Egress",
): readonly { readonly subject: Subject; readonly spec: NetworkPolicySpec }[] {
  return ofType<{ metadata?: ObjectMetadata; spec?: NetworkPolicySpec }>(scope.subjects, POLICY)
    .map(({ subject, props }) => ({
      subject,
      namespace: props.metadata?.namespace,
      spec: props.spec ?? {},
    }))
    .filter(
      ({ namespace, spec }) =>
        namespace === tenantNames(tenant).namespace &&
        (spec.policyTypes ?? []).includes(direction) &&
        selects(spec.podSelector, pods.labels),
    );
}

/** Whether peers let a flow to or from a pod of the other side through. Its address counts as any private one. */
function reaches(
  peers: readonly NetworkPeer[] | undefined,
  other: Pods,
  otherSide: Side,
  ownSide: Side,
): boolean {
  if (peers === undefined || peers.length === 0) {
    return true;
  }
  const labels = namespaceLabels(otherSide);
  return peers.some(({ ipBlock, namespaceSelector, podSelector }) => {
    if (ipBlock !== undefined) {
      const { cidr = "0.0.0.0/0", except = [] } = ipBlock;
      return !(
        (cidr === "0.0.0.0/0" && SHUT_RANGES.every((range) => except.includes(range))) ||
        (cidr.endsWith("/32") && ownServices(ownSide).includes(cidr.slice(0, -3)))
      );
    }
    const inNamespace =
      namespaceSelector === undefined
        ? ownSide.tenant === otherSide.tenant
        : selects(namespaceSelector, labels);
    return inNamespace && (podSelector === undefined || selects(podSelector, other.labels));
  });
}

/** Addresses that are no pod's: the location's PostgreSQL and the backup store. */
function ownServices({ tenant, scope }: Side): readonly (string | undefined)[] {
  const { namespace } = tenantNames(tenant);
  return [
    ...ofType<{ host?: string }>(scope.subjects, "pulumi:providers:postgresql").map(
      ({ props }) => props.host,
    ),
    variableOf(containersOfComponent(scope.subjects, namespace, "backup"), "STORE_HOST"),
  ];
}

function namespaceLabels({ tenant, scope }: Side): Readonly<Record<string, string>> {
  const { namespace } = tenantNames(tenant);
  const found = ofType<{ metadata?: ObjectMetadata }>(
    scope.subjects,
    "kubernetes:core/v1:Namespace",
  ).find(({ props }) => props.metadata?.name === namespace);
  return { "kubernetes.io/metadata.name": namespace, ...found?.props.metadata?.labels };
}

/** One step of the answer; its evidence is every object that it rests on. */
function step(
  from: Side,
  to: Side,
  what: string,
  status: Finding["status"],
  message: string,
  evidence: readonly Subject[],
): Finding {
  return {
    rule: CANNOT_REACH.name,
    status,
    source: from.scope.source,
    scope: `${from.scope.name} to ${to.scope.name}`,
    subject: what,
    message,
    evidence: {
      readFrom:
        evidence.map((subject) => sideOf(subject, from, to).readFrom(subject)).join("; ") ||
        "nothing",
      sha256: createHash("sha256")
        .update(JSON.stringify(evidence.map(({ type, name, props }) => ({ type, name, props }))))
        .digest("hex"),
    },
  };
}

function sideOf(subject: Subject, from: Side, to: Side): Scope {
  return from.scope.subjects.includes(subject) ? from.scope : to.scope;
}
