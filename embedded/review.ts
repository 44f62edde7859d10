import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import { parseArgs } from "node:util";
import { parse } from "yaml";

import { parseFleet } from "../model/settings.ts";
import { tenantStackName, tenantName } from "../model/tenant-name.ts";
import { countsOf, type Finding, openFailures, type RecordSet } from "../review/finding.ts";
import { previewFindings } from "../review/preview.ts";
import { answer, readLive, review as reviewed, tenantsIn, writeReports } from "../review/review.ts";
import { ReviewError } from "../review/review-error.ts";
import { storedStacks, type StoredStack } from "../review/state.ts";
import { secretSource } from "../stacks/secret-source.ts";
import { judgedPreview } from "./deploy.ts";
import { projectName, pulumiFailure, STATE } from "./engine/engine.ts";
import { LOCAL_FLEET, localStackOf } from "./local-fleet.ts";
import { asOperator, type PlatformFacts, platformFacts } from "./machines/platform.ts";
import { CACHE, ROOT } from "./paths.ts";
import { PlatformError } from "./platform-error.ts";

/** Says that this process is in the namespace from which the machines can be reached. */
const INSIDE = "FLUX_REVIEW_INSIDE";
const SOURCES = ["preview", "state", "live"] as const;
type SourceName = (typeof SOURCES)[number];

/**
 * `npm run review [-- options]`: judges previews, stored state and what is live, and writes one record set in six formats.
 *
 * - `--only preview,state,live` looks at some of the three alone; state needs no platform.
 * - `--from <tenant> --to <tenant>` answers whether one can reach the other.
 * - `--as-of <day or moment>` is about the state as it was recorded then.
 * - `--output <folder>` says where the files go.
 *
 * Ends with 1 where something must be put right.
 */
export async function review(args: readonly string[]): Promise<number> {
  try {
    return await reviewOrRefuse(args);
  } catch (error) {
    // A refusal is for the person at the keyboard: it is shown without a stack trace.
    throw error instanceof ReviewError ? new PlatformError(error.message, { cause: error }) : error;
  }
}

async function reviewOrRefuse(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      only: { type: "string" },
      from: { type: "string" },
      to: { type: "string" },
      "as-of": { type: "string" },
      output: { type: "string" },
      state: { type: "string" },
    },
  });
  const asOf = values["as-of"] === undefined ? undefined : momentOf(values["as-of"]);
  const isQuestion = values.from !== undefined || values.to !== undefined;
  if (
    isQuestion &&
    (values.from === undefined || values.to === undefined || values.from === values.to)
  ) {
    throw new ReviewError(
      `Options "--from" and "--to": must name two tenants, got ${values.from ?? "none"} and ${values.to ?? "none"}. Name both.`,
    );
  }
  const sources = sourcesOf(values.only, asOf !== undefined, isQuestion);
  const facts =
    sources.includes("live") || sources.includes("preview") ? await running() : undefined;
  if (facts !== undefined && process.env[INSIDE] === undefined) return inside(facts, args);

  const now = new Date();
  const stacks = await storedStacks(values.state ?? STATE, projectName(), asOf);
  const input = {
    fleet: LOCAL_FLEET,
    now,
    previews:
      facts !== undefined && sources.includes("preview") ? await previews(stacks, facts, now) : [],
    stacks,
    live:
      facts !== undefined && sources.includes("live")
        ? await readLive(await fleetSettings(), secretSource(ROOT, process.env))
        : undefined,
    ...(asOf === undefined ? {} : { asOf }),
  };
  const records = isQuestion
    ? answer(input, values.from ?? "", values.to ?? "")
    : reviewed(
        sources.includes("state") || input.live !== undefined ? input : { ...input, stacks: [] },
      );
  const folder = resolve(values.output ?? join(CACHE, "review"));
  await writeReports(records, folder);
  tell(records, folder, isQuestion);
  return openFailures(records.findings).length === 0 ? 0 : 1;
}

