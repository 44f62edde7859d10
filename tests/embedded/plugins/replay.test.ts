import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Unimplemented } from "../../../embedded/plugins/provider.ts";
import type { Properties, ResourceProvider } from "../../../embedded/plugins/provider.ts";
import { UNKNOWN, secret } from "../../../embedded/plugins/values.ts";
import { STEPS, compare, recordedCalls, replay } from "./replay.ts";
import type { Allowance, Call } from "./replay.ts";

function callOf(rest: Partial<Call>): Call {
  return {
    step: "02-create",
    method: "Create",
    provider: "shop",
    type: "shop:index/shelf:Shelf",
    name: "shelf",
    request: {},
    response: {},
    ...rest,
  };
}

const differences = (expected: Properties, actual: Properties, ...allowances: Allowance[]) =>
  compare(callOf({ response: expected }), { response: actual }, allowances);

/** Answers every create alike; the other methods are not asked. */
const creating = (create: ResourceProvider["create"]): ResourceProvider =>
  ({ create }) as unknown as ResourceProvider;

describe("recordedCalls", () => {
  it("reads every call of every provider from the nine recorded runs", () => {
    const counts = ["kubernetes", "postgresql", "random", "tls", "command"].map((provider) => [
      provider,
      recordedCalls(provider).length,
    ]);
    expect(Object.fromEntries(counts)).toEqual({
      kubernetes: 517,
      postgresql: 197,
      random: 111,
      tls: 111,
      command: 83,
    });
    const files = readdirSync(join(import.meta.dirname, "official"));
    expect(files.filter((file) => file !== "README.md")).toEqual(
      STEPS.map((step) => `${step}.jsonl`),
    );
  });

  it("takes gRPC's prefix off an error", () => {
    const errors = recordedCalls("command").flatMap(({ method, error }) =>
      error === undefined ? [] : [{ method, ...error }],
    );
    expect(new Set(errors.map((error) => JSON.stringify(error)))).toEqual(
      new Set([
        JSON.stringify({
          method: "DiffConfig",
          unimplemented: true,
          message: "DiffConfig is not implemented",
        }),
      ]),
    );
  });

  it("keeps each recording below half a megabyte", () => {
    const sizes = STEPS.map(
      (step) => statSync(join(import.meta.dirname, "official", `${step}.jsonl`)).size,
    );
    expect(sizes.filter((bytes) => bytes >= 512 * 1024)).toEqual([]);
  });
});

describe("compare", () => {
  it("finds what is missing, what is more, and what is other, at its place", () => {
    const expected = { properties: { a: 1, b: [1, 2], c: { d: null }, e: secret("x") } };
    const actual = { properties: { b: [1, 3, 4], c: { d: false }, e: secret("y"), f: 1 } };
    expect(differences(expected, actual)).toEqual([
      { path: "properties.a", expected: 1, actual: undefined },
      { path: "properties.b.1", expected: 2, actual: 3 },
      { path: "properties.b.2", expected: undefined, actual: 4 },
      { path: "properties.c.d", expected: null, actual: false },
      { path: "properties.e", expected: "x", actual: "y" },
      { path: "properties.f", expected: undefined, actual: 1 },
    ]);
    expect(differences(expected, structuredClone(expected))).toEqual([]);
  });

  it("lets an allowed value differ, but not its type, its secrecy, or whether it is known or there", () => {
    const allowance = { at: "properties.*", reason: "random" };
    const paths = (expected: Properties, actual: Properties, rest: Partial<Allowance> = {}) =>
      differences({ properties: expected }, { properties: actual }, { ...allowance, ...rest }).map(
        ({ path }) => path,
      );
    const expected = { a: "x", b: secret("x"), c: UNKNOWN, d: "x", e: "x" };
    expect(paths(expected, { a: "y", b: secret("y"), c: UNKNOWN, d: "y", e: "y" })).toEqual([]);
    const other = { a: 1, b: "x", c: "x", d: UNKNOWN };
    expect(paths(expected, other)).toEqual([
      "properties.a",
      "properties.b",
      "properties.c",
      "properties.d",
      "properties.e",
    ]);
    expect(paths(expected, other, { anything: true })).toEqual([]);
    expect(paths(expected, other, { anything: true, methods: ["Read"] })).toHaveLength(5);
    expect(paths(expected, other, { anything: true, type: ":Chair" })).toHaveLength(5);
    expect(paths(expected, other, { anything: true, steps: ["05-update"] })).toHaveLength(5);
  });

  it("reaches a whole subtree only when anything may differ there, and keys that hold dots", () => {
    const expected = { properties: { "a.b/c": { d: 1 } } };
    const actual = { properties: { "a.b/c": { d: 2 } } };
    const at = "properties.a.b/c";
    expect(differences(expected, actual, { at, reason: "r" })).toHaveLength(1);
    expect(differences(expected, actual, { at, reason: "r", anything: true })).toEqual([]);
    expect(differences(expected, actual, { at: `${at}.d`, reason: "r" })).toEqual([]);
  });
});

describe("replay", () => {
  const recorded = callOf({ response: { id: "1", properties: { a: UNKNOWN } } });

  it("has nothing to say when every answer is the recorded one", async () => {
    const provider = creating(() => Promise.resolve({ id: "1", properties: { a: UNKNOWN } }));
    expect(await replay(provider, [recorded])).toEqual([]);
  });

  it("writes a line for each difference, each error and each allowance that nothing needed", async () => {
    const provider = creating(({ name }) =>
      name === "broken"
        ? Promise.reject(new Error("no"))
        : Promise.resolve({ id: "", properties: { a: "known" } }),
    );
    const broken = callOf({ name: "broken", request: { name: "broken" } });
    const allowances = [{ at: "properties.b", reason: "never there" }];
    expect(await replay(provider, [recorded, broken], allowances)).toEqual([
      '02-create Create shop:index/shelf:Shelf::shelf id: expected "1", got undefined',
      `02-create Create shop:index/shelf:Shelf::shelf properties.a: expected "${UNKNOWN}", got "known"`,
      '02-create Create shop:index/shelf:Shelf::broken error: expected undefined, got {"unimplemented":false,"message":"no"}',
      'allowance "properties.b" (never there) was not needed',
    ]);
  });

  it("takes a recorded error as the right answer, and only that one", async () => {
    const refused = callOf({
      error: { unimplemented: true, message: "Create is not implemented" },
    });
    const unimplemented = creating(() => Promise.reject(new Unimplemented("Create")));
    const other = creating(() => Promise.reject(new Error("Create is not implemented")));
    expect(await replay(unimplemented, [refused])).toEqual([]);
    expect(await replay(other, [refused])).toEqual([
      "02-create Create shop:index/shelf:Shelf::shelf error.unimplemented: expected true, got false",
    ]);
  });
});
