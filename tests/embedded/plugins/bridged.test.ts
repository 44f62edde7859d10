import { describe, expect, it } from "vitest";
import { BridgedProvider } from "../../../embedded/plugins/bridged.ts";
import type { BridgedProviderOptions, BridgedResource } from "../../../embedded/plugins/bridged.ts";
import type { DiffResponse, Properties } from "../../../embedded/plugins/provider.ts";
import { UNKNOWN, secret } from "../../../embedded/plugins/values.ts";
import { testContext } from "./replay.ts";

const TYPE = "shop:index/shelf:Shelf";
const randomSeed = "TOsNyIk1rI+4Oaq1WSCH5hvEYeuaFrH6stZvMSpaBcg=";

/** A resource with a property of every kind. */
const shelf: BridgedResource = {
  schemaVersion: 2,
  properties: {
    name: {
      kind: "string",
      use: "optional",
      autoName: { separator: "-", randomLength: 7, maxLength: 20 },
    },
    room: { kind: "string", use: "required", forceNew: true },
    boards: { kind: "number", use: "optional", default: 4 },
    locked: { kind: "bool", use: "optional", default: false },
    code: { kind: "string", use: "optional", secret: true },
    tags: { kind: "map", use: "optional" },
    colours: { kind: "set", use: "optional", forceNew: true },
    books: { kind: "list", use: "optional" },
    spots: {
      kind: "list",
      use: "optional",
      terraformName: "spot",
      fields: {
        place: { kind: "string", use: "required" },
        lit: { kind: "bool", use: "optional", default: true },
      },
    },
    size: {
      kind: "block",
      use: "optional",
      fields: { height: { kind: "number", use: "required", forceNew: true } },
    },
    owner: { kind: "string", use: "optional+computed" },
    serial: { kind: "string", use: "computed" },
  },
  create: (planned) => ({ id: "s1", state: { ...planned, owner: "me", serial: "1" } }),
  read: (id, prior) => (id === "gone" ? undefined : { ...prior, room: "moved", boards: 9 }),
};

function providerOf(rest: Partial<BridgedProviderOptions> = {}): BridgedProvider {
  return new BridgedProvider({
    name: "shop",
    version: "1.0.0",
    flavour: "sdk",
    resources: { [TYPE]: shelf },
    ...rest,
  });
}

const sdk = providerOf();
const framework = providerOf({ flavour: "framework" });
const about = { urn: `urn:pulumi:s::p::${TYPE}::shelf`, type: TYPE, name: "shelf" } as const;

const check = (news: Properties, rest: object = {}, provider = sdk) =>
  provider.check({ ...about, olds: {}, news, randomSeed, ...rest });

/** The state that a recorded creation left, with only what matters to a diff. */
const olds: Properties = { id: "s1", name: "shelf-1", room: "hall", boards: 4, locked: false };

function diff(news: Properties, before: Properties = {}, provider = sdk): Promise<DiffResponse> {
  return provider.diff({
    ...about,
    id: "s1",
    olds: { ...olds, ...before },
    news: { name: "shelf-1", room: "hall", boards: 4, __defaults: ["name"], ...news },
  });
}

