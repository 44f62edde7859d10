import { afterEach, describe, expect, it } from "vitest";
import { cutLink, healLink, runOn } from "../../../embedded/machines/platform.ts";
import type { MachineName } from "../../../embedded/machines/platform.ts";
import { platform } from "../../support/platform.ts";

/** Whether one machine gets a TCP connection to another's sshd. */
async function reaches(from: MachineName, to: MachineName): Promise<boolean> {
  const address = (await platform()).machines[to]?.address ?? "";
  const { exitCode } = await runOn(from, [
    ...["timeout", "1", "bash", "-c", `read -r -n 4 < /dev/tcp/${address}/22`],
  ]);
  return exitCode === 0;
}

async function reachability(): Promise<Readonly<Record<string, boolean>>> {
  return {
    "nl-1 to fi-1": await reaches("nl-1", "fi-1"),
    "fi-1 to nl-1": await reaches("fi-1", "nl-1"),
    "master to fi-1": await reaches("master", "fi-1"),
    "nl-1 to master": await reaches("nl-1", "master"),
  };
}

const ALL = {
  "nl-1 to fi-1": true,
  "fi-1 to nl-1": true,
  "master to fi-1": true,
  "nl-1 to master": true,
};

afterEach(async () => {
  await healLink("nl-1", "fi-1");
});

describe("cutLink", () => {
  it("stops packets between the two machines, both ways, and between no others", async () => {
    expect(await reachability()).toEqual(ALL);
    await cutLink("nl-1", "fi-1");
    expect(await reachability()).toEqual({
      ...ALL,
      "nl-1 to fi-1": false,
      "fi-1 to nl-1": false,
    });
  });

  it("may be repeated", async () => {
    await cutLink("nl-1", "fi-1");
    await cutLink("fi-1", "nl-1");
    expect(await reaches("nl-1", "fi-1")).toBe(false);
  });
});

describe("healLink", () => {
  it("lets packets pass again", async () => {
    await cutLink("nl-1", "fi-1");
    await healLink("nl-1", "fi-1");
    expect(await reachability()).toEqual(ALL);
  });

  it("may be called on a link that was never cut", async () => {
    await healLink("master", "standby");
    expect(await reaches("master", "standby")).toBe(true);
  });
});
