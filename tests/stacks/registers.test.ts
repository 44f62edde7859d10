import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

const ROOT = join(import.meta.dirname, "../..");

function rows(document: string): readonly string[] {
  return readFileSync(join(ROOT, "docs", document), "utf8")
    .split("\n")
    .filter((line) => line.startsWith("| ") && line.includes("`"));
}

describe.each(["invariants.md", "claims.md"])("docs/%s", (document) => {
  it("names only files that exist", () => {
    const paths = rows(document).flatMap((row) => [...row.matchAll(/`([\w./-]+\.ts)`/g)]);
    const missing = paths
      .map(([, path = ""]) => path)
      .filter((path) => !existsSync(join(ROOT, path)));
    expect(missing).toEqual([]);
  });

  it("gives a test for every line", () => {
    expect(rows(document).filter((row) => !/`tests\/[\w./-]+\.test\.ts`/.test(row))).toEqual([]);
  });
});

describe("docs/invariants.md", () => {
  it("has a place for every rule of the policy pack", () => {
    const text = readFileSync(join(ROOT, "docs/invariants.md"), "utf8");
    const rules = readdirSync(join(ROOT, "policies/rules"));
    expect(rules.filter((rule) => !text.includes(`policies/rules/${rule}`))).toEqual([]);
  });
});