function sourcesOf(
  only: string | undefined,
  isPast: boolean,
  isQuestion: boolean,
): readonly SourceName[] {
  const asked = only?.split(",") ?? (isPast ? ["state"] : isQuestion ? ["state", "live"] : SOURCES);
  const known = SOURCES.filter((source) => asked.includes(source));
  if (known.length !== asked.length || (isPast && known.join() !== "state")) {
    throw new ReviewError(
      `Option "--only": must be of ${SOURCES.join(", ")}${isPast ? ", and state alone with --as-of" : ""}, got ${asked.join(", ")}. Correct it, or leave it out.`,
    );
  }
  return known;
}

/** A day means its end: what was so on that day. */
function momentOf(text: string): Date {
  const moment = new Date(/^\d{4}-\d{2}-\d{2}$/.test(text) ? `${text}T23:59:59.999Z` : text);
  if (Number.isNaN(moment.getTime())) {
    throw new ReviewError(
      `Option "--as-of": must be a day or a moment, 2026-03-01 or 2026-03-01T12:00:00Z, got "${text}". Correct it.`,
    );
  }
  return moment;
}

async function running(): Promise<PlatformFacts> {
  const facts = await platformFacts();
  if (facts === undefined) {
    throw new ReviewError(
      "Platform: must run for a review of previews and of what is live, got none running. Run npm start, or review the stored state with --only state.",
    );
  }
  return facts;
}

/** The same command once more, where the machines can be reached. */
function inside(facts: PlatformFacts, args: readonly string[]): number {
  const [program = "", ...rest] = asOperator(
    [process.execPath, join(import.meta.dirname, "main.ts"), "review", ...args],
    facts,
  );
  const { status, error } = spawnSync(program, rest, {
    stdio: "inherit",
    env: { ...process.env, [INSIDE]: "1" },
  });
  if (error !== undefined) throw error;
  return status ?? 1;
}

/** The fleet's settings, from the file that its stack reads. */
async function fleetSettings(): Promise<ReturnType<typeof parseFleet>> {
  const { configFile } = localStackOf(LOCAL_FLEET);
  const { config } = parse(await readFile(configFile, "utf8")) as {
    readonly config: { readonly [key: string]: unknown };
  };
  return parseFleet(config["fluxbilling:fleet"], relative(ROOT, configFile));
}

async function previews(
  stacks: readonly StoredStack[],
  facts: PlatformFacts,
  now: Date,
): Promise<readonly Finding[]> {
  const names = [
    LOCAL_FLEET,
    ...tenantsIn(stacks).map((tenant) => tenantStackName(LOCAL_FLEET, tenantName(tenant))),
  ];
  const findings: Finding[] = [];
  // One after the other: each takes a process of every provider.
  for (const name of names) {
    const { run, report } = await judgedPreview(localStackOf(name), facts, {
      onLine: () => undefined,
    });
    const ending = run.exitCode === 0 ? "without an error" : pulumiFailure(name, run).message;
    findings.push(...previewFindings(name, report, ending, now));
  }
  return findings;
}

function tell(records: RecordSet, folder: string, isQuestion: boolean): void {
  const counts = countsOf(records.findings);
  const lines = isQuestion
    ? records.findings.map(
        ({ status, source, subject, message }) =>
          `  ${status.padEnd(12)} ${source.padEnd(7)} ${subject}: ${message}`,
      )
    : openFailures(records.findings).map(
        ({ rule, source, scope, message }) => `  ${rule} (${source}, ${scope}): ${message}`,
      );
  process.stdout.write(
    `${lines.join("\n")}${lines.length > 0 ? "\n\n" : ""}${counts.pass} pass, ${counts.fail} fail, ${counts["not-assessed"]} not assessed` +
      `${records.asOf === undefined ? "" : `, as of ${records.asOf}`}. ${relative(process.cwd(), folder)}/review.{html,json,sarif,junit.xml,oscal.json,csv}\n`,
  );
}
