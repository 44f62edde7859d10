import { createHash } from "node:crypto";
import { exceptionFor, EXCEPTIONS, exceptionTenant } from "../model/exceptions.ts";
import type { PackReport } from "../model/policy-pack.ts";
import { packShortfalls } from "../model/policy-pack.ts";
import { RULES } from "../policies/rules.ts";
import type { Finding } from "./finding.ts";
import { nameOf } from "./state.ts";

/**
 * Findings of a preview, out of what the pack itself has written: its rules saw the resources as the
 * engine would make them.
 *
 * @param report `undefined` where the preview ended before the pack could report.
 * @param ending How the preview ended, in the engine's words; a preview without a report fails by it.
 */
export function previewFindings(
  stack: string,
  report: PackReport | undefined,
  ending: string,
  now: Date,
): readonly Finding[] {
  const base = {
    source: "preview" as const,
    scope: stack,
    evidence: {
      readFrom: `preview of ${stack} at ${now.toISOString()}`,
      sha256: createHash("sha256")
        .update(report === undefined ? ending : JSON.stringify(report))
        .digest("hex"),
    },
  };
  const tenant = exceptionTenant(stack);
  if (report === undefined) {
    return RULES.map((rule) => ({
      ...base,
      rule: rule.name,
      status: "not-assessed",
      subject: stack,
      message: `${rule.description} Not assessed: the preview ended before the pack could report: ${ending}`,
    }));
  }
  const shortfalls = packShortfalls({
    ...report,
    rules: report.rules.map((ran) => ({ ...ran, violations: 0 })),
  });
  return RULES.flatMap((rule): readonly Finding[] => {
    const ran = report.rules.find(({ name }) => name === rule.name);
    const own = shortfalls.find((shortfall) => shortfall.startsWith(`${rule.name} `));
    const finding = (status: Finding["status"], message: string, urn?: string): Finding => {
      const exception =
        status === "fail" ? exceptionFor(EXCEPTIONS, tenant, rule.name, now) : undefined;
      return {
        ...base,
        rule: rule.name,
        status,
        subject: urn === undefined ? stack : `${typeOf(urn)} ${nameOf(urn)}`,
        message,
        ...(exception === undefined ? {} : { exception }),
      };
    };
    if (ran === undefined || own !== undefined) {
      return [
        finding("not-assessed", `${rule.description} Not assessed: ${own ?? "it did not run"}.`),
      ];
    }
    const failures = [...Map.groupBy(ran.found, ({ urn }) => urn)].map(([urn, found]) =>
      finding("fail", found.map(({ message }) => message).join(" "), urn),
    );
    if (rule.kind === "stack") {
      return failures.length > 0 ? failures : [finding("pass", rule.description)];
    }
    const failed = new Set(ran.found.map(({ urn }) => urn));
    const passed = report.urns.filter((urn) => rule.judges(typeOf(urn)) && !failed.has(urn));
    return [...failures, ...passed.map((urn) => finding("pass", rule.description, urn))];
  });
}

/** The type of the resource that a URN names. */
function typeOf(urn: string): string {
  return urn.split("::").at(-2)?.split("$").at(-1) ?? "";
}
