import { countsOf } from "../finding.ts";
import type { Finding, RecordSet } from "../finding.ts";
import { escaped } from "./escaped.ts";

/** One suite per rule; a finding that could not be assessed is skipped, with its reason. */
export function asJunit({ findings, reviewedAt, fleet }: RecordSet): string {
  const counts = countsOf(findings);
  const suites = [...Map.groupBy(findings, ({ rule }) => rule)].map(([rule, cases]) => {
    const of = countsOf(cases);
    return `  <testsuite name="${escaped(rule)}" tests="${cases.length}" failures="${of.fail}" errors="0" skipped="${of["not-assessed"]}" timestamp="${reviewedAt}">
${cases.map(testCase).join("\n")}
  </testsuite>`;
  });
  return `<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="${escaped(fleet)}" tests="${findings.length}" failures="${counts.fail}" errors="0" skipped="${counts["not-assessed"]}">
${suites.join("\n")}
</testsuites>
`;
}

function testCase({ rule, status, source, scope, subject, message }: Finding): string {
  const open = `    <testcase classname="${escaped(`${source}.${scope}`)}" name="${escaped(`${rule}: ${subject}`)}"`;
  switch (status) {
    case "pass":
      return `${open}/>`;
    case "fail":
      return `${open}><failure message="${escaped(message)}"/></testcase>`;
    case "not-assessed":
      return `${open}><skipped message="${escaped(message)}"/></testcase>`;
  }
}