describe("BridgedProvider.check", () => {
  it("fills in defaults that are not zero, names them, and makes up a name from the seed", async () => {
    expect(await check({ room: "hall" })).toEqual({
      inputs: {
        __defaults: ["boards", "name"],
        boards: 4,
        name: "shelf-149bc78",
        room: "hall",
      },
    });
  });

  it("keeps a made-up name of the last run, and forgets one that the program gave", async () => {
    const made = { name: "shelf-old", room: "hall", __defaults: ["name"] };
    const given = { ...made, __defaults: [] };
    const names = await Promise.all(
      [made, given].map(async (before) => (await check({ room: "hall" }, { olds: before })).inputs),
    );
    expect(names.map((inputs) => inputs?.["name"])).toEqual(["shelf-old", "shelf-149bc78"]);
  });

  it("takes the engine's proposal for a name, and makes none up when that is turned off", async () => {
    const proposed = await check(
      { room: "r" },
      { autonaming: { proposedName: "p", mode: "PROPOSE" } },
    );
    const disabled = await check({ room: "r" }, { autonaming: { mode: "DISABLE" } });
    expect([proposed.inputs?.["name"], disabled.inputs?.["name"]]).toEqual(["p", undefined]);
    expect(disabled.inputs?.["__defaults"]).toEqual(["boards"]);
  });

  it("marks secrets, unknown ones too, and fills in defaults inside objects", async () => {
    const { inputs } = await check({
      name: "n",
      room: UNKNOWN,
      boards: 1,
      code: UNKNOWN,
      spots: [{ place: "top" }],
    });
    expect(inputs).toEqual({
      __defaults: [],
      name: "n",
      room: UNKNOWN,
      boards: 1,
      code: secret(UNKNOWN),
      spots: [{ __defaults: ["lit"], lit: true, place: "top" }],
    });
  });

  it("brings scalars to their type", async () => {
    const { inputs } = await check({ name: 5, room: true, boards: "2.5", locked: "true" });
    expect(inputs).toEqual({
      __defaults: [],
      name: "5",
      room: "true",
      boards: 2.5,
      locked: true,
    });
  });

  it("refuses everything that is wrong at once, each with its place", async () => {
    const wrong = {
      boards: "four",
      locked: 1,
      tags: [],
      books: "all",
      spots: [{ lit: true, dark: 1 }],
      size: 3,
      serial: "mine",
      shade: "x",
    };
    expect(await check(wrong)).toEqual({
      failures: [
        {
          property: "boards",
          reason: "Expected a number, got string. Examine values at 'boards'.",
        },
        {
          property: "locked",
          reason: "Expected a boolean, got number. Examine values at 'locked'.",
        },
        { property: "tags", reason: "Expected a map, got list. Examine values at 'tags'." },
        { property: "books", reason: "Expected a list, got string. Examine values at 'books'." },
        {
          property: "spots[0].dark",
          reason: "Invalid or unknown key. Examine values at 'spots[0].dark'.",
        },
        { property: "spots[0].place", reason: "Missing required property 'spots[0].place'" },
        { property: "size", reason: "Expected an object, got number. Examine values at 'size'." },
        { property: "serial", reason: "Invalid or unknown key. Examine values at 'serial'." },
        { property: "shade", reason: "Invalid or unknown key. Examine values at 'shade'." },
        { property: "room", reason: "Missing required property 'room'" },
      ],
    });
  });

  it("adds nothing but the name in the framework's flavour", async () => {
    expect(await check({ room: "hall" }, {}, framework)).toEqual({
      inputs: { name: "shelf-149bc78", room: "hall" },
    });
  });
});

