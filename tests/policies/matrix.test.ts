import { describe, expect, it } from "vitest";
import type { Rule } from "../../policies/rule.ts";
import { RULES } from "../../policies/rules.ts";
import { say, UNKNOWN } from "../support/judge.ts";
import type { Judged } from "../support/judge.ts";
import { judgedFields } from "./judged-fields.ts";
import type { Read } from "./judged-fields.ts";
import { spoil, STACKS } from "./mutants.ts";

/** Fields that rules read and that may say something else, by type and path, and why that opens nothing. */
const HARMLESS: Readonly<Record<string, string>> = {
  "tenant: kubernetes:core/v1:LimitRange metadata.name":
    "a name of its own: what refers to it finds nothing instead of something else",
  "tenant: kubernetes:core/v1:ResourceQuota metadata.name":
    "a name of its own: what refers to it finds nothing instead of something else",
  "tenant: kubernetes:networking.k8s.io/v1:NetworkPolicy metadata.name":
    "a name of its own: what refers to it finds nothing instead of something else",
  "tenant: kubernetes:core/v1:Secret metadata.name":
    "a name of its own: what refers to it finds nothing instead of something else",
  "tenant: kubernetes:networking.k8s.io/v1:Ingress metadata.name":
    "a name of its own: what refers to it finds nothing instead of something else",
  "tenant: kubernetes:core/v1:ServiceAccount metadata.name":
    "a name of its own: what refers to it finds nothing instead of something else",
  "tenant: kubernetes:core/v1:PersistentVolumeClaim metadata.name":
    "a name of its own: what refers to it finds nothing instead of something else",
  "tenant: kubernetes:core/v1:Service metadata.name":
    "a name of its own: what refers to it finds nothing instead of something else",
  "tenant: kubernetes:apps/v1:Deployment metadata.name":
    "a name of its own: what refers to it finds nothing instead of something else",
  "tenant: kubernetes:batch/v1:CronJob metadata.name":
    "a name of its own: what refers to it finds nothing instead of something else",
  "tenant: kubernetes:traefik.io/v1alpha1:IngressRouteTCP metadata.name":
    "a name of its own: what refers to it finds nothing instead of something else",
  "tenant: kubernetes:core/v1:Service spec.ports.*.name":
    "the name of the port for HTTP, under which the route over HTTP finds nothing then",
  "tenant: kubernetes:batch/v1:CronJob spec.jobTemplate.spec.template.spec.containers.*.volumeMounts.*.name":
    "a volume that is not there: the cluster takes no such pod",
  "fleet: kubernetes:traefik.io/v1alpha1:Middleware metadata.name":
    "a name of its own: what refers to it finds nothing instead of something else",
  "tenant: kubernetes:core/v1:ServiceAccount metadata.labels.app\\.kubernetes\\.io/component":
    "read to find pods, and this makes none",
  "tenant: kubernetes:core/v1:PersistentVolumeClaim metadata.labels.app\\.kubernetes\\.io/component":
    "read to find pods, and this makes none",
  "tenant: kubernetes:core/v1:Service metadata.labels.app\\.kubernetes\\.io/component":
    "read to find pods, and this makes none",
  "tenant: kubernetes:core/v1:Secret metadata.labels.app\\.kubernetes\\.io/component":
    "read to find pods, and this makes none",
  "tenant: kubernetes:apps/v1:Deployment spec.template.spec.containers.*.name":
    "told in messages only",
  "tenant: kubernetes:apps/v1:Deployment spec.template.spec.containers.*.env.*.name":
    "what the program is told; policies and server decide what it reaches",
  "tenant: kubernetes:apps/v1:Deployment spec.template.spec.containers.*.env.*.value":
    "what the program is told; policies and server decide what it reaches",
  "tenant: kubernetes:apps/v1:Deployment spec.template.spec.securityContext.runAsUser":
    "any user but root, which runAsNonRoot shuts out too",
  "tenant: kubernetes:batch/v1:CronJob spec.jobTemplate.spec.template.spec.containers.*.name":
    "told in messages only",
  "tenant: kubernetes:batch/v1:CronJob spec.jobTemplate.spec.template.spec.containers.*.env.*.name":
    "what the program is told; policies and server decide what it reaches",
  "tenant: kubernetes:batch/v1:CronJob spec.jobTemplate.spec.template.spec.containers.*.env.*.value":
    "what the program is told; policies and server decide what it reaches",
  "tenant: kubernetes:batch/v1:CronJob spec.jobTemplate.spec.template.spec.securityContext.runAsUser":
    "any user but root, which runAsNonRoot shuts out too",
  "fleet: fluxbilling:fleet:Master imageRegistries.*":
    "a host of the list that no image comes from",
  "tenant: fluxbilling:tenant:Tenant imageRegistries.*":
    "a host of the list that no image comes from",
  "fleet: kubernetes:traefik.io/v1alpha1:IngressRoute spec.routes.*.middlewares.*.name":
    "a name that is not there: the ingress takes the route out and answers 404 by itself",
  "fleet: kubernetes:traefik.io/v1alpha1:IngressRoute spec.routes.*.services.*.name":
    "a name that is not there: the ingress takes the route out and answers 404 by itself",
  "fleet: kubernetes:apps/v1:Deployment metadata.namespace":
    "the platform's own object: in another namespace what refers to it finds nothing",
  "fleet: kubernetes:batch/v1:CronJob metadata.namespace":
    "the platform's own object: in another namespace what refers to it finds nothing",
  "fleet: kubernetes:core/v1:ConfigMap metadata.namespace":
    "the platform's own object: in another namespace what refers to it finds nothing",
  "fleet: kubernetes:core/v1:PersistentVolumeClaim metadata.namespace":
    "the platform's own object: in another namespace what refers to it finds nothing",
  "fleet: kubernetes:core/v1:Secret metadata.namespace":
    "the platform's own object: in another namespace what refers to it finds nothing",
  "fleet: kubernetes:core/v1:Service metadata.namespace":
    "the platform's own object: in another namespace what refers to it finds nothing",
  "fleet: kubernetes:core/v1:ServiceAccount metadata.namespace":
    "the platform's own object: in another namespace what refers to it finds nothing",
  "fleet: kubernetes:traefik.io/v1alpha1:Middleware metadata.namespace":
    "the platform's own object: in another namespace what refers to it finds nothing",
  "fleet: kubernetes:traefik.io/v1alpha1:TLSStore metadata.namespace":
    "the platform's own object: in another namespace what refers to it finds nothing",
  "fleet: kubernetes:networking.k8s.io/v1:NetworkPolicy metadata.namespace":
    "a way to exact peers, for pods that are not there; the policy that shuts a namespace is missed",
  "fleet: kubernetes:apps/v1:Deployment spec.template.spec.containers.*.name":
    "told in messages only",
  "fleet: kubernetes:apps/v1:Deployment spec.template.spec.containers.*.env.*.name":
    "what the program is told; policies and server decide what it reaches",
  "fleet: kubernetes:apps/v1:Deployment spec.template.spec.containers.*.env.*.value":
    "what the program is told; policies and server decide what it reaches",
  "fleet: kubernetes:apps/v1:Deployment spec.template.spec.securityContext.runAsUser":
    "any user but root, which runAsNonRoot shuts out too",
  "fleet: kubernetes:batch/v1:CronJob spec.jobTemplate.spec.template.spec.containers.*.name":
    "told in messages only",
  "fleet: kubernetes:batch/v1:CronJob spec.jobTemplate.spec.template.spec.containers.*.env.*.name":
    "what the program is told; policies and server decide what it reaches",
  "fleet: kubernetes:batch/v1:CronJob spec.jobTemplate.spec.template.spec.containers.*.env.*.value":
    "what the program is told; policies and server decide what it reaches",
  "fleet: kubernetes:batch/v1:CronJob spec.jobTemplate.spec.template.spec.securityContext.runAsUser":
    "any user but root, which runAsNonRoot shuts out too",
  "fleet: command:remote:Command create":
    "a command that trusts no key; who writes commands is root on the host already",
  "host: command:remote:Command create":
    "a command that installs nothing; who writes commands is root on the host already",
  "fleet: kubernetes:traefik.io/v1alpha1:IngressRoute metadata.namespace":
    "the redirect serves nothing wherever it is",
  "fleet: kubernetes:core/v1:Secret immutable": "only a tenant's Secrets rotate by name",
  "fleet: postgresql:index/role:Role name":
    "the platform's own roles; a wrong one is missing where it is needed",
  "fleet: postgresql:index/role:Role roles.*":
    "the platform's own roles; a wrong one is missing where it is needed",
  "fleet: postgresql:index/role:Role login": "fewer rights",
  "fleet: postgresql:index/role:Role replication": "fewer rights",
  "tenant: postgresql:index/role:Role login": "fewer rights",
  "tenant: postgresql:index/role:Role bypassRowLevelSecurity": "fewer rights",
  "fleet: postgresql:index/grant:Grant role": "a role of the platform, or one that is not there",
};

