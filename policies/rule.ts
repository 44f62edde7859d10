/** What a rule is about. */
export type Group =
  | "isolation"
  | "transport"
  | "residency"
  | "backup"
  | "secrets"
  | "supply chain"
  | "lifecycle"
  | "plans";

/** How much a violation opens. */
export type Severity = "low" | "medium" | "high" | "critical";

/** What a rule is asked about: one resource of a preview, of a stored state, or of a live system. */
export interface Subject {
  /** Pulumi's type token. */
  readonly type: string;
  /** Name in its stack; of a live object, where it is. */
  readonly name: string;
  readonly urn: string;
  /** Inputs at preview, what is recorded or what is there later. Every field may be missing. */
  readonly props: unknown;
  /** Through which provider it goes. @default none */
  readonly provider?: { readonly name: string } | undefined;
  readonly opts: {
    readonly protect: boolean;
    /** Paths of inputs whose changes are not applied. */
    readonly ignoreChanges: readonly string[];
  };
}

/** Where a rule's subjects come from. */
export type Source = "preview" | "state" | "live";

/** What a reviewer is told of a rule beside its verdict. */
export interface RuleFacts {
  /** The sentence in short, and the name of the rule's file. */
  readonly name: string;
  /** What holds, as one sentence. */
  readonly description: string;
  readonly group: Group;
  readonly severity: Severity;
  /** Promises of the security pages that rest on it, by their ids in `docs/claims.md`. */
  readonly claims: readonly string[];
  /** Points of frameworks that ask for it: `<framework> <point>`. */
  readonly references: readonly string[];
  /** What to do about a violation, as sentences. */
  readonly remediation: string;
  /** Why it cannot be judged in a source; a review records it there as not assessed. @default it can */
  readonly blindIn?: Partial<Readonly<Record<Source, string>>>;
}

/** Says what is wrong with the subject at hand: `<name>: <what> must be <rule>, got <value>.` */
export type Report = (message: string) => void;

/** The same for a rule about several: the subject that is to blame, where there is one. */
export type StackReport = (message: string, subject?: Subject) => void;

/** A rule about one resource at a time. */
export interface ResourceRule extends RuleFacts {
  readonly kind: "resource";
  /** Whether it has something to say about resources of a type. */
  readonly judges: (type: string) => boolean;
  readonly judge: (subject: Subject, report: Report) => void;
}

/** A rule about the resources of a stack, or of one cluster and server, together. */
export interface StackRule extends RuleFacts {
  readonly kind: "stack";
  readonly judge: (subjects: readonly Subject[], report: StackReport) => void;
}

export type Rule = ResourceRule | StackRule;

/**
 * A rule about one resource, for which an unknown value is a violation.
 *
 * The SDK makes an advisory of a rule that meets an unknown value at preview, so a mandatory rule
 * would pass in silence. Everything that a rule judges can be plain, so it must be. Any other error
 * goes on up and fails the run.
 */
export function resourceRule(
  facts: RuleFacts & Pick<ResourceRule, "judges">,
  judge: ResourceRule["judge"],
): ResourceRule {
  return {
    ...facts,
    kind: "resource",
    judge: (subject, report) => {
      if (!facts.judges(subject.type)) {
        return;
      }
      judgeKnown(
        facts,
        [subject],
        ([known = subject], say) => {
          judge(known, say);
        },
        report,
      );
    },
  };
}

/** The same for a rule about several resources together. */
export function stackRule(facts: RuleFacts, judge: StackRule["judge"]): StackRule {
  return {
    ...facts,
    kind: "stack",
    judge: (subjects, report) => {
      judgeKnown(facts, subjects, judge, report);
    },
  };
}

/**
 * Judges, and says of every unknown value that the judgement meets that it is one: each that is met is
 * left out and the subjects are judged again, for the ones behind it.
 */
function judgeKnown(
  facts: RuleFacts,
  subjects: readonly Subject[],
  judge: StackRule["judge"],
  report: StackReport,
): void {
  let say: StackReport = (message, subject) => {
    report(`${message} ${facts.remediation}`, subject);
  };
  for (let asked = subjects; ;) {
    try {
      judge(asked, say);
      return;
    } catch (error) {
      // What is left out may be needed for judging on: the verdict stands already.
      if (asked !== subjects && !isUnknownValue(error)) {
        return;
      }
      const path = unknownPath(error);
      const unknown = new Set(asked.filter(({ props }) => isUnknownAt(props, path)));
      for (const subject of unknown) {
        report(unknownMessage(subject.name, path), subject);
      }
      // Whatever is unknown is a violation, found again or not.
      if (unknown.size === 0) {
        report(unknownMessage("the stack", path));
        return;
      }
      asked = asked.map((subject) =>
        unknown.has(subject) ? { ...subject, props: without(subject.props, path) } : subject,
      );
      // What it says of a stack with something left out is not about the stack.
      say = () => undefined;
    }
  }
}

/** The value as it is, but for what lies at the path: that is not there. */
function without(value: unknown, [step, ...rest]: readonly string[]): unknown {
  return new Proxy(value as object, {
    get: (target, key): unknown => {
      if (key !== step) {
        return Reflect.get(target, key);
      }
      return rest.length === 0 ? undefined : without(Reflect.get(target, key), rest);
    },
  });
}

/** Why a rule must not meet an unknown value, as it is said of one. */
function unknownMessage(name: string, path: readonly string[]): string {
  return `${name}: ${path.join(".")} must be known at preview, got an unknown value. Pass a plain value, not an Output.`;
}

/** Where a value was read that is not known; an error of another kind is thrown again. */
export function unknownPath(error: unknown): readonly string[] {
  if (isUnknownValue(error)) {
    return error.props.map(String);
  }
  throw error;
}

/** Whether it is the SDK's UnknownValueError, told by what it carries: rules load no SDK. */
function isUnknownValue(
  error: unknown,
): error is Error & { readonly props: readonly PropertyKey[] } {
  return error instanceof Error && "unknownTypeSentinel" in error && "props" in error;
}

function isUnknownAt(props: unknown, path: readonly string[]): boolean {
  try {
    path.reduce<unknown>(
      (value, step) =>
        typeof value === "object" && value !== null
          ? (value as Record<string, unknown>)[step]
          : undefined,
      props,
    );
    return false;
  } catch (error) {
    return unknownPath(error).length > 0;
  }
}

/** Every text in a value, with its path; what is not known yet is left out. */
export function* texts(
  value: unknown,
  path: readonly string[] = [],
): Generator<readonly [path: readonly string[], text: string]> {
  if (typeof value === "string") {
    yield [path, value];
  } else if (typeof value === "object" && value !== null) {
    for (const key of Object.keys(value)) {
      let inner: unknown;
      try {
        inner = (value as Record<string, unknown>)[key];
      } catch (error) {
        unknownPath(error);
        continue;
      }
      yield* texts(inner, [...path, key]);
    }
  }
}

/** How a value is told in a message: short, and never an object's content. */
export function shown(value: unknown): string {
  if (value === undefined || value === null) {
    return "none";
  }
  if (Array.isArray(value)) {
    return value.length === 0 ? "none" : value.map(shown).join(", ");
  }
  if (typeof value === "object") {
    return "an object";
  }
  return typeof value === "string" ? value : JSON.stringify(value);
}
