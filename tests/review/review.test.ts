import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ROOT } from "../../embedded/paths.ts";
import { RULES } from "../../policies/rules.ts";
import { countsOf, openFailures } from "../../review/finding.ts";
import type { RecordSet } from "../../review/finding.ts";
import { previewFindings } from "../../review/preview.ts";
import { answer, FORMATS, review } from "../../review/review.ts";
import { storedStacks } from "../../review/state.ts";
import { mutated } from "../policies/mutants.ts";
import { renamed, stored } from "./stored.ts";

const NOW = new Date("2026-03-02T00:00:00Z");
const GOOD = stored("local.acme");
const BAD = stored(
  "local.acme",
  mutated({
    type: "kubernetes:core/v1:Service",
    name: "acme-app-service",
    set: { "spec.type": "NodePort" },
    says: [],
  }),
);

function reviewOf(stack = GOOD): RecordSet {
  return review({ fleet: "local", now: NOW, previews: [], stacks: [stack], live: undefined });
}

describe("a review of a stored stack", () => {
  it("finds nothing to put right in a good one, and says of every rule how it was answered", () => {
    const { findings } = reviewOf();
    expect(openFailures(findings)).toEqual([]);
    expect(new Set(findings.map(({ rule }) => rule))).toEqual(
      new Set(
        RULES.filter(({ name }) => findings.some(({ rule }) => rule === name)).map(
          ({ name }) => name,
        ),
      ),
    );
    expect(
      findings.filter(({ status }) => status === "not-assessed").map(({ rule }) => rule),
    ).toEqual(["root-key-is-in-no-resource"]);
  });

  it("names resource, rule, value and way out of what is wrong, with where it was read", () => {
    expect(openFailures(reviewOf(BAD).findings)).toEqual([
      {
        rule: "service-stays-inside",
        status: "fail",
        source: "state",
        scope: "local.acme",
        subject: "kubernetes:core/v1:Service acme-app-service",
        message:
          "acme-app-service: type must be ClusterIP, got NodePort. Use a ClusterIP service with a selector; let the ingress lead in.",
        evidence: {
          readFrom:
            "local.acme as of 2026-03-01T12:00:00Z, urn:pulumi:local.acme::fluxbilling::kubernetes:core/v1:Service::acme-app-service",
          sha256: expect.stringMatching(/^[0-9a-f]{64}$/) as string,
        },
      },
    ]);
  });

  it("does not assess what is kept encrypted", () => {
    const secret = {
      "4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270",
      ciphertext: "v1:x",
    };
    const stack = {
      ...GOOD,
      resources: GOOD.resources.map((resource) =>
        resource.type === "pulumi:providers:kubernetes"
          ? { ...resource, inputs: { ...resource.inputs, kubeconfig: secret } }
          : resource,
      ),
    };
    const { findings } = reviewOf(stack);
    expect(
      findings.find(
        ({ rule, subject }) =>
          rule === "connection-proves-its-peer" && subject.endsWith("nl-1-cluster"),
      )?.status,
    ).toBe("not-assessed");
  });
});

