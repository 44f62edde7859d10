import { join } from "node:path";
import { writeFileSync } from "node:fs";
import { REVIEWED_PACK } from "../model/policy-pack.ts";
import type { Group, RuleFacts } from "../policies/rule.ts";
import { RULES } from "../policies/rules.ts";
import { REVIEW_ONLY_RULES } from "./review.ts";

const GROUPS: readonly Group[] = [
  "isolation",
  "transport",
  "residency",
  "backup",
  "secrets",
  "supply chain",
  "lifecycle",
  "plans",
];

/** `docs/policies.md`: what a rule's link leads to, drawn from the rules themselves. Covers every rule a report can name. */
export function rulesDocument(): string {
  return `# Rules of the policy pack

Written by \`node review/document.ts\` out of the rules themselves; a test holds the two together. Version
${REVIEWED_PACK.version}, ${RULES.length} rules, each mandatory.

## How a run is checked

A preview is judged before anything is touched. A value that is not known yet, where a rule looks, is a violation; so is a
type of resource that the pack does not know. At the end the pack's last policy, \`every-rule-ran\`, refuses a stack that not
every rule was asked about, and writes how many rules ran over how many resources. The deploying code compares that with
\`model/policy-pack.ts\` and refuses a pack of another version, with fewer rules, with a rule that was disabled or let
violations pass, and a run without the pack. Nothing is changed before that.

An exception is data in \`model/exceptions.ts\`: tenant, rule, reason, approver and last day. It is listed in every report,
lets one tenant off one rule, and is itself a violation once its day has passed.

## How the rules are proved

The tests spoil a good fleet and good tenants, one thing at a time (\`tests/policies/mutants.ts\`): each rule refuses its mutants, and is
the only one to refuse some. Every field that a rule reads is refused when it is unknown, and no network policy that passes opens a
flow but the tenant's own. \`tests/engine/mutants.test.ts\` then runs the real program on the real engine and spoils its resources on
their way there: each mutant, and an Output in each field that is judged, must be refused at preview by the rule's whole sentence.

## Where the rules are asked

\`npm run review\` runs the same rules over a stack's stored state and over the live clusters and servers.
${GROUPS.map(
  (group) => `
## ${group[0]?.toUpperCase() ?? ""}${group.slice(1)}
${RULES.filter((rule) => rule.group === group)
  .map(section)
  .join("")}`,
).join("")}
## Only in a review

What no preview shows: servers as they run, all tenants together, what was made by hand.
${REVIEW_ONLY_RULES.map(section).join("")}`;
}

function section(rule: RuleFacts): string {
  const blind = Object.entries(rule.blindIn ?? {}).map(
    ([source, reason]) => `- Not assessed in ${source}: ${reason}.\n`,
  );
  return `
### ${rule.name}

${rule.description}

- Severity: ${rule.severity}.
- Claims: ${rule.claims.join(", ")}.
- Asked for by: ${rule.references.join("; ")}.
- Way out: ${rule.remediation}
${blind.join("")}`;
}

if (import.meta.main) {
  writeFileSync(join(import.meta.dirname, "../docs/policies.md"), rulesDocument());
}
