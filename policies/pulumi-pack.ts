import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type {
  Policies,
  PolicyResourceOptions,
  ReportViolation,
  ResourceValidationArgs,
  ResourceValidationPolicy,
  StackValidationPolicy,
} from "@pulumi/policy";
import { exceptionFor, exceptionTenant } from "../model/exceptions.ts";
import type { Exception } from "../model/exceptions.ts";
import { POLICY_PACK_NAME } from "../model/policy-pack.ts";
import type { PackReport } from "../model/policy-pack.ts";
import type { ResourceRule, Rule, StackRule, Subject } from "./rule.ts";
import { exceptionSubjects } from "./tenant-stack.ts";

/** The last policy of the pack: without it nothing tells whether the others ran. */
export const LAST_POLICY = "every-rule-ran";

/** What a run needs to know beside its rules. */
export interface PackRun {
  /** Name of the stack that is judged. */
  readonly stack: string;
  readonly exceptions: readonly Exception[];
  /** Where the report goes. @default nowhere */
  readonly reportFile?: string | undefined;
}

/**
 * Inputs of the resources that were judged one by one, by URN.
 *
 * Rules about a stack read these too: the engine hands them what a resource will come to be, in which a
 * component's inputs are missing and what a provider answers is not known yet.
 */
type Inputs = Map<string, unknown>;

/** How often a rule was asked, and what it found. */
interface Tally {
  readonly asked: Set<string>;
  violations: number;
  excepted: number;
  readonly found: { readonly urn?: string; readonly message: string }[];
}

/**
 * Rules as the SDK serves them, with one more at the end: it refuses a stack that not every rule was
 * asked about, and writes how many rules ran over how many resources.
 */
export function asPolicies(rules: readonly Rule[], run: PackRun): Policies {
  const tallies = new Map(
    rules.map((rule) => [
      rule.name,
      { asked: new Set<string>(), violations: 0, excepted: 0, found: [] },
    ]),
  );
  const inputs: Inputs = new Map();
  const policies = rules.map((rule) => {
    const tally = tallies.get(rule.name) as Tally;
    return rule.kind === "resource"
      ? resourcePolicy(rule, tally, run, inputs)
      : stackPolicy(rule, tally, run, inputs);
  });
  return [...policies, everyRuleRan(tallies, run)];
}

/** What the SDK tells a reviewer of a rule. */
function told(rule: Rule): Omit<ResourceValidationPolicy, "validateResource"> {
  const [reference = ""] = rule.references;
  const [, framework = "", point = ""] = /^(.*?) (\S+(?: \S+)?)$/.exec(reference) ?? [];
  return {
    name: rule.name,
    description: rule.description,
    enforcementLevel: "mandatory",
    severity: rule.severity,
    tags: [rule.group, ...rule.claims, ...rule.references],
    framework: { name: framework, version: "", reference: point, specification: reference },
    remediationSteps: rule.remediation,
    url: `docs/policies.md#${rule.name}`,
  };
}

function resourcePolicy(
  rule: ResourceRule,
  tally: Tally,
  run: PackRun,
  inputs: Inputs,
): ResourceValidationPolicy {
  return {
    ...told(rule),
    validateResource: (args, report) => {
      tally.asked.add(args.urn);
      inputs.set(args.urn, args.props);
      const say = counted(rule, tally, run, report);
      rule.judge(subjectOf(args, args.props), (message) => {
        say(message, args.urn);
      });
    },
  };
}

function stackPolicy(
  rule: StackRule,
  tally: Tally,
  run: PackRun,
  inputs: Inputs,
): StackValidationPolicy {
  return {
    ...told(rule),
    validateStack: (args, report) => {
      const subjects = args.resources.map((resource) => {
        const { type, urn, props } = resource;
        tally.asked.add(urn);
        // A stack has outputs alone.
        const isStack = type === "pulumi:pulumi:Stack";
        return subjectOf(resource, isStack ? props : (inputs.get(urn) ?? props));
      });
      const say = counted(rule, tally, run, report);
      rule.judge([...subjects, ...exceptionSubjects(run.exceptions)], (message, subject) => {
        say(message, subject?.urn);
      });
    },
  };
}

/** Reports a violation, unless the tenant has an exception from the rule. */
function counted(
  rule: Rule,
  tally: Tally,
  run: PackRun,
  report: ReportViolation,
): (message: string, urn?: string) => void {
  return (message, urn) => {
    const isWhole = urn === undefined || urn === "";
    tally.found.push({ message, ...(isWhole ? {} : { urn }) });
    const tenant = exceptionTenant(run.stack);
    if (exceptionFor(run.exceptions, tenant, rule.name, new Date()) !== undefined) {
      tally.excepted += 1;
      return;
    }
    tally.violations += 1;
    report(message, isWhole ? undefined : urn);
  };
}

function everyRuleRan(tallies: ReadonlyMap<string, Tally>, run: PackRun): StackValidationPolicy {
  return {
    name: LAST_POLICY,
    description: "Every rule of the pack was asked about every resource of the stack.",
    enforcementLevel: "mandatory",
    severity: "critical",
    url: "docs/policies.md#how-a-run-is-checked",
    validateStack: ({ resources }, report) => {
      const urns = resources.map(({ urn }) => urn);
      for (const [name, { asked }] of tallies) {
        const missed = urns.filter((urn) => !asked.has(urn));
        if (missed.length > 0) {
          report(
            `${name}: must be asked about all ${urns.length} resources, got ${urns.length - missed.length}, not ${missed[0]?.split("::").at(-1) ?? ""}. Enable the rule, and pass the pack without a configuration.`,
          );
        }
      }
      const written: PackReport = {
        pack: POLICY_PACK_NAME,
        version: packVersion(),
        resources: urns.length,
        urns,
        rules: [...tallies].map(([name, { asked, violations, excepted, found }]) => ({
          name,
          resources: urns.filter((urn) => asked.has(urn)).length,
          violations,
          excepted,
          found,
        })),
      };
      if (run.reportFile !== undefined) {
        writeFileSync(run.reportFile, JSON.stringify(written));
      }
    },
  };
}

/** The pack's own version, as its package says it. */
function packVersion(): string {
  const text = readFileSync(join(import.meta.dirname, "package.json"), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

function subjectOf(
  {
    type,
    name,
    urn,
    provider,
    opts,
  }: Pick<ResourceValidationArgs, "type" | "name" | "urn" | "provider"> & {
    readonly opts: Pick<PolicyResourceOptions, "protect" | "ignoreChanges">;
  },
  props: unknown,
): Subject {
  return { type, name, urn, props, provider, opts };
}
