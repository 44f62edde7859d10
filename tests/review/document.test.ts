import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { rulesDocument } from "../../review/document.ts";

describe("docs/policies.md", () => {
  it("is what the rules say; node review/document.ts writes it", () => {
    const written = readFileSync(join(import.meta.dirname, "../../docs/policies.md"), "utf8");
    expect(written).toBe(rulesDocument());
  });
});
