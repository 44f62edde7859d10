import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

import { ROOT } from "../../embedded/paths.ts";

/** A checkout that needs one package, which lies beside it: no registry is asked. */
let checkout: string;
/** A PATH on which there is no npm. */
let withoutNpm: string;

beforeEach(() => {
  checkout = mkdtempSync(join(tmpdir(), "bootstrap-"));
  mkdirSync(join(checkout, "embedded"));
  copyFileSync(
    join(ROOT, "embedded", "bootstrap.mjs"),
    join(checkout, "embedded", "bootstrap.mjs"),
  );
  writeFileSync(join(checkout, "embedded", "main.ts"), 'process.stdout.write("main runs\\n");\n');
  mkdirSync(join(checkout, "own-node"));
  const launcher = join(checkout, "own-node", "node.sh");
  writeFileSync(launcher, `#!/bin/sh\nexec "${process.execPath}" "$@"\n`);
  chmodSync(launcher, 0o755);
  lockVersion("1.0.0");

  withoutNpm = join(checkout, "bin");
  mkdirSync(withoutNpm);
  for (const program of ["sh", "cp"]) symlinkSync(`/bin/${program}`, join(withoutNpm, program));
});

afterEach(() => {
  rmSync(checkout, { recursive: true });
});

/** Writes package.json and the lockfile for one version of the package. */
function lockVersion(version: string): void {
  const write = (file: string, content: unknown): void =>
    writeFileSync(join(checkout, file), JSON.stringify(content));
  write("own-node/package.json", { name: "own-node", version, bin: { node: "node.sh" } });
  write("package.json", {
    name: "checkout",
    version: "1.0.0",
    dependencies: { "own-node": "file:own-node" },
  });
  rmSync(join(checkout, "package-lock.json"), { force: true });
  execFileSync("npm", ["install", "--package-lock-only", "--offline", "--no-audit"], {
    cwd: checkout,
    env: { ...process.env, PATH: `${dirname(process.execPath)}:${process.env["PATH"] ?? ""}` },
    stdio: "ignore",
  });
}

function bootstrap(path = process.env["PATH"] ?? ""): { status: number | null; said: string } {
  const run = spawnSync(process.execPath, [join(checkout, "embedded", "bootstrap.mjs"), "start"], {
    cwd: checkout,
    env: { ...process.env, PATH: path },
    encoding: "utf8",
  });
  return { status: run.status, said: run.stdout + run.stderr };
}

function kept(): readonly string[] {
  return readdirSync(join(checkout, ".cache", "npm-packages"));
}

describe("the npm packages of a checkout", () => {
  it("are installed by the lockfile, once", () => {
    const first = bootstrap();
    expect(first.said).toMatch(/ok npm packages/);
    expect(first.said).toMatch(/main runs/);
    expect(first.status).toBe(0);

    const second = bootstrap(withoutNpm);
    expect(second.said).toBe("main runs\n");
  });

  it("come from the cache in a clone that was given it, and share its files", () => {
    bootstrap();
    rmSync(join(checkout, "node_modules"), { recursive: true });

    const again = bootstrap(withoutNpm);
    expect(again.said).toMatch(/ok npm packages[^]*main runs/);
    const [name = ""] = kept();
    const file = ".package-lock.json";
    expect(statSync(join(checkout, "node_modules", file)).ino).toBe(
      statSync(join(checkout, ".cache", "npm-packages", name, file)).ino,
    );
  });

  it("are installed anew for another lockfile, and those of the earlier one are forgotten", () => {
    bootstrap();
    const earlier = kept();
    lockVersion("1.1.0");

    expect(bootstrap(withoutNpm).said).toMatch(/npm packages: "npm ci" must succeed/);
    expect(bootstrap().said).toMatch(/ok npm packages[^]*main runs/);
    expect(kept()).toHaveLength(1);
    expect(kept()).not.toEqual(earlier);
  });

  it("are whole again after a copy that was cut off", () => {
    bootstrap();
    const [name = ""] = kept();
    rmSync(join(checkout, "node_modules"), { recursive: true });
    mkdirSync(join(checkout, "node_modules.unfinished"));
    writeFileSync(join(checkout, "node_modules.unfinished", "half"), "");

    expect(bootstrap(withoutNpm).status).toBe(0);
    expect(readdirSync(checkout)).not.toContain("node_modules.unfinished");
    expect(kept()).toEqual([name]);
  });
});
