import { exceptionFaults } from "../../model/exceptions.ts";
import type { Exception } from "../../model/exceptions.ts";
import { stackRule } from "../rule.ts";
import { EXCEPTION_TYPE, ofType } from "../tenant-stack.ts";

/**
 * Every exception to a rule has a reason, an approver and an end that has not passed.
 *
 * Why: an exception that nobody ends is the rule.
 * Blind to: whether the reason is a good one.
 */
export const noExceptionHasEnded = stackRule(
  {
    name: "no-exception-has-ended",
    description:
      "Every exception to a rule has a reason, an approver and an end that has not passed.",
    group: "lifecycle",
    severity: "high",
    claims: ["F42"],
    references: ["SOC 2 CC8.1", "ISO 27001:2022 A.5.15", "PCI DSS 4.0.1 6.5.1"],
    remediation: "Remove it from model/exceptions.ts, or have it approved again with a new end.",
  },
  (subjects, report) => {
    for (const { subject, props } of ofType<Exception>(subjects, EXCEPTION_TYPE)) {
      for (const fault of exceptionFaults(props, new Date())) {
        report(`${subject.name}: ${fault}.`, subject);
      }
    }
  },
);
