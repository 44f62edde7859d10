/** What the pack looks at. */
import type { Rule, Subject } from "../../policies/rule.ts";
import { RULES } from "../../policies/rules.ts";
import { asSubject } from "../support/judge.ts";
import type { Judged } from "../support/judge.ts";

/** Rules that look through every text for what must not be there; their own mutants show them. */
const SCANNERS = ["no-key-literal", "root-key-is-in-no-resource"];

/** A field that a rule has read of a good resource. */
export interface Read {
  readonly rule: Rule;
  readonly stack: readonly Judged[];
  readonly resource: Judged;
  /** Steps of the path, with `\.` for a dot. */
  readonly steps: readonly string[];
  readonly value: unknown;
}

/** The fields with a value that rules read while they judge a good stack, once for each rule. */
export function judgedFields(stack: readonly Judged[]): readonly Read[] {
  return RULES.filter(({ name }) => !SCANNERS.includes(name)).flatMap((rule) =>
    readsOf(rule, stack),
  );
}

function readsOf(rule: Rule, stack: readonly Judged[]): readonly Read[] {
  const reads: Read[] = [];
  const subjects: readonly Subject[] = stack.map((resource) => {
    const seen = new Set<string>();
    const props = recorded(resource.props, [], (steps, value) => {
      if (!seen.has(steps.join("."))) {
        seen.add(steps.join("."));
        reads.push({ rule, stack, resource, steps, value });
      }
    });
    return { ...asSubject(resource), props };
  });
  if (rule.kind === "stack") {
    rule.judge(subjects, () => undefined);
  } else {
    for (const subject of subjects) {
      rule.judge(subject, () => undefined);
    }
  }
  return reads;
}

/** A value that tells which of its texts, numbers and truths are read. */
function recorded(
  value: unknown,
  steps: readonly string[],
  tell: (steps: readonly string[], value: unknown) => void,
): unknown {
  if (typeof value !== "object" || value === null) {
    return value;
  }
  return new Proxy(value, {
    get: (target, key): unknown => {
      const inner: unknown = Reflect.get(target, key);
      if (typeof key === "symbol" || !Object.hasOwn(target, key) || key === "length") {
        return inner;
      }
      const path = [...steps, key.replaceAll(".", "\\.")];
      if (typeof inner !== "object" || inner === null) {
        tell(path, inner);
      }
      return recorded(inner, path, tell);
    },
  });
}
