import type { Exception } from "../model/exceptions.ts";
import type { RuleFacts, Source } from "../policies/rule.ts";

/** What came out of asking a rule; each is a value of its own, and none stands for another. */
export const STATUSES = ["pass", "fail", "not-assessed"] as const;
export type Status = (typeof STATUSES)[number];

/** One rule's answer about one subject. */
export interface Finding {
  /** Name of the rule. */
  readonly rule: string;
  readonly status: Status;
  readonly source: Source;
  /** What was looked at as one: a stack, a tenant on a machine, or a machine. */
  readonly scope: string;
  /** What the answer is about: a resource, a live object, or the scope as a whole. */
  readonly subject: string;
  /** What holds, what is wrong and the way out, or why it could not be judged. */
  readonly message: string;
  /** Where it was read and the SHA-256 of what was read. */
  readonly evidence: { readonly readFrom: string; readonly sha256: string };
  /** Whether an exception lets it be. The status stays what it is. @default none */
  readonly exception?: Exception;
}

/** Everything that a review found, from which every format is written. */
export interface RecordSet {
  readonly fleet: string;
  /** Version of the policy pack. */
  readonly packVersion: string;
  /** When it was read, ISO 8601, UTC. */
  readonly reviewedAt: string;
  /** The moment it is about where that is earlier: the state as it was recorded then. */
  readonly asOf?: string;
  readonly rules: readonly RuleFacts[];
  readonly findings: readonly Finding[];
  /** Every exception, in force or not. */
  readonly exceptions: readonly Exception[];
}

/** How many findings there are of each status. */
export type Counts = Readonly<Record<Status, number>>;

/** Counts the findings of a set. */
export function countsOf(findings: readonly Finding[]): Counts {
  const counts = { pass: 0, fail: 0, "not-assessed": 0 };
  for (const { status } of findings) {
    counts[status] += 1;
  }
  return counts;
}

/** Failures that no exception lets be: what a review ends with an error for. */
export function openFailures(findings: readonly Finding[]): readonly Finding[] {
  return findings.filter(({ status, exception }) => status === "fail" && exception === undefined);
}
