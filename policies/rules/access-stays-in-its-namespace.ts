import { CONTROL_PLANE_NAMESPACE, SYSTEM_NAMESPACE } from "../../model/labels.ts";
import { metadataOf } from "../kubernetes-objects.ts";
import { resourceRule, shown } from "../rule.ts";
import type { Report, Subject } from "../rule.ts";

interface AccessRule {
  readonly verbs?: readonly string[];
  readonly resources?: readonly string[];
  readonly apiGroups?: readonly string[];
}

interface Binding {
  readonly subjects?: readonly {
    readonly kind?: string;
    readonly name?: string;
    readonly namespace?: string;
  }[];
  readonly roleRef?: { readonly kind?: string; readonly name?: string };
}

/** Verbs with which a role makes itself more powerful than it is. */
const RAISING_VERBS = ["escalate", "bind", "impersonate"];
/** Namespaces whose accounts may be given a right over a whole cluster. */
const PLATFORM_NAMESPACES: readonly string[] = [CONTROL_PLANE_NAMESPACE, SYSTEM_NAMESPACE];

/**
 * No right over the cluster is a wildcard, and none is given to another namespace's account or to everyone.
 *
 * Why: one binding that crosses namespaces lets a tenant's account read another's Secrets.
 * Blind to: rights that the distribution ships with.
 */
export const accessStaysInItsNamespace = resourceRule(
  {
    name: "access-stays-in-its-namespace",
    description:
      "No right over the cluster is a wildcard, and none is given to another namespace's account or to everyone.",
    group: "isolation",
    severity: "critical",
    claims: ["F1", "P7"],
    references: [
      "CIS Kubernetes 5.1.1",
      "CIS Kubernetes 5.1.3",
      "CIS Kubernetes 5.1.8",
      "PCI DSS 4.0.1 7.2.2",
      "SOC 2 CC6.3",
      "ISO 27001:2022 A.8.2",
    ],
    remediation:
      "Name the verbs, resources and groups, and bind the role to accounts of its own namespace.",
    judges: (type) => type.startsWith("kubernetes:rbac.authorization.k8s.io/"),
  },
  (subject, report) => {
    const kind = subject.type.split(":").at(-1) ?? "";
    if (kind === "Role" || kind === "ClusterRole") {
      judgeRole(subject, report);
    } else if (kind === "RoleBinding" || kind === "ClusterRoleBinding") {
      judgeBinding(subject, kind, report);
    } else {
      report(`${subject.name}: must be a role or a binding, got ${kind}.`);
    }
  },
);

function judgeRole({ name, props }: Subject, report: Report): void {
  const { rules = [], aggregationRule } = props as {
    rules?: readonly AccessRule[];
    aggregationRule?: unknown;
  };
  if (aggregationRule !== undefined && aggregationRule !== null) {
    report(`${name}: aggregationRule must not be set, got one.`);
  }
  for (const rule of rules) {
    for (const field of ["verbs", "resources", "apiGroups"] as const) {
      if ((rule[field] ?? []).some((value) => value.includes("*"))) {
        report(`${name}: ${field} must name each one, got ${shown(rule[field])}.`);
      }
    }
    const raising = (rule.verbs ?? []).filter((verb) => RAISING_VERBS.includes(verb));
    if (raising.length > 0) {
      report(`${name}: verbs must not raise the role's own rights, got ${raising.join(", ")}.`);
    }
  }
}

function judgeBinding({ name, props }: Subject, kind: string, report: Report): void {
  const { subjects = [], roleRef } = props as Binding;
  if (roleRef?.name === undefined || ["cluster-admin", "admin", "edit"].includes(roleRef.name)) {
    report(`${name}: roleRef must name a role made for it, got ${roleRef?.name ?? "none"}.`);
  }
  for (const { kind: subjectKind, name: subjectName, namespace } of subjects) {
    if (subjectKind !== "ServiceAccount") {
      report(
        `${name}: a subject must be a ServiceAccount, got ${subjectKind ?? "none"} ${subjectName ?? ""}.`,
      );
      continue;
    }
    const fits =
      kind === "RoleBinding"
        ? namespace === metadataOf(props).namespace
        : PLATFORM_NAMESPACES.includes(namespace ?? "");
    if (!fits) {
      report(
        `${name}: a subject must be an account of ${kind === "RoleBinding" ? "the binding's own namespace" : PLATFORM_NAMESPACES.join(" or ")}, got ${namespace ?? "none"}/${subjectName ?? "none"}.`,
      );
    }
  }
}
