import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { PLATFORM_ID } from "../../../embedded/machines/layout.ts";
import { identityOf } from "../../../embedded/machines/process-identity.ts";
import { platformFacts, startPlatform, stopPlatform } from "../../../embedded/machines/platform.ts";

function output(...[program = "", ...args]: string[]): string {
  return execFileSync(program, args, { encoding: "utf8" });
}

function lines(file: string): readonly string[] {
  return readFileSync(file, "utf8").split("\n");
}

function controlGroups(): readonly string[] {
  return readdirSync("/sys/fs/cgroup", { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isDirectory() && entry.name === `flux-${PLATFORM_ID}`)
    .map((entry) => join(entry.parentPath, entry.name));
}

/** Processes in the machines' control groups; one that has ended and waits to be reaped is none. */
function processes(): readonly string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => identityOf(Number(pid)) !== undefined)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cgroup`, "utf8").includes(`flux-${PLATFORM_ID}`);
      } catch {
        return false;
      }
    });
}

function namespaces(): readonly string[] {
  return existsSync("/run/netns")
    ? readdirSync("/run/netns").filter((name) => name.startsWith(`flux-${PLATFORM_ID}-`))
    : [];
}

function computer(): object {
  return {
    controlGroups: controlGroups(),
    links: output("ip", "-o", "link", "show").replaceAll(/(qlen|mtu) \d+/g, ""),
    mounts: lines("/proc/self/mountinfo").map((line) => line.split(" ").slice(3, 5).join(" ")),
    namespaces: namespaces(),
    processes: processes(),
    rules: output("nft", "list", "ruleset"),
    addresses: output("ip", "-o", "address", "show").replaceAll(/\d+sec/g, ""),
    overcommit: lines("/proc/sys/vm/overcommit_memory"),
    panic: lines("/proc/sys/kernel/panic"),
  };
}

// The whole platform goes down here: whoever stands in the operator's namespace stands in a dead
// one afterwards. So this file runs from the computer's own network namespace.
describe("stopPlatform", () => {
  afterAll(async () => {
    await startPlatform();
  });

  it("leaves no process, mount, namespace, link, rule or control group behind", async () => {
    await startPlatform();
    expect(output("ip", "netns", "identify", String(process.pid))).toBe("\n");
    await stopPlatform();
    const before = computer();
    expect(before).toMatchObject({ controlGroups: [], namespaces: [], processes: [] });
    await startPlatform();
    expect(processes().length).toBeGreaterThan(40);
    expect(namespaces()).toEqual(
      ["fi-1", "lan", "master", "nl-1", "operator", "standby"].map(
        (name) => `flux-${PLATFORM_ID}-${name}`,
      ),
    );
    await stopPlatform();
    expect(computer()).toEqual(before);
  });

  it("may be repeated", async () => {
    await stopPlatform();
    await stopPlatform();
    expect(await platformFacts()).toBeUndefined();
  });
});
