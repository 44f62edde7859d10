import {
  MIDDLEWARES_ANNOTATION,
  SUSPENDED_CHAIN,
  SUSPENDED_MIDDLEWARE,
  SUSPENDED_REFERENCE,
  WITHOUT_VISITOR,
} from "../../model/headers.ts";
import { COMPONENT_LABEL, EDGE_NAMESPACE } from "../../model/labels.ts";
import { NOBODY } from "../../model/network.ts";
import { isTraefik, metadataOf } from "../kubernetes-objects.ts";
import { shown, stackRule } from "../rule.ts";
import type { StackReport, Subject } from "../rule.ts";
import { inNamespace, ofType, tenantsOf } from "../tenant-stack.ts";

interface Reference {
  readonly name?: string;
  readonly namespace?: string;
  readonly kind?: string;
}

/** What the rule reads of the middlewares that answer for suspended tenants. */
interface Spec {
  readonly chain?: { readonly middlewares?: readonly Reference[] };
  readonly headers?: { readonly customRequestHeaders?: Readonly<Record<string, string>> };
  readonly errors?: {
    readonly status?: readonly string[];
    readonly statusRewrites?: unknown;
    readonly service?: Reference;
  };
  readonly ipAllowList?: {
    readonly sourceRange?: readonly string[];
    readonly rejectStatusCode?: number;
    readonly ipStrategy?: unknown;
  };
}

/** A field, what it must be, and what it is. */
type Fact = readonly [field: string, expected: string, got: unknown];

/**
 * A tenant without pods is answered 402 by its location, a tenant with pods is not, and what answers lets nobody through.
 *
 * Why: every tenant's route may name that one middleware of another namespace, so it must lead to its page and nowhere else.
 * Blind to: what the page says, and whether it is there: without it the answer is 402 as well.
 */
export const suspendedIsAnswered402 = stackRule(
  {
    name: "suspended-is-answered-402",
    description:
      "A tenant without pods is answered 402 by its location, a tenant with pods is not, and what answers lets nobody through.",
    group: "lifecycle",
    severity: "high",
    claims: ["F40"],
    references: ["PCI DSS 4.0.1 A1.1.2", "SOC 2 CC6.1", "ISO 27001:2022 A.8.3"],
    remediation:
      "Make a location's answer by components/suspended-page.ts, and a tenant's way in by components/tenant-ingress.ts.",
  },
  (subjects, report) => {
    for (const subject of subjects.filter(({ type }) => isTraefik(type, "Middleware"))) {
      if (metadataOf(subject.props).namespace === EDGE_NAMESPACE) {
        judgeAnswer(subject, report);
      }
    }
    for (const { names } of tenantsOf(subjects)) {
      const own = inNamespace(subjects, names.namespace);
      const isSuspended = ofType<{ spec?: { replicas?: number } }>(
        own,
        "kubernetes:apps/v1:Deployment",
      ).some(
        ({ props }) =>
          metadataOf(props).labels?.[COMPONENT_LABEL] === "app" && props.spec?.replicas === 0,
      );
      for (const { subject } of ofType(own, "kubernetes:networking.k8s.io/v1:Ingress")) {
        judgeWayIn(subject, isSuspended, report);
      }
    }
  },
);

/** One of the middlewares that a location answers with. */
function judgeAnswer(subject: Subject, report: StackReport): void {
  const { name } = metadataOf(subject.props);
  const { chain, headers, errors, ipAllowList } =
    (subject.props as { readonly spec?: Spec }).spec ?? {};
  const [withoutVisitor, page, shut] = SUSPENDED_CHAIN;
  const facts: Readonly<Record<string, readonly Fact[]>> = {
    [SUSPENDED_MIDDLEWARE]: [
      [
        "chain.middlewares",
        SUSPENDED_CHAIN.join(", "),
        (chain?.middlewares ?? []).map((part) => referenceOf(part)),
      ],
    ],
    [withoutVisitor]: Object.keys(WITHOUT_VISITOR).map((header) => [
      `headers.customRequestHeaders.${header}`,
      "",
      headers?.customRequestHeaders?.[header],
    ]),
    [page]: [
      ["errors.status", "402", errors?.status],
      ["errors.statusRewrites", "none", errors?.statusRewrites],
      ["errors.service", page, errors?.service && referenceOf(errors.service)],
    ],
    [shut]: [
      ["ipAllowList.sourceRange", NOBODY, ipAllowList?.sourceRange],
      ["ipAllowList.rejectStatusCode", "402", ipAllowList?.rejectStatusCode],
      // By a header that whoever calls can write, somebody could come from anywhere.
      ["ipAllowList.ipStrategy", "none", ipAllowList?.ipStrategy],
    ],
  };
  for (const [field, expected, got] of facts[name ?? ""] ?? []) {
    if (shown(got) !== expected) {
      report(
        `${subject.name}: ${field} must be ${expected === "" ? "empty" : expected}, got ${shown(got)}.`,
        subject,
      );
    }
  }
}

/** A reference as one word: with its kind and its namespace where it names one that is not the usual. */
function referenceOf({ kind = "Service", namespace = EDGE_NAMESPACE, name }: Reference): string {
  return [
    ...(kind === "Service" ? [] : [kind]),
    ...(namespace === EDGE_NAMESPACE ? [] : [namespace]),
    name ?? "none",
  ].join("/");
}

function judgeWayIn(subject: Subject, isSuspended: boolean, report: StackReport): void {
  const middlewares = metadataOf(subject.props).annotations?.[MIDDLEWARES_ANNOTATION] ?? "none";
  const named = middlewares.split(",");
  if (isSuspended && named.at(-1) !== SUSPENDED_REFERENCE) {
    report(
      `${subject.name}: annotation ${MIDDLEWARES_ANNOTATION} of a tenant without pods must end with ${SUSPENDED_REFERENCE}, got ${middlewares}.`,
      subject,
    );
  } else if (!isSuspended && named.includes(SUSPENDED_REFERENCE)) {
    report(
      `${subject.name}: annotation ${MIDDLEWARES_ANNOTATION} of a tenant with pods must not name ${SUSPENDED_REFERENCE}, got ${middlewares}.`,
      subject,
    );
  }
}
