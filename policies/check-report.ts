/**
 * `node policies/check-report.ts <file>`: refuses unless the whole reviewed pack has judged a preview and let nothing pass.
 *
 * For deploys that run `pulumi` themselves: set FLUX_POLICY_REPORT to the file for the preview, and run this before `up`.
 */
import { readFileSync } from "node:fs";
import { packShortfalls } from "../model/policy-pack.ts";
import type { PackReport } from "../model/policy-pack.ts";

const [, , file = ""] = process.argv;
const shortfalls = packShortfalls(read(file));
for (const shortfall of shortfalls) {
  process.stderr.write(
    `Report "${file}": ${shortfall}. Restore policies/ from git and preview again.\n`,
  );
}
process.exitCode = shortfalls.length === 0 ? 0 : 1;

function read(path: string): PackReport | undefined {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as PackReport;
  } catch {
    return undefined;
  }
}
