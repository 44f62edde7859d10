import type { RuleFacts, Severity } from "../../policies/rule.ts";
import type { Finding, RecordSet } from "../finding.ts";

const KIND = { pass: "pass", fail: "fail", "not-assessed": "notApplicable" } as const;
const LEVEL: Readonly<Record<Severity, string>> = {
  critical: "error",
  high: "error",
  medium: "warning",
  low: "note",
};
/** What code scanning reads a rule's weight from, 0 to 10. */
const WEIGHT: Readonly<Record<Severity, string>> = {
  critical: "9.5",
  high: "8.0",
  medium: "5.0",
  low: "2.0",
};

/** The way out and where more is said. Not as `helpUri`, which must be absolute: the documents lie beside the program. */
function helpOf({ name, remediation }: Pick<RuleFacts, "name" | "remediation">): object {
  const page = `docs/policies.md#${name}`;
  return {
    text: `${remediation} See ${page}.`,
    markdown: `${remediation} See [${name}](${page}).`,
  };
}

/** SARIF 2.1.0: passes and what was not assessed are results too, by their kind. */
export function asSarif({ rules, findings, packVersion, reviewedAt, fleet }: RecordSet): string {
  const facts = new Map(rules.map((rule) => [rule.name, rule]));
  const result = (finding: Finding): object => ({
    ruleId: finding.rule,
    ruleIndex: rules.findIndex(({ name }) => name === finding.rule),
    kind: KIND[finding.status],
    // Only a failure has a level of its own.
    level: finding.status === "fail" ? LEVEL[facts.get(finding.rule)?.severity ?? "high"] : "none",
    message: { text: finding.message },
    locations: [
      {
        logicalLocations: [
          {
            name: finding.subject,
            fullyQualifiedName: `${finding.source}/${finding.scope}/${finding.subject}`,
            kind: "resource",
          },
        ],
      },
    ],
    ...(finding.exception === undefined
      ? {}
      : {
          suppressions: [
            {
              kind: "external",
              status: "accepted",
              justification: `${finding.exception.reason} Approved by ${finding.exception.approver} until ${finding.exception.endDate}.`,
            },
          ],
        }),
    partialFingerprints: { "evidenceSha256/v1": finding.evidence.sha256 },
    properties: {
      status: finding.status,
      source: finding.source,
      readFrom: finding.evidence.readFrom,
    },
  });
  return `${JSON.stringify(
    {
      $schema: "https://json.schemastore.org/sarif-2.1.0.json",
      version: "2.1.0",
      runs: [
        {
          tool: {
            driver: {
              name: "fluxbilling-review",
              semanticVersion: packVersion,
              rules: rules.map((rule) => ({
                id: rule.name,
                shortDescription: { text: rule.description },
                fullDescription: { text: rule.description },
                help: helpOf(rule),
                defaultConfiguration: { level: LEVEL[rule.severity] },
                properties: {
                  tags: [rule.group, ...rule.claims, ...rule.references],
                  "security-severity": WEIGHT[rule.severity],
                },
              })),
            },
          },
          automationDetails: { id: `review/${fleet}/${reviewedAt}` },
          invocations: [{ executionSuccessful: true, endTimeUtc: reviewedAt }],
          results: findings.map(result),
        },
      ],
    },
    null,
    2,
  )}\n`;
}
