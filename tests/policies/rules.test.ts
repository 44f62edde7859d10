import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { REVIEWED_PACK } from "../../model/policy-pack.ts";
import type { Rule } from "../../policies/rule.ts";
import { RULES } from "../../policies/rules.ts";
import { judge, say, UNKNOWN } from "../support/judge.ts";
import type { Judged } from "../support/judge.ts";
import { isTarget, mutated, MUTANTS, nameOf, spoil, titleOf } from "./mutants.ts";
import type { Mutant } from "./mutants.ts";

const ROOT = join(import.meta.dirname, "../..");
const FOLDER = join(ROOT, "policies/rules");

describe.each(RULES)("$name", (rule) => {
  const mutants = (MUTANTS[rule.name] ?? []).map((mutant) => ({ title: titleOf(mutant), mutant }));

  it.each(mutants)("refuses $title", ({ mutant }) => {
    const said = judge(rule, mutated(mutant));
    expect(mutant.andMore === true ? said.slice(0, mutant.says.length) : said).toEqual(mutant.says);
  });

  it.each(mutants)("says the way out with $title", ({ mutant }) => {
    for (const message of say(rule, mutated(mutant))) {
      expect(message.endsWith(` ${rule.remediation}`)).toBe(true);
    }
  });

  const spoilt = mutants.filter(
    ({ mutant: { set, remove, opaque } }) =>
      set !== undefined && remove !== true && opaque !== true,
  );

  it.each(spoilt)("refuses an unknown value where $title could stand", ({ mutant }) => {
    expect(say(rule, unknownIn(mutant))).toContainEqual(
      expect.stringMatching(
        /^\S+: .+ must be known at preview, got an unknown value\. Pass a plain value, not an Output\.$/,
      ),
    );
  });

  it("says nothing about a type that it does not judge", () => {
    const foreign: Judged = {
      type: rule.name === "type-is-known" ? "random:index/randomBytes:RandomBytes" : "a:b/c:D",
      name: "other",
      props: { key: "value" },
    };
    expect(say(rule, [foreign])).toEqual([]);
  });
});

/** A mutant whose spoilt fields are unknown instead. */
function unknownIn(mutant: Mutant): readonly Judged[] {
  return mutated({ ...mutant, set: {} }).map((resource) => {
    if (!isTarget(mutant, resource)) {
      return resource;
    }
    const set = Object.fromEntries(Object.keys(mutant.set ?? {}).map((path) => [path, UNKNOWN]));
    return spoil(resource, set);
  });
}

describe("the register of rules", () => {
  const names = RULES.map(({ name }) => name);

  it("holds exactly the files of the folder", () => {
    expect(names.toSorted()).toEqual(
      readdirSync(FOLDER)
        .map((file) => file.replace(/\.ts$/, ""))
        .toSorted(),
    );
  });

  it("is the pack that deploys expect", () => {
    expect(REVIEWED_PACK.rules.toSorted()).toEqual(names.toSorted());
    const { version } = JSON.parse(readFileSync(join(ROOT, "policies/package.json"), "utf8")) as {
      version: string;
    };
    expect(REVIEWED_PACK.version).toBe(version);
  });

  it("has mutants for exactly its rules", () => {
    expect(Object.keys(MUTANTS).toSorted()).toEqual(names.toSorted());
    expect(Object.entries(MUTANTS).filter(([, mutants]) => mutants.length === 0)).toEqual([]);
  });

  it.each(RULES)(
    "documents $name by its description, its reason and what it cannot see",
    (rule) => {
      const source = readFileSync(join(FOLDER, `${rule.name}.ts`), "utf8");
      expect(source).toContain(`/**\n * ${rule.description}\n *\n * Why: `);
      expect(source).toMatch(/\n \* Blind to: /);
    },
  );

  it.each(RULES)("tells a reviewer what $name rests on and what to do", (rule: Rule) => {
    expect(rule.claims.length).toBeGreaterThan(0);
    expect(rule.claims.filter((claim) => !/^[FPXWR]\d+$/.test(claim))).toEqual([]);
    expect(
      rule.references.filter(
        (reference) =>
          !/^(GDPR Art\. \d+|PCI DSS 4\.0\.1 |SOC 2 |ISO 27001:2022 A\.|CIS Kubernetes \d|Pod Security Standards )/.test(
            reference,
          ),
      ),
    ).toEqual([]);
    expect(rule.references.length).toBeGreaterThan(0);
    expect(rule.remediation).toMatch(/^[A-Z].*\.$/);
  });
});

describe("every rule of the pack", () => {
  // Whatever a rule refuses, the others are asked too: a mutant that they let through shows that the rule is needed.
  it.each(RULES)("is the only one to refuse some mutant: $name", (rule) => {
    const others = RULES.filter((other) => other !== rule);
    const needed = (MUTANTS[rule.name] ?? []).filter((mutant) => {
      const stack = mutated(mutant);
      return others.every((other) => say(other, stack).length === 0);
    });
    expect(needed.map(nameOf)).not.toEqual([]);
  });
});
