import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { goEnvironment } from "../../../embedded/go.ts";
import { CACHE } from "../../../embedded/paths.ts";

const run = promisify(execFile);
const IMAGES = join(import.meta.dirname, "../../../embedded/images");

/** Output of a Go command in an image's folder; on failure with what Go said. */
async function go(module: string, ...args: string[]): Promise<string> {
  try {
    const { stdout, stderr } = await run("go", args, {
      cwd: join(IMAGES, module),
      env: goEnvironment(join(CACHE, "go")),
    });
    // On a machine that has not met these modules yet, Go tells of each that it fetches.
    return (stdout + stderr).replaceAll(/^go: downloading .*\n/gm, "");
  } catch (error) {
    const { stdout = "", stderr = "" } = error as { stdout?: string; stderr?: string };
    throw new Error(`go ${args.join(" ")} in ${module} failed:\n${stdout}${stderr}`, {
      cause: error,
    });
  }
}

/** On a machine that has compiled none of it yet, beside other tests. */
const COMPILES_MS = 600_000;
const MODULES = ["backup", "pause", "registry", "suspended-page", "tenant-app"];

describe.each(MODULES)("Go module of %s", { timeout: COMPILES_MS }, (module) => {
  it("passes go vet without a word", async () => {
    expect(await go(module, "vet", "./...")).toBe("");
  });

  it("has the go.mod that its sources ask for", async () => {
    expect(await go(module, "mod", "tidy", "-diff")).toBe("");
  });

  it("passes its own tests", async () => {
    const said = await go(module, "test", "./...");
    const packages = said.split("\n").filter((line) => line !== "");
    const failed = packages.filter((line) => !/^(ok|\?) /.test(line.replace("\t", " ").trim()));
    expect(failed).toEqual([]);
  });
});
