import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { afterEach, beforeAll, describe, expect, it } from "vitest";

import { deploy, destroy, judgedPreview } from "../../embedded/deploy.ts";
import { pulumiFailure, runPulumi, stackExport } from "../../embedded/engine/engine.ts";
import { policyPack } from "../../embedded/engine/policy-pack.ts";
import { type LocalStack, localStackOf, writeTenantStack } from "../../embedded/local-fleet.ts";
import type { PlatformFacts } from "../../embedded/machines/platform.ts";
import { CACHE, ROOT } from "../../embedded/paths.ts";
import { packShortfalls, REVIEWED_PACK } from "../../model/policy-pack.ts";
import { RULES } from "../../policies/rules.ts";
import { platform } from "../support/platform.ts";

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
    await destroy(tenant, facts);
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

    async function refused(packArguments: readonly string[], because: string): Promise<void> {
      const before = await stackExport(fleet.name);
      const attempt = deploy(fleet, facts, {}, packArguments);
      await expect(attempt).rejects.toThrow(because);
      await expect(attempt).rejects.toThrow(/nothing was changed|policies must hold/);
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
});
