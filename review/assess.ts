import { createHash } from "node:crypto";
import { exceptionFor } from "../model/exceptions.ts";
import type { Exception } from "../model/exceptions.ts";
import type { Rule, Source, Subject } from "../policies/rule.ts";
import { exceptionSubjects } from "../policies/tenant-stack.ts";
import type { Finding } from "./finding.ts";

/** What is judged as one, and where it was read. */
export interface Scope {
  readonly source: Source;
  readonly name: string;
  /** Whom exceptions are about here: a tenant's name, or the fleet. */
  readonly tenant: string;
  readonly subjects: readonly Subject[];
  /** Where a subject was read, for the evidence. */
  readonly readFrom: (subject: Subject) => string;
}

/** Stands in a stored state where a secret is, encrypted. */
export const HIDDEN = "[secret]";

/**
 * Every rule's answer about a scope. A rule that is blind in the scope's source, or that had to read a
 * secret which the state keeps encrypted, leaves a finding that says so; nothing is left out in silence.
 */
export function assess(
  rules: readonly Rule[],
  scope: Scope,
  exceptions: readonly Exception[],
  now: Date,
): readonly Finding[] {
  return rules.flatMap((rule): readonly Finding[] => {
    const blind = rule.blindIn?.[scope.source];
    const finding = (status: Finding["status"], message: string, subject?: Subject): Finding => {
      const exception =
        status === "fail" ? exceptionFor(exceptions, scope.tenant, rule.name, now) : undefined;
      return {
        rule: rule.name,
        status,
        source: scope.source,
        scope: scope.name,
        subject: subject === undefined ? scope.name : `${subject.type} ${subject.name}`,
        message,
        evidence: evidenceOf(scope, subject),
        ...(exception === undefined ? {} : { exception }),
      };
    };
    if (blind !== undefined) {
      return [finding("not-assessed", `${rule.description} Not assessed: ${blind}.`)];
    }
    return rule.kind === "resource"
      ? scope.subjects
          .filter(({ type }) => rule.judges(type))
          .map((subject) => {
            const { said, hidden } = ask(subject, (asked, report) => {
              rule.judge(asked, report);
            });
            // What was said after a hidden value was read may be said of its hiding.
            return hidden
              ? finding(
                  "not-assessed",
                  `${rule.description} Not assessed: what it judges is kept encrypted.`,
                  subject,
                )
              : said.length > 0
                ? finding("fail", said.join(" "), subject)
                : finding("pass", rule.description, subject);
          })
      : stackFindings();

    function stackFindings(): readonly Finding[] {
      const failures = new Map<Subject | undefined, string[]>();
      if (rule.kind === "stack") {
        const subjects = [...scope.subjects, ...exceptionSubjects(exceptions)];
        rule.judge(subjects, (message, subject) => {
          failures.set(subject, [...(failures.get(subject) ?? []), message]);
        });
      }
      return failures.size === 0
        ? [finding("pass", rule.description)]
        : [...failures].map(([subject, messages]) => finding("fail", messages.join(" "), subject));
    }
  });
}

/** Asks about one subject; tells whether a value was read that is hidden. */
function ask(
  subject: Subject,
  judge: (subject: Subject, report: (message: string) => void) => void,
): { readonly said: readonly string[]; readonly hidden: boolean } {
  const said: string[] = [];
  let hidden = false;
  const props = watched(subject.props, () => {
    hidden = true;
  });
  judge({ ...subject, props }, (message) => {
    said.push(message);
  });
  return { said, hidden };
}

function watched(value: unknown, tell: () => void): unknown {
  if (typeof value !== "object" || value === null) {
    return value;
  }
  return new Proxy(value, {
    get: (target, key): unknown => {
      const inner: unknown = Reflect.get(target, key);
      if (inner === HIDDEN) {
        tell();
      }
      return typeof key === "symbol" ? inner : watched(inner, tell);
    },
  });
}

function evidenceOf(scope: Scope, subject: Subject | undefined): Finding["evidence"] {
  const read =
    subject === undefined
      ? scope.subjects.map(({ type, name, props }) => ({ type, name, props }))
      : subject.props;
  return {
    readFrom: subject === undefined ? scope.name : scope.readFrom(subject),
    sha256: createHash("sha256")
      .update(JSON.stringify(read) ?? "")
      .digest("hex"),
  };
}
