import { createHash } from "node:crypto";
import type { Finding, RecordSet } from "../finding.ts";

/** Namespace of the properties that OSCAL has no word for. */
const NAMESPACE = "https://fluxbilling.dev/ns/oscal";

/**
 * OSCAL 1.1.2 assessment results: an observation per finding, and per rule one finding that is satisfied
 * only where each of its observations passed.
 *
 * OSCAL knows satisfied and not-satisfied alone, so each observation carries its status as a property;
 * a rule of which nothing could be assessed is not satisfied, with the reason `other`. Ids follow from
 * the content: the same record set gives the same file.
 */
export function asOscal(records: RecordSet): string {
  const { findings, rules, reviewedAt, packVersion, fleet } = records;
  const observations = findings.map((finding, index) => observation(finding, index, reviewedAt));
  const byRule = Map.groupBy(
    findings.map((finding, index) => ({ finding, uuid: observations[index]?.uuid ?? "" })),
    ({ finding }) => finding.rule,
  );
  const judged = rules.filter(({ name }) => byRule.has(name));
  return `${JSON.stringify(
    {
      "assessment-results": {
        uuid: uuidOf("assessment-results", fleet, reviewedAt),
        metadata: {
          title: `Compliance review of the fleet ${fleet}`,
          "last-modified": reviewedAt,
          version: packVersion,
          "oscal-version": "1.1.2",
        },
        // The plan is the pack: what is asked of whom, under its version.
        "import-ap": { href: "docs/policies.md" },
        results: [
          {
            uuid: uuidOf("result", fleet, reviewedAt),
            title: `Rules of the policy pack ${packVersion}`,
            description:
              "Previews, stored state, live clusters and servers, judged by the same rules.",
            start: records.asOf ?? reviewedAt,
            end: reviewedAt,
            "reviewed-controls": {
              "control-selections": [
                { "include-controls": judged.map(({ name }) => ({ "control-id": name })) },
              ],
            },
            observations,
            findings: judged.map((rule) => {
              const own = byRule.get(rule.name) ?? [];
              const failed = own.some(({ finding }) => finding.status === "fail");
              const passed = own.some(({ finding }) => finding.status === "pass");
              return {
                uuid: uuidOf("finding", fleet, reviewedAt, rule.name),
                title: rule.name,
                description: rule.description,
                props: [
                  property("severity", rule.severity),
                  ...rule.claims.map((claim) => property("claim", claim)),
                  ...rule.references.map((reference) => property("reference", reference)),
                ],
                target: {
                  type: "objective-id",
                  "target-id": rule.name,
                  status: {
                    state: passed && !failed ? "satisfied" : "not-satisfied",
                    reason: failed ? "fail" : passed ? "pass" : "other",
                  },
                },
                "related-observations": own.map(({ uuid }) => ({ "observation-uuid": uuid })),
              };
            }),
          },
        ],
      },
    },
    null,
    2,
  )}\n`;
}

function observation(
  finding: Finding,
  index: number,
  collected: string,
): { readonly uuid: string; readonly [field: string]: unknown } {
  return {
    uuid: uuidOf(
      "observation",
      String(index),
      finding.rule,
      finding.scope,
      finding.subject,
      collected,
    ),
    title: `${finding.rule}: ${finding.subject}`,
    description: finding.message,
    props: [
      property("status", finding.status),
      property("source", finding.source),
      property("scope", finding.scope),
      property("evidence-sha256", finding.evidence.sha256),
      ...(finding.exception === undefined
        ? []
        : [
            property("exception-approver", finding.exception.approver),
            property("exception-ends", finding.exception.endDate),
          ]),
    ],
    methods: [finding.source === "live" ? "TEST" : "EXAMINE"],
    "relevant-evidence": [{ description: finding.evidence.readFrom }],
    collected,
  };
}

function property(name: string, value: string): object {
  return { name, ns: NAMESPACE, value };
}

/** A UUID of version 5's form, out of what it names. */
function uuidOf(...parts: readonly string[]): string {
  const bytes = createHash("sha256").update(JSON.stringify(parts)).digest().subarray(0, 16);
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x50;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = bytes.toString("hex");
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    hex.slice(12, 16),
    hex.slice(16, 20),
    hex.slice(20),
  ].join("-");
}
