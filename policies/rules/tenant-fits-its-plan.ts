import { COMPONENT_LABEL, PLAN_LABEL } from "../../model/labels.ts";
import { RATE_MIDDLEWARE } from "../../model/headers.ts";
import {
  BACKUP_CONNECTIONS,
  PLAN_NAMES,
  planQuota,
  PLANS,
  planVariables,
} from "../../model/plan.ts";
import type { Plan, Quota } from "../../model/plan.ts";
import { isTraefik, metadataOf, podSpecOf, quantity } from "../kubernetes-objects.ts";
import { shown, stackRule } from "../rule.ts";
import type { Subject } from "../rule.ts";
import type { TenantNames } from "../../model/tenant-name.ts";
import { isPlanName, ofType, tenantsOf, variableOf } from "../tenant-stack.ts";

/** Says what is not as the plan has it. */
type Compare = (subject: Subject, what: string, expected: unknown, got: unknown) => void;

/**
 * Quota, limits, replicas, connections, timeouts, rate, retention and meters of a tenant are its plan's.
 *
 * Why: a tenant with more than it pays for takes it from its neighbours; one with less was sold something else.
 * Blind to: the size of a volume, which keeps what it was made with; the quota bounds it. What the application counts and deletes.
 */
export const tenantFitsItsPlan = stackRule(
  {
    name: "tenant-fits-its-plan",
    description:
      "Quota, limits, replicas, connections, timeouts, rate, retention and meters of a tenant are its plan's.",
    group: "plans",
    severity: "high",
    claims: ["F38", "F41", "P11", "R10", "R11"],
    references: ["SOC 2 A1.1", "ISO 27001:2022 A.8.6", "PCI DSS 4.0.1 A1.1.3"],
    remediation: "Take the numbers from model/plan.ts.",
  },
  (subjects, report) => {
    const compare: Compare = (subject, what, expected, got) => {
      if (!same(expected, got)) {
        report(`${subject.name}: ${what} must be ${shown(expected)}, got ${shown(got)}.`, subject);
      }
    };
    for (const { subject, says, names } of tenantsOf(subjects)) {
      if (!isPlanName(says.plan)) {
        report(
          `${subject.name}: plan must be one of ${PLAN_NAMES.join(", ")}, got ${shown(says.plan)}.`,
          subject,
        );
        continue;
      }
      const plan: Plan = PLANS[says.plan];
      for (const { subject: namespace, props } of ofType(
        subjects,
        "kubernetes:core/v1:Namespace",
      )) {
        compare(
          namespace,
          `label ${PLAN_LABEL}`,
          says.plan,
          metadataOf(props).labels?.[PLAN_LABEL],
        );
      }
      judgeBounds(subjects, planQuota(plan, says.replay === true), plan, compare);
      judgePods(subjects, plan, compare);
      judgeDatabase(subjects, plan, names, compare);
      for (const middleware of subjects.filter(({ type }) => isTraefik(type, "Middleware"))) {
        if (metadataOf(middleware.props).name === RATE_MIDDLEWARE) {
          const { spec } = middleware.props as { spec?: { rateLimit?: { average?: number } } };
          compare(
            middleware,
            "rateLimit.average",
            plan.requestsPerSecond,
            spec?.rateLimit?.average,
          );
        }
      }
    }
  },
);

function judgeBounds(
  subjects: readonly Subject[],
  quota: Quota,
  plan: Plan,
  compare: Compare,
): void {
  for (const { subject, props } of ofType<{
    spec?: { hard?: Readonly<Record<string, string>>; scopes?: unknown; scopeSelector?: unknown };
  }>(subjects, "kubernetes:core/v1:ResourceQuota")) {
    for (const [key, expected] of Object.entries(quota)) {
      compare(subject, `spec.hard.${key}`, expected, props.spec?.hard?.[key]);
    }
    // A quota with a scope bounds some pods and lets the others be.
    compare(subject, "spec.scopes", undefined, props.spec?.scopes);
    compare(subject, "spec.scopeSelector", undefined, props.spec?.scopeSelector);
  }
  for (const { subject, props } of ofType<{
    spec?: {
      limits?: readonly { type?: string; default?: Readonly<Record<string, string>> }[];
    };
  }>(subjects, "kubernetes:core/v1:LimitRange")) {
    const limits = (props.spec?.limits ?? []).find(({ type }) => type === "Container")?.default;
    compare(subject, "the default limit of cpu", `${plan.appCpuLimitMilli}m`, limits?.["cpu"]);
    compare(subject, "the default limit of memory", `${plan.appMemoryMib}Mi`, limits?.["memory"]);
  }
}