describe("the formats of a record set", () => {
  const records = reviewOf(BAD);
  const counts = countsOf(records.findings);
  const text = (file: string): string => FORMATS[file]?.(records) ?? "";

  it("has all three answers in this set", () => {
    expect(Math.min(...Object.values(counts))).toBeGreaterThan(0);
  });

  it("counts the same in JSON", () => {
    expect(JSON.parse(text("review.json"))).toMatchObject({ counts });
  });

  it("counts the same in SARIF, by kind", () => {
    const { runs } = JSON.parse(text("review.sarif")) as {
      runs: {
        results: { kind: string; ruleId: string; ruleIndex: number }[];
        tool: { driver: { rules: { id: string }[] } };
      }[];
    };
    const results = runs[0]?.results ?? [];
    const of = (kind: string): number => results.filter((result) => result.kind === kind).length;
    expect({ pass: of("pass"), fail: of("fail"), "not-assessed": of("notApplicable") }).toEqual(
      counts,
    );
    const ids = runs[0]?.tool.driver.rules.map(({ id }) => id) ?? [];
    expect(results.filter(({ ruleId, ruleIndex }) => ids[ruleIndex] !== ruleId)).toEqual([]);
  });

  it("leads from each rule in SARIF to the section that says more of it", () => {
    const { runs } = JSON.parse(text("review.sarif")) as {
      runs: { tool: { driver: { rules: { id: string; help: { markdown: string } }[] } } }[];
    };
    const sections = new Set(
      [...readFileSync(join(ROOT, "docs", "policies.md"), "utf8").matchAll(/^### (.*)$/gm)].map(
        ([, section = ""]) => `docs/policies.md#${section}`,
      ),
    );
    const links = runs[0]?.tool.driver.rules.map(
      ({ help }) => /\]\((\S+)\)\.$/.exec(help.markdown)?.[1] ?? "none",
    );
    expect(links).toHaveLength(runs[0]?.tool.driver.rules.length ?? NaN);
    expect(links?.filter((link) => !sections.has(link))).toEqual([]);
  });

  it("counts the same in JUnit", () => {
    const xml = text("review.junit.xml");
    const of = (pattern: RegExp): number => [...xml.matchAll(pattern)].length;
    expect({
      pass: of(/<testcase [^>]*\/>/g),
      fail: of(/<failure /g),
      "not-assessed": of(/<skipped /g),
    }).toEqual(counts);
    const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
    expect(xml).toContain(
      `<testsuites name="local" tests="${total}" failures="${counts.fail}" errors="0" skipped="${counts["not-assessed"]}">`,
    );
  });

  it("counts the same in OSCAL, and calls a rule satisfied only where nothing failed", () => {
    const results = (
      JSON.parse(text("review.oscal.json")) as {
        "assessment-results": {
          results: {
            observations: { uuid: string; props: { name: string; value: string }[] }[];
            findings: { title: string; target: { status: { state: string; reason: string } } }[];
          }[];
        };
      }
    )["assessment-results"].results[0];
    const of = (status: string): number =>
      (results?.observations ?? []).filter(({ props }) =>
        props.some(({ name, value }) => name === "status" && value === status),
      ).length;
    expect({ pass: of("pass"), fail: of("fail"), "not-assessed": of("not-assessed") }).toEqual(
      counts,
    );
    const states = Object.fromEntries(
      (results?.findings ?? []).map(({ title, target }) => [title, target.status]),
    );
    expect(states["service-stays-inside"]).toEqual({ state: "not-satisfied", reason: "fail" });
    expect(states["image-by-digest"]).toEqual({ state: "satisfied", reason: "pass" });
    expect(states["root-key-is-in-no-resource"]).toEqual({
      state: "not-satisfied",
      reason: "other",
    });
    const uuids = (results?.observations ?? []).map(({ uuid }) => uuid);
    expect(new Set(uuids).size).toBe(uuids.length);
  });

  it("counts the same in CSV", () => {
    const lines = text("review.csv").trimEnd().split("\r\n").slice(1);
    const of = (status: string): number =>
      lines.filter((line) => line.split(",")[1] === status).length;
    expect({ pass: of("pass"), fail: of("fail"), "not-assessed": of("not-assessed") }).toEqual(
      counts,
    );
  });

  it("counts the same on the page, in its rows and in its table", () => {
    const page = text("review.html");
    const of = (status: string): number =>
      [...page.matchAll(new RegExp(`<tr data-status="${status}">`, "g"))].length;
    expect({ pass: of("pass"), fail: of("fail"), "not-assessed": of("not-assessed") }).toEqual(
      counts,
    );
    expect(page).toContain(`<td id="count-fail">${counts.fail}</td>`);
  });

  it("says the same bytes of the same set", () => {
    for (const format of Object.values(FORMATS)) {
      expect(format(reviewOf(BAD))).toBe(format(records));
    }
  });

  it("lets no value end a cell, an attribute or a formula", () => {
    const finding = {
      ...(records.findings[0] as (typeof records.findings)[0]),
      message: '=1+1,"</td><script>&',
    };
    const spoilt = { ...records, findings: [finding] };
    expect(FORMATS["review.csv"]?.(spoilt)).toContain('"\'=1+1,""</td><script>&"');
    expect(FORMATS["review.html"]?.(spoilt)).not.toContain("<script>");
  });
});

describe("a review of a preview", () => {
  const urn = (type: string, name: string): string =>
    `urn:pulumi:local.acme::fluxbilling::fluxbilling:tenant:Tenant$${type}::${name}`;
  const service = urn("kubernetes:core/v1:Service", "acme-app-service");
  const volume = urn("kubernetes:core/v1:PersistentVolumeClaim", "acme-app-files");
  const report = {
    pack: "fluxbilling",
    version: "1.0.0",
    resources: 2,
    urns: [service, volume],
    rules: RULES.map(({ name }) => ({
      name,
      resources: name === "type-is-known" ? 1 : 2,
      violations: 0,
      excepted: 0,
      found: name === "service-stays-inside" ? [{ urn: service, message: "wrong." }] : [],
    })),
  };

  it("takes from the pack's own report what failed, passed and did not run", () => {
    const findings = previewFindings("local.acme", report, "without an error", NOW);
    const of = (name: string): readonly string[] =>
      findings.filter(({ rule }) => rule === name).map(({ status }) => status);
    expect(of("service-stays-inside")).toEqual(["fail"]);
    expect(of("nothing-judged-is-ignored")).toEqual(["pass", "pass"]);
    expect(of("type-is-known")).toEqual(["not-assessed"]);
    expect(of("tenant-is-whole")).toEqual(["pass"]);
  });

  it("assesses nothing of a preview that ended before the pack could report", () => {
    const findings = previewFindings("local.acme", undefined, "its location is unknown", NOW);
    expect(countsOf(findings)).toEqual({ pass: 0, fail: 0, "not-assessed": RULES.length });
  });
});

