import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

import { policyPack } from "../../../embedded/engine/policy-pack.ts";

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "pack-"));
  cpSync(join(import.meta.dirname, "pack"), folder, { recursive: true });
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe("policyPack", () => {
  it("names the folder of a pack that starts without a build", () => {
    expect(policyPack(folder)).toBe(folder);
  });

  it("refuses a pack without an entry point", () => {
    rmSync(join(folder, "main.cjs"));
    expect(() => policyPack(folder)).toThrow(
      `Policy pack "${folder}": must have a file main.cjs, got none. Restore it from git.`,
    );
  });

  it("refuses a pack that ts-node would take over", () => {
    writeFileSync(join(folder, "package.json"), '{"type":"module","main":"index.ts"}');
    expect(() => policyPack(folder)).toThrow(
      `Policy pack "${folder}": main in package.json must be "main.cjs", got index.ts. Restore it from git.`,
    );
  });

  it("refuses a tsconfig.json that would have the compiler loaded", () => {
    writeFileSync(join(folder, "tsconfig.json"), "{}");
    expect(() => policyPack(folder)).toThrow(
      `Policy pack "${folder}": must have no tsconfig.json of its own, got one. Remove it; the checkout's covers it.`,
    );
  });
});
