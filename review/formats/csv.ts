import type { RecordSet } from "../finding.ts";

const COLUMNS = [
  ...["rule", "status", "severity", "group", "source", "scope", "subject", "message"],
  ...["claims", "references", "exception", "readFrom", "sha256"],
];

/** One line per finding, as RFC 4180 has it: what an auditor samples from. */
export function asCsv({ findings, rules }: RecordSet): string {
  const facts = new Map(rules.map((rule) => [rule.name, rule]));
  const lines = findings.map((finding) => {
    const rule = facts.get(finding.rule);
    return [
      ...[finding.rule, finding.status, rule?.severity ?? "", rule?.group ?? ""],
      ...[finding.source, finding.scope, finding.subject, finding.message],
      ...[(rule?.claims ?? []).join(" "), (rule?.references ?? []).join("; ")],
      finding.exception === undefined
        ? ""
        : `${finding.exception.approver} until ${finding.exception.endDate}`,
      ...[finding.evidence.readFrom, finding.evidence.sha256],
    ];
  });
  return [COLUMNS, ...lines].map((cells) => `${cells.map(cell).join(",")}\r\n`).join("");
}

function cell(text: string): string {
  // A cell that begins like a formula would be run by a spreadsheet.
  const harmless = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}