function judgePods(subjects: readonly Subject[], plan: Plan, compare: Compare): void {
  for (const { subject, props } of ofType<{ spec?: { replicas?: number } }>(
    subjects,
    "kubernetes:apps/v1:Deployment",
  )) {
    if (metadataOf(props).labels?.[COMPONENT_LABEL] !== "app") {
      continue;
    }
    // A suspended tenant has no pods.
    if (props.spec?.replicas !== 0) {
      compare(subject, "spec.replicas", plan.replicas, props.spec?.replicas);
    }
    const containers = podSpecOf(subject.type, props)?.containers ?? [];
    for (const [variable, expected] of Object.entries(planVariables(plan))) {
      compare(subject, `variable ${variable}`, expected, variableOf(containers, variable));
    }
    judgeSize(subject, plan, compare);
  }
  for (const { subject, props } of ofType(subjects, "kubernetes:batch/v1:CronJob")) {
    // A replay is as large as a pod of the application.
    if (metadataOf(props).labels?.[COMPONENT_LABEL] === "replay") {
      judgeSize(subject, plan, compare);
    }
  }
}

function judgeSize(subject: Subject, plan: Plan, compare: Compare): void {
  for (const { name, resources } of podSpecOf(subject.type, subject.props)?.containers ?? []) {
    const at = `container ${name ?? "without a name"}'s`;
    compare(
      subject,
      `${at} cpu request`,
      `${plan.appCpuRequestMilli}m`,
      resources?.requests?.["cpu"],
    );
    compare(subject, `${at} cpu limit`, `${plan.appCpuLimitMilli}m`, resources?.limits?.["cpu"]);
    compare(
      subject,
      `${at} memory request`,
      `${plan.appMemoryMib}Mi`,
      resources?.requests?.["memory"],
    );
    compare(subject, `${at} memory limit`, `${plan.appMemoryMib}Mi`, resources?.limits?.["memory"]);
  }
}

function judgeDatabase(
  subjects: readonly Subject[],
  plan: Plan,
  names: TenantNames,
  compare: Compare,
): void {
  for (const { subject, props } of ofType<{ connectionLimit?: number }>(
    subjects,
    "postgresql:index/database:Database",
  )) {
    compare(
      subject,
      "connectionLimit",
      plan.databaseConnections + BACKUP_CONNECTIONS,
      props.connectionLimit,
    );
  }
  for (const { subject, props } of ofType<{
    name?: string;
    connectionLimit?: number;
    statementTimeout?: number;
    idleInTransactionSessionTimeout?: number;
  }>(subjects, "postgresql:index/role:Role")) {
    if (props.name === names.appRole) {
      compare(subject, "connectionLimit", plan.databaseConnections, props.connectionLimit);
      compare(subject, "statementTimeout", plan.statementTimeoutMs, props.statementTimeout);
      compare(
        subject,
        "idleInTransactionSessionTimeout",
        plan.idleTransactionTimeoutMs,
        props.idleInTransactionSessionTimeout,
      );
    } else if (props.name === names.backupRole) {
      compare(subject, "connectionLimit", BACKUP_CONNECTIONS, props.connectionLimit);
    }
  }
}

/** Whether two values are the same; a cluster writes 1000m as 1 and 1024Mi as 1Gi. */
function same(expected: unknown, got: unknown): boolean {
  if (typeof expected === "string" && typeof got === "string") {
    const number = quantity(expected);
    return expected === got || (number !== undefined && number === quantity(got));
  }
  return expected === (got ?? undefined);
}
