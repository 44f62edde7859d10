import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { REFUSAL_CODES } from "../../model/refusal.ts";

describe("REFUSAL_CODES", () => {
  it("are the codes that docs/errors.md explains, no more and no fewer", () => {
    const text = readFileSync(join(import.meta.dirname, "../../docs/errors.md"), "utf8");
    const documented = [...text.matchAll(/^\| `([A-Z_]+)` +\|/gm)].map(([, code]) => code);
    expect(documented).toEqual([...REFUSAL_CODES]);
  });
});
