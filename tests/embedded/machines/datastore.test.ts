import { afterAll, describe, expect, it } from "vitest";
import { runOn } from "../../../embedded/machines/platform.ts";
import type { MachineFacts, MachineName } from "../../../embedded/machines/platform.ts";
import { apply, kubectl, platform } from "../../support/platform.ts";

const CLUSTERS: readonly MachineName[] = ["master", "nl-1", "fi-1"];
const MARK = "planted-0f6c1a7e";

async function clusterOf(name: MachineName): Promise<MachineFacts> {
  return (await platform()).machines[name];
}

/** Keys of the datastore whose stored value holds the mark in clear. */
async function keysInClear(name: MachineName): Promise<readonly string[]> {
  const { stdout, stderr, exitCode } = await runOn(
    name,
    ["psql", "-U", "kine", "-d", "kine", "-At", "-v", "ON_ERROR_STOP=1"],
    {
      stdin: `SELECT DISTINCT name FROM kine
        WHERE position('${MARK}'::bytea in value) > 0 ORDER BY name;\n`,
    },
  );
  if (exitCode !== 0) throw new Error(stderr);
  return stdout.split("\n").filter((line) => line !== "");
}

afterAll(async () => {
  for (const name of CLUSTERS) {
    await kubectl(await clusterOf(name), "delete", "secret,configmap", "planted", "-n", "default");
  }
});

describe.each(CLUSTERS)("the datastore of %s", (name) => {
  it("holds what is in a Secret encrypted, and what is in a ConfigMap in clear", async () => {
    const metadata = { name: "planted", namespace: "default" };
    await apply(
      await clusterOf(name),
      { apiVersion: "v1", kind: "Secret", metadata, stringData: { value: MARK } },
      { apiVersion: "v1", kind: "ConfigMap", metadata, data: { value: MARK } },
    );
    expect(
      await kubectl(
        await clusterOf(name),
        ...["get", "secret", "planted", "-o", "go-template={{.data.value | base64decode}}"],
      ),
    ).toBe(MARK);
    expect(await keysInClear(name)).toEqual(["/registry/configmaps/default/planted"]);
  });
});
