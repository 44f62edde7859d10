import { afterAll, describe, expect, it } from "vitest";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { machineFolder } from "../../../embedded/machines/layout.ts";
import { startMachine, startPlatform, stopMachine } from "../../../embedded/machines/platform.ts";
import type { MachineFacts } from "../../../embedded/machines/platform.ts";
import { kubectl, platform, query, until } from "../../support/platform.ts";

async function machine(): Promise<MachineFacts> {
  return (await platform()).machines["fi-1"];
}

async function plant(value: string): Promise<void> {
  await query(await machine(), "CREATE TABLE IF NOT EXISTS reboot_test (value text)");
  await query(await machine(), "INSERT INTO reboot_test VALUES ($1)", [value]);
  await kubectl(await machine(), "create", "configmap", value, `--from-literal=value=${value}`);
}

async function planted(): Promise<readonly unknown[]> {
  const rows = await query<{ value: string }>(
    await machine(),
    "SELECT value FROM reboot_test ORDER BY value",
  );
  const maps = await kubectl(
    await machine(),
    ...["get", "configmaps", "-o", "jsonpath={range .items[*]}{.data.value}{' '}{end}"],
  );
  return [rows.map(({ value }) => value), maps.trim().split(" ").filter(Boolean)];
}

function firstProcess(): string {
  return readFileSync(join(machineFolder("fi-1"), "pid"), "utf8");
}

afterAll(async () => {
  await startPlatform();
  await query(await machine(), "DROP TABLE IF EXISTS reboot_test");
  await kubectl(
    await machine(),
    ...["delete", "configmap", "--ignore-not-found", "cut-off", "shut-down"],
  );
});

describe("a machine", () => {
  it("is back with its databases and its cluster after a shutdown", async () => {
    await plant("shut-down");
    const before = firstProcess();
    await stopMachine("fi-1", "shutdown");
    await startMachine("fi-1");
    expect(firstProcess()).not.toBe(before);
    expect(await planted()).toEqual([["shut-down"], ["shut-down"]]);
  });

  it("is back with every acknowledged write after a power cut", async () => {
    await plant("cut-off");
    await stopMachine("fi-1", "crash");
    await startMachine("fi-1");
    expect(await planted()).toEqual([
      ["cut-off", "shut-down"],
      ["cut-off", "shut-down"],
    ]);
  });

  it("is no longer among the facts while it is stopped, and startPlatform heals it", async () => {
    await stopMachine("fi-1", "crash");
    await expect(platform()).rejects.toThrow("The platform must run: npm test starts it");
    const facts = await startPlatform();
    expect(facts.machines["fi-1"]?.address).toBe("10.77.0.31");
    expect((await planted())[0]).toEqual(["cut-off", "shut-down"]);
  });

  it("runs pods again after it started", async () => {
    const name = "after-start";
    await kubectl(
      await machine(),
      ...["run", name, "--image=registry.flux.test/fluxbilling/pause:embedded", "--restart=Never"],
    );
    await until("the pod runs", 20_000, async () => {
      const phase = await kubectl(
        await machine(),
        "get",
        "pod",
        name,
        "-o",
        "jsonpath={.status.phase}",
      );
      return phase === "Running";
    });
    await kubectl(await machine(), "delete", "pod", name, "--now");
  });
});