describe("BridgedProvider.diff", () => {
  const stables = ["colours", "room"];
  const none = { changes: "DIFF_NONE", stables, hasDetailedDiff: true };
  const some = (detailedDiff: object, ...names: string[]) => ({
    changes: "DIFF_SOME",
    stables,
    diffs: names,
    detailedDiff,
    hasDetailedDiff: true,
  });

  it("finds none when nothing changed, nor between nothing and empty, nor in what is computed", async () => {
    expect(await diff({})).toEqual(none);
    expect(await diff({ books: [], tags: {} }, { owner: "me", serial: "1" })).toEqual(none);
    expect(await diff({}, { books: [], code: null })).toEqual(none);
  });

  it.each<[string, Properties, Properties, object]>([
    ["an update", { boards: 5 }, {}, some({ boards: { kind: "UPDATE" } }, "boards")],
    ["an addition", { code: "1" }, {}, some({ code: {} }, "code")],
    ["a removal", {}, { code: "1" }, some({ code: { kind: "DELETE" } }, "code")],
    ["an unknown", { code: UNKNOWN }, { code: "1" }, some({ code: { kind: "UPDATE" } }, "code")],
    [
      "keys of a map",
      { tags: { a: "1", c: "3" } },
      { tags: { a: "0", b: "2" } },
      some({ "tags.a": { kind: "UPDATE" }, "tags.b": { kind: "DELETE" }, "tags.c": {} }, "tags"),
    ],
    [
      "elements of a list, by place",
      { books: ["b", "a"] },
      { books: ["a", "b", "c"] },
      some(
        {
          "books[0]": { kind: "UPDATE" },
          "books[1]": { kind: "UPDATE" },
          "books[2]": { kind: "DELETE" },
        },
        "books",
      ),
    ],
    [
      "fields of objects in a list",
      { spots: [{ place: "top", lit: false, __defaults: [] }] },
      { spots: [{ place: "top", lit: true }] },
      some({ "spots[0].lit": { kind: "UPDATE" } }, "spots"),
    ],
  ])("finds %s at its innermost path", async (_, news, before, expected) => {
    expect(await diff(news, before)).toEqual(expected);
  });

  it("compares sets without order, and replaces where the schema says so", async () => {
    expect(await diff({ colours: ["red", "blue"] }, { colours: ["blue", "red"] })).toEqual(none);
    expect(await diff({ colours: ["red", "green"] }, { colours: ["blue", "red"] })).toEqual({
      ...some(
        { "colours[0]": { kind: "DELETE_REPLACE" }, "colours[1]": { kind: "ADD_REPLACE" } },
        "colours",
      ),
      replaces: ["colours"],
    });
    expect(await diff({ size: { height: 2 } }, { size: { height: 1 } })).toEqual({
      ...some({ "size.height": { kind: "UPDATE_REPLACE" } }, "size"),
      replaces: ["size"],
    });
  });

  it("deletes before it replaces only when the program itself chose a name and keeps it", async () => {
    const replaced = async (news: Properties) =>
      (await diff({ room: "attic", ...news })).deleteBeforeReplace;
    expect(await replaced({ __defaults: [] })).toBe(true);
    expect(await replaced({ __defaults: ["name"] })).toBe(undefined);
    expect(await replaced({ __defaults: [], name: "other" })).toBe(undefined);
    expect((await diff({ boards: 5, __defaults: [] })).deleteBeforeReplace).toBe(undefined);
  });

  it("ignores changes that are to be ignored", async () => {
    const ignoring = sdk.diff({
      ...about,
      id: "s1",
      olds,
      news: { ...olds, room: "attic", code: "1" },
      ignoreChanges: ["room", "code"],
    });
    expect(await ignoring).toEqual(none);
  });

  it("names changed properties alone in the framework's flavour", async () => {
    expect(await diff({ room: "attic", boards: 5 }, {}, framework)).toEqual({
      changes: "DIFF_SOME",
      replaces: ["room"],
      diffs: ["boards", "room"],
    });
    expect(await diff({}, {}, framework)).toEqual({ changes: "DIFF_NONE" });
  });
});

