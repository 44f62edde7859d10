import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";

import { deploy, destroy, judgedPreview } from "../../embedded/deploy.ts";
import { pulumiFailure, runPulumi, stackExport } from "../../embedded/engine/engine.ts";
import { policyPack } from "../../embedded/engine/policy-pack.ts";
import { type LocalStack, localStackOf, writeTenantStack } from "../../embedded/local-fleet.ts";
import type { PlatformFacts } from "../../embedded/machines/platform.ts";
import { CACHE, ROOT } from "../../embedded/paths.ts";
import { packShortfalls, REVIEWED_PACK } from "../../model/policy-pack.ts";
import { RULES } from "../../policies/rules.ts";
import { type Mutant, MUTANTS, nameOf } from "../policies/mutants.ts";
import { platform } from "../support/platform.ts";
import type { Spoiling } from "./spoilt-program/index.ts";

/** As the program of this folder knows it. */
const SMUGGLED = "\u0000smuggled";
const PROGRAM = join(import.meta.dirname, "spoilt-program");

describe("the policy pack on the real engine", () => {
  let facts: PlatformFacts;
  let fleet: LocalStack;
  const folders: string[] = [];

  beforeAll(async () => {
    facts = await platform();
    fleet = localStackOf("local");
  });

  afterEach(() => {
    for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
  });

  it("judges a good fleet and a good tenant whole, and leaves no advisory", async () => {
    const tenant = await writeTenantStack({ name: "acme", location: "nl-1", plan: "lite" });
    for (const stack of [fleet, tenant]) {
      const { run, report } = await judgedPreview(stack, facts);
      if (run.exitCode !== 0) throw pulumiFailure(stack.name, run);
      expect(packShortfalls(report)).toEqual([]);
      expect(report?.rules).toHaveLength(RULES.length);
      expect(report?.resources).toBeGreaterThan(40);
      expect(run.stdout).not.toMatch(/\[(advisory|mandatory)\]|can't run policy/);
    }
  });

  it("finds nothing in the stored fleet, without its program", async () => {
    const run = await runPulumi(
      ["policy", "analyze", "--stack", fleet.name, "--policy-pack", policyPack()],
      { stackConfigFile: fleet.configFile, env: fleet.environment },
    );
    expect(stripVTControlCharacters(`${run.stdout}${run.stderr}`)).not.toMatch(
      /\[(advisory|mandatory)\]/,
    );
    expect(run.exitCode).toBe(0);
  });

  describe("is refused by the deploy before anything is touched", () => {
    const NOTHING = "nothing was changed";

    it("when it is not passed", async () => {
      await refused([], "the pack must report, got no report");
    });

    it("when a rule is disabled", async () => {
      await refused(
        configured({ "tls-option-floor-is-1-3": "disabled" }),
        "tls-option-floor-is-1-3",
      );
    });

    it("when all of it is disabled", async () => {
      await refused(configured({ all: "disabled" }), "the pack must report, got no report");
    });

    it("when it is an older one", async () => {
      const folder = mkdtempSync(join(CACHE, "older-pack-"));
      folders.push(folder);
      for (const part of ["policies", "model"]) {
        cpSync(join(ROOT, part), join(folder, part), { recursive: true });
      }
      const manifest = join(folder, "policies", "package.json");
      const text = readFileSync(manifest, "utf8");
      writeFileSync(manifest, text.replace(REVIEWED_PACK.version, "0.9.0"));
      const rules = join(folder, "policies", "rules.ts");
      writeFileSync(rules, readFileSync(rules, "utf8").replace(/^ {2}imageByDigest,\n/m, ""));
      await refused(
        ["--policy-pack", join(folder, "policies")],
        `the pack must be fluxbilling ${REVIEWED_PACK.version}, got fluxbilling 0.9.0; ` +
          `${RULES.length} rules must run, got ${RULES.length - 1} without image-by-digest`,
      );
    });

    it("when a rule is lowered and let a violation pass", async () => {
      const config = { "tls-option-floor-is-1-3": "advisory" };
      const spoiling = {
        type: "kubernetes:traefik.io/v1alpha1:TLSOption",
        name: "nl-1-edge-tls",
        set: { "spec.minVersion": "VersionTLS12" },
      };
      const { run, report } = await spoilt(fleet, [spoiling], configured(config));
      if (run.exitCode !== 0) throw pulumiFailure(fleet.name, run);
      expect(packShortfalls(report)).toEqual([
        "tls-option-floor-is-1-3 must refuse what violates it, got 1 violations let pass",
      ]);
    });

    async function refused(packArguments: readonly string[], because: string): Promise<void> {
      const before = await stackExport(fleet.name);
      const attempt = deploy(fleet, facts, {}, packArguments);
      await expect(attempt).rejects.toThrow(because);
      await expect(attempt).rejects.toThrow(/nothing was changed|policies must hold/);
      expect(NOTHING).not.toBe("");
      expect(await stackExport(fleet.name)).toEqual(before);
    }

    function configured(config: object): readonly string[] {
      const folder = mkdtempSync(join(tmpdir(), "pack-config-"));
      folders.push(folder);
      const file = join(folder, "config.json");
      writeFileSync(file, JSON.stringify(config));
      return ["--policy-pack", policyPack(), "--policy-pack-config", file];
    }
  });

  describe("refuses", () => {
    const stacks: { [name: string]: LocalStack } = {};

    beforeAll(async () => {
      stacks["fleet"] = fleet;
      stacks["tenant"] = await writeTenantStack({ name: "acme", location: "nl-1", plan: "lite" });
      const suspended = { name: "acme", location: "nl-1", plan: "lite", suspended: true };
      const written = await writeTenantStack(suspended);
      // The settings of both are in one file: the suspended one gets a copy.
      const file = join(mkdtempSync(join(CACHE, "suspended-")), "Pulumi.local.acme.yaml");
      cpSync(written.configFile, file);
      stacks["suspended tenant"] = { ...written, configFile: file };
      await writeTenantStack({ name: "acme", location: "nl-1", plan: "lite" });
    });

    afterAll(async () => {
      await destroy(stacks["tenant"] as LocalStack, facts);
      const { configFile } = stacks["suspended tenant"] as LocalStack;
      rmSync(join(configFile, ".."), { recursive: true });
    });

    it.each(batches())("every mutant of batch $title, by its rule", async ({ stack, mutants }) => {
      const said = await violations(
        stacks[stack] as LocalStack,
        mutants.map(([, mutant]) => spoilingOf(mutant, (value) => value ?? null)),
      );
      const missing = mutants.filter(
        ([rule, mutant]) =>
          !said.some(
            (violation) =>
              violation.rule === rule &&
              violation.message.startsWith(nameIn(mutant)) &&
              violation.message.includes(" must ") &&
              violation.message.includes(", got ") &&
              violation.message.endsWith(wayOutOf(rule)),
          ),
      );
      expect(missing.map(([rule, mutant]) => `${rule}: ${mutant.says[0] ?? ""}`)).toEqual([]);
    });

    it.each(batches(true))(
      "an Output smuggled into each field of batch $title",
      async ({ stack, mutants }) => {
        const said = await violations(
          stacks[stack] as LocalStack,
          mutants.map(([, mutant]) => spoilingOf(mutant, () => SMUGGLED)),
        );
        const missing = mutants.filter(
          ([rule, mutant]) =>
            !said.some(
              (violation) =>
                violation.rule === rule &&
                violation.message.includes(" must be known at preview, got an unknown value."),
            ) && mutant.says.length > 0,
        );
        expect(missing.map(([rule, mutant]) => `${rule}: ${mutant.says[0] ?? ""}`)).toEqual([]);
      },
    );
  });

  /** A preview of the program with spoilt resources. */
  async function spoilt(
    stack: LocalStack,
    spoilings: readonly Spoiling[],
    packArguments?: readonly string[],
  ): ReturnType<typeof judgedPreview> {
    const folder = mkdtempSync(join(tmpdir(), "spoilings-"));
    folders.push(folder);
    const file = join(folder, "spoilings.json");
    writeFileSync(file, JSON.stringify(spoilings));
    return judgedPreview(
      stack,
      facts,
      { cwd: PROGRAM, env: { FLUX_SPOILINGS: file } },
      packArguments,
    );
  }

  /** What the pack says of it, as the engine shows it. */
  async function violations(
    stack: LocalStack,
    spoilings: readonly Spoiling[],
  ): Promise<readonly { readonly rule: string; readonly message: string }[]> {
    const { run } = await spoilt(stack, spoilings);
    expect(run.exitCode).not.toBe(0);
    const output = stripVTControlCharacters(`${run.stdout}\n${run.stderr}`);
    const found = [
      ...output.matchAll(
        /\[mandatory\](?: \[severity: \w+\])?\s+(\S+)[^\n]*\n[^\n]*\n\s*([^\n]+)/g,
      ),
    ].map(([, rule = "", message = ""]) => ({ rule, message: message.trim() }));
    if (found.length === 0) throw new Error(`the pack must say something, got:\n${output}`);
    return found;
  }
});

interface Batch {
  readonly title: string;
  readonly stack: "fleet" | "tenant" | "suspended tenant";
  readonly mutants: readonly (readonly [rule: string, mutant: Mutant])[];
}

/** Mutants that set fields, as many in one preview as do not touch the same resource. */
function batches(isSmuggled = false): readonly Batch[] {
  const made: { stack: Batch["stack"]; kind: string; mutants: (readonly [string, Mutant])[] }[] =
    [];
  for (const rule of RULES) {
    for (const mutant of MUTANTS[rule.name] ?? []) {
      const changes = mutant.set !== undefined || mutant.opts !== undefined;
      if (!changes || mutant.type === undefined || mutant.remove === true) continue;
      if (isSmuggled && (mutant.set === undefined || mutant.opaque === true)) continue;
      const stack = mutant.stack ?? "tenant";
      // What a tenant says of itself decides over the rest: alone.
      const alone = mutant.type === "fluxbilling:tenant:Tenant";
      const fitting = made.find(
        (batch) =>
          batch.stack === stack &&
          batch.kind === `${rule.kind}${alone ? " alone" : ""}` &&
          !alone &&
          !batch.mutants.some(
            ([, other]) => other.type === mutant.type && other.name === mutant.name,
          ),
      );
      if (fitting === undefined) {
        made.push({
          stack,
          kind: `${rule.kind}${alone ? " alone" : ""}`,
          mutants: [[rule.name, mutant]],
        });
      } else {
        fitting.mutants.push([rule.name, mutant]);
      }
    }
  }
  return made.map(({ stack, kind, mutants }, index) => ({
    title: `${index + 1}: ${mutants.length} in a ${stack}, ${kind} rules`,
    stack,
    mutants,
  }));
}

function spoilingOf(mutant: Mutant, valueOf: (value: unknown) => unknown): Spoiling {
  return {
    type: mutant.type ?? "",
    name: nameOf(mutant),
    set: Object.fromEntries(
      Object.entries(mutant.set ?? {}).map(([path, value]) => [path, valueOf(value)]),
    ),
    ...(mutant.opts?.protect === undefined ? {} : { protect: mutant.opts.protect }),
    ...(mutant.opts?.ignoreChanges === undefined
      ? {}
      : { ignoreChanges: mutant.opts.ignoreChanges }),
  };
}

/** What the message begins with: the resource that the rule blames. */
function nameIn({ says }: Mutant): string {
  return `${says[0]?.split(":")[0] ?? ""}:`;
}

function wayOutOf(rule: string): string {
  return RULES.find(({ name }) => name === rule)?.remediation ?? "no such rule";
}
