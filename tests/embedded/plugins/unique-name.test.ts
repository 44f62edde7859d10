import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { uniqueName } from "../../../embedded/plugins/unique-name.ts";
import { recordedCalls } from "./replay.ts";

const randomSeed = "TOsNyIk1rI+4Oaq1WSCH5hvEYeuaFrH6stZvMSpaBcg=";

describe("uniqueName", () => {
  it("gives the names that the official Kubernetes plugin gave for the recorded seeds", () => {
    const named = recordedCalls("kubernetes").filter(
      ({ method, name, request }) =>
        method === "Check" && name === "config" && Object.keys(request["olds"] ?? {}).length === 0,
    );
    const official = named.map(({ response }) => JSON.stringify(response));
    const ours = named.map(({ request }) =>
      uniqueName({ randomSeed: request["randomSeed"] as string, prefix: "config-" }),
    );
    expect(ours).toEqual(
      official.map((answer) => /config-[0-9a-f]{8}/.exec(answer)?.[0] ?? "no name"),
    );
    expect(ours).toHaveLength(4);
  });

  it("goes on as Go's generator does, past a change of its key and whatever the alphabet", () => {
    const name = uniqueName({
      randomSeed,
      prefix: "",
      randomLength: 400,
      alphabet: "abcdefghijklmnopqrstuvwxyz0123456789_",
    });
    // Computed by resource.NewUniqueName's own Go code.
    expect(createHash("sha256").update(name).digest("hex")).toBe(
      "4397235399e9fe7edd620a5b957600386733068452fc0963a8e42b68ab2db608",
    );
  });

  it.each([undefined, ""])("gives another name each time when the seed is %j", (seed) => {
    const names = Array.from({ length: 20 }, () =>
      uniqueName({ randomSeed: seed, prefix: "a-", randomLength: 12 }),
    );
    expect(new Set(names).size).toBe(20);
    expect(names.filter((name) => !/^a-[0-9a-f]{12}$/.test(name))).toEqual([]);
  });

  it("refuses a name above the limit, and takes one at it", () => {
    expect(() => uniqueName({ randomSeed, prefix: "abc", maxLength: 10 })).toThrow(
      new Error(
        'Name "abc": with 8 random characters it must not be longer than 10, got 11. Give a shorter name.',
      ),
    );
    expect(uniqueName({ randomSeed, prefix: "ab", maxLength: 10 })).toBe("ab149bc78e");
  });
});