describe("BridgedProvider.create, update and read", () => {
  const inputs = { name: "n", room: "hall", code: "1", colours: ["b", "a"], __defaults: [] };

  it("shows at preview what is known, with null for what is not set", async () => {
    const { properties, id } = await sdk.create(
      { ...about, properties: inputs, preview: true },
      testContext(),
    );
    expect([id, properties]).toEqual([
      undefined,
      {
        id: UNKNOWN,
        name: "n",
        room: "hall",
        boards: 4,
        locked: false,
        code: secret("1"),
        tags: null,
        colours: ["a", "b"],
        books: null,
        spots: null,
        size: null,
        owner: UNKNOWN,
        serial: UNKNOWN,
      },
    ]);
  });

  it("leaves what is not set out, and an unknown secret unmarked, in the framework's flavour", async () => {
    const { properties } = await framework.create(
      { ...about, properties: { name: "n", room: "hall", code: UNKNOWN }, preview: true },
      testContext(),
    );
    expect(properties).toEqual({
      id: UNKNOWN,
      name: "n",
      room: "hall",
      boards: 4,
      locked: false,
      code: UNKNOWN,
      owner: UNKNOWN,
      serial: UNKNOWN,
    });
  });

  it("records how Terraform's state differs from the outputs", async () => {
    const { id, properties } = await sdk.create(
      {
        ...about,
        properties: {
          ...inputs,
          tags: { a: "1" },
          spots: [{ place: "top", lit: true, __defaults: ["lit"] }],
          size: { height: 2, __defaults: [] },
        },
      },
      testContext(),
    );
    expect([id, properties["__meta"], properties["__pulumi_raw_state_delta"]]).toEqual([
      "s1",
      '{"schema_version":"2"}',
      {
        obj: {
          ps: {
            tags: { map: {} },
            colours: { arr: {} },
            spots: { arr: { el: { "0": { obj: {} } } } },
            size: { plu: { i: { obj: {} } } },
          },
          renamed: { spots: "spot" },
        },
      },
    ]);
    expect(properties).toMatchObject({
      id: "s1",
      owner: "me",
      serial: "1",
      code: secret("1"),
      spots: [{ place: "top", lit: true }],
      size: { height: 2 },
    });
  });

  it("plans an update from the new inputs and keeps what was computed", async () => {
    const update = await sdk.update(
      {
        ...about,
        id: "s1",
        olds: { ...olds, owner: "me", serial: "1", code: "1" },
        news: { name: "shelf-1", room: "hall", boards: 6, __defaults: [] },
        preview: true,
      },
      testContext(),
    );
    expect(update.properties).toMatchObject({
      boards: 6,
      owner: "me",
      serial: "1",
      code: secret(null),
    });
  });

  it("refreshes the inputs that there were, and forgets a default that has changed", async () => {
    const read = await sdk.read(
      {
        ...about,
        id: "s1",
        properties: { ...olds, code: "1", books: ["x"] },
        inputs: {
          room: "hall",
          boards: 4,
          code: "1",
          name: "shelf-1",
          __defaults: ["boards", "name"],
        },
      },
      testContext(),
    );
    expect(read.inputs).toEqual({
      room: "moved",
      boards: 9,
      code: secret("1"),
      name: "shelf-1",
      __defaults: ["name"],
    });
    expect(read.properties).toMatchObject({ room: "moved", books: ["x"], code: secret("1") });
  });

  it("imports with the inputs that are not what an absent one would mean", async () => {
    const read = await sdk.read({ ...about, id: "s9" }, testContext());
    expect(read.inputs).toEqual({ room: "moved", boards: 9, __defaults: [] });
  });

  it("answers with nothing when the resource is gone", async () => {
    const read = await sdk.read(
      { ...about, id: "gone", properties: olds, inputs: {} },
      testContext(),
    );
    expect(read).toEqual({});
  });
});

describe("BridgedProvider's settings", () => {
  it("are checked, marked secret and handed over plain", async () => {
    const taken: Properties[] = [];
    const provider = providerOf({
      secretSettings: ["password"],
      checkSettings: ({ port }) =>
        port === "x" ? [{ property: "port", reason: "It must be a number, got x." }] : [],
      configure: (settings) => {
        taken.push(settings);
      },
    });
    const settings = { ...about, olds: {}, news: { host: "h", password: "p" } };
    expect(await provider.checkConfig(settings)).toEqual({
      inputs: { host: "h", password: secret("p") },
    });
    expect(await provider.checkConfig({ ...settings, news: { port: "x" } })).toEqual({
      failures: [{ property: "port", reason: "It must be a number, got x." }],
    });
    const args = { host: "h", password: secret("p") };
    expect(await provider.configure({ args }, testContext())).toEqual({
      supportsPreview: true,
      supportsAutonamingConfiguration: true,
    });
    expect(taken).toEqual([{ host: "h", password: "p" }]);
  });
});
