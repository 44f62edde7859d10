/**
 * A rule of the policy pack that one tenant need not keep for a while.
 *
 * It is data under review: whoever approves it is named, and it ends by itself. Every report lists it.
 */
export interface Exception {
  /** Name of the tenant, or {@link FLEET} for what all tenants share. */
  readonly tenant: string;
  /** Name of the rule. */
  readonly rule: string;
  /** Why, as a sentence that a reviewer can judge. */
  readonly reason: string;
  /** Who approved it. */
  readonly approver: string;
  /** Last day on which it holds, `YYYY-MM-DD`, UTC. */
  readonly endDate: string;
}

/** What an exception names as its tenant where it is about the fleet's own stack. */
export const FLEET = "fleet";

/** Longest time that an exception may still have before it, in days. */
export const EXCEPTION_MAX_DAYS = 90;

/** Every exception that is in force or was forgotten. */
export const EXCEPTIONS: readonly Exception[] = [];

const DAY_MS = 86_400_000;

/** What is wrong with an exception itself, as `<what> must be <rule>, got <value>`. */
export function exceptionFaults(exception: Exception, now: Date): readonly string[] {
  const faults: string[] = [];
  for (const field of ["tenant", "rule", "reason", "approver"] as const) {
    if (exception[field].trim() === "") {
      faults.push(`${field} must be given, got none`);
    }
  }
  const end = endOf(exception);
  if (end === undefined) {
    faults.push(`endDate must be a day, YYYY-MM-DD, got ${exception.endDate}`);
  } else if (end <= now.getTime()) {
    faults.push(`endDate must not have passed, got ${exception.endDate}`);
  } else if (end - now.getTime() > (EXCEPTION_MAX_DAYS + 1) * DAY_MS) {
    faults.push(
      `endDate must be at most ${EXCEPTION_MAX_DAYS} days ahead, got ${exception.endDate}`,
    );
  }
  return faults;
}

/** The exception that lets a tenant off a rule now; one with a fault lets nobody off. */
export function exceptionFor(
  exceptions: readonly Exception[],
  tenant: string,
  rule: string,
  now: Date,
): Exception | undefined {
  return exceptions.find(
    (exception) =>
      exception.tenant === tenant &&
      exception.rule === rule &&
      exceptionFaults(exception, now).length === 0,
  );
}

/** Whom a stack is about, as exceptions name it: `<fleet>.<tenant>` is the tenant's, `<fleet>.host.<location>` no tenant's. */
export function exceptionTenant(stack: string): string {
  const dot = stack.indexOf(".");
  return dot < 0 ? FLEET : stack.slice(dot + 1);
}

/** The first moment at which it no longer holds. */
function endOf({ endDate }: Exception): number | undefined {
  const day = /^\d{4}-\d{2}-\d{2}$/.test(endDate) ? Date.parse(`${endDate}T00:00:00Z`) : Number.NaN;
  const isDay = !Number.isNaN(day) && new Date(day).toISOString().slice(0, 10) === endDate;
  return isDay ? day + DAY_MS : undefined;
}
