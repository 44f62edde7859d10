import { countsOf, openFailures, STATUSES } from "../finding.ts";
import type { Finding, RecordSet } from "../finding.ts";
import { escaped } from "./escaped.ts";

const STYLE = `
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1c1c1c; background: #fff; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid #d5d5d5; overflow-wrap: anywhere; }
.pass { color: #0b6b2b; } .fail { color: #a30000; font-weight: 600; } .not-assessed { color: #6a4b00; }
small, .quiet { color: #555; } code { font-size: .85em; }
@media (prefers-color-scheme: dark) { body { color: #eee; background: #161616; } th, td { border-color: #444; }
  .pass { color: #6fd08c; } .fail { color: #ff8a80; } .not-assessed { color: #e0bd6a; } small, .quiet { color: #aaa; } }
`;

/** One page that needs nothing else: what fails first, then every finding with its evidence. */
export function asHtml(records: RecordSet): string {
  const { findings, rules, fleet, reviewedAt, asOf, packVersion, exceptions } = records;
  const counts = countsOf(findings);
  const failures = openFailures(findings);
  const facts = new Map(rules.map((rule) => [rule.name, rule]));
  const row = (finding: Finding): string =>
    `<tr data-status="${finding.status}"><td class="${finding.status}">${finding.status}${
      finding.exception === undefined ? "" : " (exception)"
    }</td><td>${escaped(finding.source)}<br><small>${escaped(finding.scope)}</small></td><td>${escaped(finding.subject)}</td><td>${escaped(
      finding.message,
    )}<br><small>${escaped(finding.evidence.readFrom)}<br><code>sha256 ${finding.evidence.sha256}</code></small></td></tr>`;
  const table = (of: readonly Finding[]): string =>
    `<table><thead><tr><th>Result</th><th>Where</th><th>What</th><th>Finding and evidence</th></tr></thead><tbody>
${of.map(row).join("\n")}
</tbody></table>`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Compliance review of ${escaped(fleet)}</title>
<style>${STYLE}</style>
</head>
<body>
<h1>Compliance review of ${escaped(fleet)}</h1>
<p class="quiet">Read on ${reviewedAt}${asOf === undefined ? "" : `, about the state as of ${asOf}`}; policy pack ${escaped(packVersion)}, ${rules.length} rules.</p>
<table><thead><tr>${STATUSES.map((status) => `<th class="${status}">${status}</th>`).join("")}<th>all</th></tr></thead>
<tbody><tr>${STATUSES.map((status) => `<td id="count-${status}">${counts[status]}</td>`).join("")}<td>${findings.length}</td></tr></tbody></table>
<h2>What must be put right</h2>
${failures.length === 0 ? "<p>Nothing.</p>" : `<p>${failures.length} findings; each is told again below, under its rule.</p><ul>${failures.map(({ message }) => `<li>${escaped(message)}</li>`).join("\n")}</ul>`}
<h2>Exceptions</h2>
${
  exceptions.length === 0
    ? "<p>None.</p>"
    : `<ul>${exceptions
        .map(
          ({ tenant, rule, reason, approver, endDate }) =>
            `<li>${escaped(tenant)} from ${escaped(rule)} until ${escaped(endDate)}, approved by ${escaped(approver)}: ${escaped(reason)}</li>`,
        )
        .join("\n")}</ul>`
}
${[...Map.groupBy(findings, ({ rule }) => rule)]
  .map(([name, own]) => {
    const rule = facts.get(name);
    return `<h2 id="${escaped(name)}">${escaped(name)}</h2>
<p>${escaped(rule?.description ?? "")}</p>
<p class="quiet">${escaped(rule?.group ?? "")}, ${escaped(rule?.severity ?? "")}; claims ${escaped((rule?.claims ?? []).join(", "))}; asked for by ${escaped((rule?.references ?? []).join("; "))}</p>
${table(own)}`;
  })
  .join("\n")}
</body>
</html>
`;
}
