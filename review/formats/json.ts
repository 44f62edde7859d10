import { countsOf } from "../finding.ts";
import type { RecordSet } from "../finding.ts";

/** The record set itself, with its counts. */
export function asJson(records: RecordSet): string {
  return `${JSON.stringify({ counts: countsOf(records.findings), ...records }, null, 2)}\n`;
}
