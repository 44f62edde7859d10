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
      const say = (message: string): void => {
        report(`${message} ${facts.remediation}`);
      };
      try {
        judge(subject, say);
      } catch (error) {
        report(unknownMessage(subject.name, unknownPath(error)));
      }
    },
  };
}

/** The same for a rule about several resources together. */
export function stackRule(facts: RuleFacts, judge: StackRule["judge"]): StackRule {
  return {
    ...facts,
    kind: "stack",
    judge: (subjects, report) => {
      try {
        judge(subjects, (message, subject) => {
          report(`${message} ${facts.remediation}`, subject);
        });
      } catch (error) {
        const path = unknownPath(error);
        const unknown = subjects.filter(({ props }) => isUnknownAt(props, path));
        for (const subject of unknown) {
          report(unknownMessage(subject.name, path), subject);
        }
        // Whatever is unknown is a violation, found again or not.
        if (unknown.length === 0) {
          report(unknownMessage("the stack", path));
        }
      }
    },
  };
}

/** Why a rule must not meet an unknown value, as it is said of one. */
function unknownMessage(name: string, path: readonly string[]): string {
  return `${name}: ${path.join(".")} must be known at preview, got an unknown value. Pass a plain value, not an Output.`;
}

/** Where a value was read that is not known; an error of another kind is thrown again. */
export function unknownPath(error: unknown): readonly string[] {
  // The SDK's UnknownValueError, told by what it carries: rules load no SDK.
  if (error instanceof Error && "unknownTypeSentinel" in error && "props" in error) {
    return (error.props as readonly PropertyKey[]).map(String);
  }
  throw error;
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