describe("the question whether one tenant can reach another", () => {
  const other = renamed(GOOD, "acme", "other");
  const ask = (stack = GOOD): RecordSet =>
    answer(
      { fleet: "local", now: NOW, previews: [], stacks: [stack, other], live: undefined },
      "acme",
      "other",
    );

  it("is answered by steps that each name what they rest on", () => {
    const { findings } = ask();
    expect(countsOf(findings)).toEqual({ pass: findings.length, fail: 0, "not-assessed": 0 });
    expect(findings.map(({ subject }) => subject)).toEqual([
      "network: acme-app-deployment to other-app-deployment",
      "network: acme-app-deployment to other-backup-job",
      "network: acme-backup-job to other-app-deployment",
      "network: acme-backup-job to other-backup-job",
      "database tenant_other: who may connect",
      "database tenant_other: who is a member of whom",
      "Secrets of tenant-other",
      "host of other",
      "copies of other",
    ]);
    expect(findings.filter(({ evidence }) => !evidence.readFrom.includes("2026-03-01"))).toEqual(
      [],
    );
  });

  it.each([
    ["kubernetes:core/v1:ServiceAccount", "acme-app-account", {}, []],
    [
      "postgresql:index/role:Role",
      "acme-database-app",
      { roles: ["tenant_acme", "tenant_other"] },
      ["database tenant_other: who is a member of whom"],
    ],
    [
      "kubernetes:apps/v1:Deployment",
      "acme-app-deployment",
      { "spec.template.spec.automountServiceAccountToken": true },
      ["Secrets of tenant-other"],
    ],
    [
      "kubernetes:networking.k8s.io/v1:Ingress",
      "acme-ingress-ingress",
      { "spec.rules.0.host": "other.tenants.test" },
      ["host of other"],
    ],
    [
      "fluxbilling:tenant:TenantBackup",
      "acme-backup",
      { forceCommand: "/bin/sh" },
      ["copies of other"],
    ],
  ])("is answered by a no with %s %s spoilt", (type, name, set, failing) => {
    const { findings } = ask(stored("local.acme", mutated({ type, name, set, says: [] })));
    expect(
      findings.filter(({ status }) => status === "fail").map(({ subject }) => subject),
    ).toEqual(failing);
  });

  it("takes both ends to open a way through the network", () => {
    const everyone = {
      "spec.egress.0.to.0": { namespaceSelector: {} },
      "spec.ingress.0.from.0": { namespaceSelector: {} },
    };
    const open = stored(
      "local.acme",
      mutated({
        type: "kubernetes:networking.k8s.io/v1:NetworkPolicy",
        name: "acme-network-allow-app",
        set: everyone,
        says: [],
      }),
    );
    const ways = (stacks: RecordSet): readonly string[] =>
      stacks.findings.filter(({ status }) => status === "fail").map(({ subject }) => subject);
    expect(ways(ask(open))).toEqual([]);
    const input = { fleet: "local", now: NOW, previews: [], live: undefined };
    const both = { ...input, stacks: [open, renamed(open, "acme", "other")] };
    expect(ways(answer(both, "acme", "other"))).toEqual([
      "network: acme-app-deployment to other-app-deployment",
    ]);
  });

  it("refuses a tenant that is not in the record", () => {
    expect(() =>
      answer(
        { fleet: "local", now: NOW, previews: [], stacks: [GOOD], live: undefined },
        "acme",
        "nobody",
      ),
    ).toThrow(
      'Tenant "nobody": must have a stack in the record, got local.acme. Name a tenant of the fleet, or a later moment by --as-of.',
    );
  });
});

describe("the stored state", () => {
  let folder: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "state-"));
  });
  afterEach(() => {
    rmSync(folder, { recursive: true });
  });

  function write(path: string, time: string, type: string): void {
    const file = join(folder, ".pulumi", path);
    mkdirSync(join(file, ".."), { recursive: true });
    const latest = {
      manifest: { time },
      resources: [{ urn: `urn:pulumi:a::b::${type}::x`, type }],
    };
    writeFileSync(file, JSON.stringify({ version: 3, checkpoint: { latest } }));
  }

  it("is what it was at a moment, out of the history", async () => {
    write("stacks/p/local.json", "2026-03-03T00:00:00Z", "now");
    write("history/p/local/local-1.checkpoint.json", "2026-03-01T00:00:00Z", "first");
    write("history/p/local/local-2.checkpoint.json", "2026-03-02T00:00:00Z", "second");
    const at = async (asOf?: string): Promise<readonly string[]> =>
      (await storedStacks(folder, "p", asOf === undefined ? undefined : new Date(asOf))).flatMap(
        ({ resources }) => resources.map(({ type }) => type),
      );
    expect(await at()).toEqual(["now"]);
    expect(await at("2026-03-02T12:00:00Z")).toEqual(["second"]);
    expect(await at("2026-03-01T12:00:00Z")).toEqual(["first"]);
    await expect(at("2026-02-01T00:00:00Z")).rejects.toThrow(
      /must hold a record of 2026-02-01T00:00:00.000Z or before, got none\./,
    );
  });

  it("must hold a stack", async () => {
    await expect(storedStacks(folder, "p")).rejects.toThrow(
      /must hold the record of a stack, got none\./,
    );
  });
});
