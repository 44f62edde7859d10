import { UnknownValueError } from "@pulumi/policy";
import type {
  ReportViolation,
  ResourceValidation,
  ResourceValidationArgs,
  StackValidation,
  StackValidationArgs,
} from "@pulumi/policy";

/** Says what is wrong with a resource; the sentence names the resource itself. */
export type Report = (message: string) => void;

/**
 * A resource rule for which an unknown value is a violation.
 *
 * The SDK makes an advisory of a rule that meets an unknown value at preview, so a mandatory rule
 * would pass in silence. Everything that a rule judges can be plain, so it must be. Any other error
 * goes on up and fails the run.
 */
export function failClosed(
  judge: (args: ResourceValidationArgs, report: Report) => void,
): ResourceValidation {
  return (args: ResourceValidationArgs, report: ReportViolation) => {
    try {
      judge(args, (message) => {
        report(message);
      });
    } catch (error) {
      if (!(error instanceof UnknownValueError)) {
        throw error;
      }
      report(unknownMessage(args.name));
    }
  };
}

/** The same for a rule about the resources of a stack together. */
export function failClosedStack(
  judge: (args: StackValidationArgs, report: ReportViolation) => void,
): StackValidation {
  return (args: StackValidationArgs, report: ReportViolation) => {
    try {
      judge(args, report);
    } catch (error) {
      if (!(error instanceof UnknownValueError)) {
        throw error;
      }
      report(unknownMessage("the stack"));
    }
  };
}

function unknownMessage(name: string): string {
  return `${name}: everything that this rule judges must be known at preview, got an unknown value. Pass a plain value, not an Output.`;
}