describe("every field that a rule reads", () => {
  const reads = Object.values(STACKS).flatMap(judgedFields);

  it("is many fields of every rule that reads any", () => {
    expect(reads.length).toBeGreaterThan(1000);
    const reading = new Set(reads.map(({ rule }) => rule.name));
    const silent = RULES.map(({ name }) => name).filter((name) => !reading.has(name));
    // These read options or what a good stack does not have.
    expect(silent.toSorted()).toEqual([
      "access-stays-in-its-namespace",
      ...["no-exception-has-ended", "no-grant-role", "no-key-literal"],
      ...["nothing-judged-is-ignored", "root-key-is-in-no-resource", "type-is-known"],
    ]);
  });

  it("is refused when it is unknown, by that rule", () => {
    const passed = reads.filter(
      ({ rule, ...read }) =>
        !say(rule, spoilt(read, UNKNOWN)).some((message) => message.includes("an unknown value")),
    );
    expect(passed.map(titleOf)).toEqual([]);
  });

  it("is refused when it is spoilt or missing, by a rule that reads it, or is known to open nothing", () => {
    const fields = Map.groupBy(reads, ({ resource, stack, steps }) =>
      [Object.values(STACKS).indexOf(stack), resource.name, resource.type, ...steps].join(" "),
    );
    const passed = [...fields.values()]
      .filter(
        (readers) => !readers.some((read) => wrong(read).some((value) => refuses(read, value))),
      )
      .map(([read]) => fieldOf(read as Read));
    expect([...new Set(passed)].toSorted()).toEqual(Object.keys(HARMLESS).toSorted());
  });
});

