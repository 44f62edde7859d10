import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { installedPlugins, installPlugins, PULUMI_BIN } from "../../../embedded/engine/plugins.ts";
import { ROOT } from "../../../embedded/paths.ts";

let home: string;

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "plugins-test-"));
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(home, { recursive: true, force: true });
});

const { version } = JSON.parse(
  readFileSync(join(ROOT, "node_modules", "@pulumi", "random", "package.json"), "utf8"),
) as { version: string };

function folder(): string {
  return join(home, "plugins", `resource-random-v${version}`);
}

/** Starts the installed plugin without an engine and gives its first line. */
function firstLine(): string {
  const run = spawnSync(join(folder(), "pulumi-resource-random"), { encoding: "utf8", input: "" });
  return run.stdout.split("\n")[0] ?? "";
}

describe("installPlugins", () => {
  it("installs an embedded plugin at the npm package's version, and it prints its port", async () => {
    const plugins = await installPlugins(["random"], home);
    expect(plugins.find(({ kind }) => kind === "resource")).toEqual({
      name: "random",
      kind: "resource",
      version,
      origin: "embedded",
      folder: folder(),
    });
    expect(Number(firstLine())).toBeGreaterThan(0);
  });

  it("does nothing while the sources are the same", async () => {
    await installPlugins(["random"], home);
    const { ino } = statSync(folder());
    await installPlugins(["random"], home);
    expect(statSync(folder()).ino).toBe(ino);
  });

  it("builds anew when a source was another one", async () => {
    await installPlugins(["random"], home);
    const file = join(folder(), "embedded.json");
    const record = JSON.parse(readFileSync(file, "utf8")) as { sources: object };
    const [source = ""] = Object.keys(record.sources);
    const changed = { ...record, sources: { ...record.sources, [source]: "another" } };
    writeFileSync(file, JSON.stringify(changed));
    writeFileSync(join(folder(), "main.mjs"), "throw new Error('stale');");

    await installPlugins(["random"], home);
    expect(JSON.parse(readFileSync(file, "utf8"))).toEqual(record);
    expect(Number(firstLine())).toBeGreaterThan(0);
  });

  it("leaves one whole plugin when several processes install it at once", async () => {
    await Promise.all(Array.from({ length: 4 }, () => installPlugins(["random"], home)));
    expect(readdirSync(join(home, "plugins"))).toEqual([`resource-random-v${version}`]);
    expect(Number(firstLine())).toBeGreaterThan(0);
  });

  it("takes over an official plugin of the user's and leaves an installed one alone", async () => {
    const users = join(home, "of-the-user");
    const official = join(users, "plugins", `resource-random-v${version}`);
    mkdirSync(official, { recursive: true });
    writeFileSync(join(official, "pulumi-resource-random"), "#!/bin/sh\necho 1\n");
    chmodSync(join(official, "pulumi-resource-random"), 0o755);
    vi.stubEnv("PULUMI_HOME", users);

    const [, plugin] = await installPlugins(["random"], home);
    expect(plugin?.origin).toBe("official");
    expect(firstLine()).toBe("1");
    expect(statSync(folder()).isDirectory()).toBe(true);

    vi.unstubAllEnvs();
    const [, again] = await installPlugins(["random"], home);
    expect(again?.origin).toBe("official");
  });
});

describe("the language host", () => {
  it("is not taken for an official one when its own folder is on PATH", async () => {
    vi.stubEnv("PATH", `${PULUMI_BIN}${delimiter}${process.env["PATH"] ?? ""}`);
    const [host] = await installPlugins([], home);
    expect(host?.origin).toBe("embedded");
    expect(existsSync(join(PULUMI_BIN, "pulumi-language-nodejs"))).toBe(true);
  });
});

describe("installedPlugins", () => {
  it("tells what is there and what is missing", async () => {
    await installPlugins(["random"], home);
    const found = await installedPlugins(["random", "tls"], home);
    expect(found.map(({ name, origin }) => [name, origin])).toEqual([
      ["nodejs", "embedded"],
      ["random", "embedded"],
      ["tls", "missing"],
    ]);
    expect(existsSync(found[0]?.folder ?? "")).toBe(true);
  });
});