/** What could stand in a field instead: something else of its kind, and nothing. */
function wrong({ value, steps }: Read): readonly unknown[] {
  const other =
    typeof value === "number" ? value + 1 : typeof value === "boolean" ? !value : "spoilt";
  // An entry of a list is not taken out: the ones behind it would move.
  return /^\d+$/.test(steps.at(-1) ?? "") ? [other] : [other, undefined];
}

function refuses(read: Read, value: unknown): boolean {
  return say(read.rule, spoilt(read, value)).length > 0;
}

/** The resources that the rule is asked about, one field of one of them changed. */
function spoilt(
  { stack, resource, steps, rule }: Omit<Read, "value" | "rule"> & { readonly rule?: Rule },
  value: unknown,
): readonly Judged[] {
  const changed = spoil(resource, { [steps.join(".")]: value });
  return rule?.kind === "resource"
    ? [changed]
    : stack.map((other) => (other === resource ? changed : other));
}

function titleOf({ rule, resource, steps }: Read): string {
  return `${rule.name} ${resource.name} ${steps.join(".")}`;
}

/** A field without the places in lists: `<stack>: <type> <path>`. */
function fieldOf({ resource, steps, stack }: Read): string {
  const kind = stack === STACKS.fleet ? "fleet" : stack === STACKS.host ? "host" : "tenant";
  return `${kind}: ${resource.type} ${steps.map((step) => (/^\d+$/.test(step) ? "*" : step)).join(".")}`;
}
