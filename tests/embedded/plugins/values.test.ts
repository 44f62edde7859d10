import * as fc from "fast-check";
import structProto from "google-protobuf/google/protobuf/struct_pb.js";
import { describe, expect, it } from "vitest";
import type { Properties, Value } from "../../../embedded/plugins/provider.ts";
import {
  SIGNATURE_KEY,
  UNKNOWN,
  containsSecret,
  containsUnknown,
  deepEqual,
  fromStruct,
  isArchive,
  isAsset,
  isObject,
  isResourceReference,
  isSecret,
  isUnknown,
  mapObject,
  secret,
  toStruct,
  unwrapSecrets,
} from "../../../embedded/plugins/values.ts";

const { Struct } = structProto;
const OUTPUT = "d0e6a833031e9bbcd3f4e8bde6ca49a4";
const marked = (signature: string, rest: Properties = {}): Properties => ({
  [SIGNATURE_KEY]: signature,
  ...rest,
});

/** Any JSON value but those with a key that cannot be sent. */
const anyValue = fc
  .jsonValue()
  .filter((value) => !JSON.stringify(value).includes("__proto__")) as fc.Arbitrary<Value>;

describe("isUnknown", () => {
  it.each([
    UNKNOWN,
    "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",
    "3eeb2bf0-c639-47a8-9e75-3b44932eb421",
    "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
    "030794c1-ac77-496b-92df-f27374a8bd58",
    "e48ece36-62e2-4504-bad9-02848725956a",
    "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
  ])("knows the marker %s, also inside a secret", (marker) => {
    expect([isUnknown(marker), isUnknown(secret(marker))]).toEqual([true, true]);
  });

  it("takes an output value without a value as unknown, and one with a value as known", () => {
    expect(isUnknown(marked(OUTPUT))).toBe(true);
    expect(isUnknown(marked(OUTPUT, { value: "here", secret: true }))).toBe(false);
  });

  it("takes an object that merely contains an unknown as known", () => {
    expect([isUnknown({ a: UNKNOWN }), containsUnknown({ a: [{ b: UNKNOWN }] })]).toEqual([
      false,
      true,
    ]);
  });

  it.each([undefined, null, "", "text", 0, false, [], {}])("takes %j as known", (value) => {
    expect([isUnknown(value), containsUnknown(value)]).toEqual([false, false]);
  });
});

describe("secret", () => {
  it("wraps a value once, in the protocol's own shape", () => {
    const once = secret("key");
    expect(once).toEqual({
      "4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270",
      value: "key",
    });
    expect(secret(once)).toBe(once);
  });

  it("is recognised at any depth, as is a secret output value", () => {
    expect(isSecret(secret(null))).toBe(true);
    expect(isSecret({ a: secret(1) })).toBe(false);
    expect(containsSecret({ a: [secret(1)] })).toBe(true);
    expect(isSecret(marked(OUTPUT, { value: 1, secret: true }))).toBe(true);
    expect(isSecret(marked(OUTPUT, { value: 1 }))).toBe(false);
    expect(containsSecret({ a: ["x", null] })).toBe(false);
  });
});

describe("unwrapSecrets", () => {
  it("replaces secrets and output values at every depth by what they hold", () => {
    const value = {
      plain: 1,
      list: [secret({ inner: secret("a") })],
      output: marked(OUTPUT, { value: secret("b"), dependencies: ["urn"] }),
      later: marked(OUTPUT, { secret: true }),
    };
    expect(unwrapSecrets(value)).toEqual({
      plain: 1,
      list: [{ inner: "a" }],
      output: "b",
      later: UNKNOWN,
    });
  });

  it("leaves a value without markers as it is", () => {
    fc.assert(
      fc.property(anyValue, (value) => {
        expect(unwrapSecrets(value)).toEqual(value);
      }),
    );
  });
});

describe("markers of other kinds", () => {
  const kinds = {
    asset: marked("c44067f5952c0a294b673a41bacd8c17", { text: "x" }),
    archive: marked("0def7320c3a5731c473e5ecbe6d01bc7", { path: "." }),
    reference: marked("5cf8f73096256a8f31e491e813e4eb8e", { urn: "urn" }),
    object: { text: "x" },
  };

  it("are told apart, and all are objects", () => {
    const read = mapObject(kinds, (value) => [
      isAsset(value),
      isArchive(value),
      isResourceReference(value),
      isObject(value),
    ]);
    expect(read).toEqual({
      asset: [true, false, false, true],
      archive: [false, true, false, true],
      reference: [false, false, true, true],
      object: [false, false, false, true],
    });
  });
});

describe("deepEqual", () => {
  it("is reflexive, and does not look at the order of keys", () => {
    fc.assert(
      fc.property(anyValue, (value) => {
        const reversed = isObject(value)
          ? Object.fromEntries(Object.entries(value).reverse())
          : structuredClone(value);
        expect(deepEqual(value, reversed)).toBe(true);
      }),
    );
  });

  it.each<[Value | undefined, Value | undefined]>([
    [{ a: 1 }, { a: 1, b: null }],
    [{ a: null }, { b: null }],
    [{ a: 1 }, { a: "1" }],
    [
      [1, 2],
      [2, 1],
    ],
    [[1], [1, 2]],
    [[], {}],
    [null, undefined],
    [null, {}],
    ["x", secret("x")],
  ])("tells %j from %j, both ways", (a, b) => {
    expect([deepEqual(a, b), deepEqual(b, a)]).toEqual([false, false]);
  });
});

describe("toStruct and fromStruct", () => {
  it("give every property bag back as it was", () => {
    const key = fc.string().filter((text) => text !== "__proto__");
    fc.assert(
      fc.property(fc.dictionary(key, anyValue), (properties: Properties) => {
        const wire = toStruct(properties).serializeBinary();
        expect(fromStruct(Struct.deserializeBinary(wire))).toEqual(properties);
      }),
    );
  });

  it("keep null, zero, false, empty text and empty collections apart", () => {
    const properties = {
      a: null,
      b: 0,
      c: false,
      d: "",
      e: [],
      f: {},
      g: [null],
      h: -0.5,
      i: 1e21,
    };
    expect(fromStruct(toStruct(properties))).toEqual(properties);
  });

  it("leave out what is undefined, and read an absent message as an empty bag", () => {
    expect(fromStruct(toStruct({ a: undefined, b: 1 }))).toEqual({ b: 1 });
    expect(fromStruct(undefined)).toEqual({});
  });

  it("refuse what JSON cannot hold, naming the place", () => {
    const properties = { a: { b: [1, (() => 1) as unknown as Value] } };
    expect(() => toStruct(properties)).toThrow(
      new TypeError(
        'Property "a.b[1]": only JSON values can be sent, got function. Convert it first.',
      ),
    );
  });

  it("keep an own key that is named like a built-in, and refuse the one that would be lost", () => {
    const properties = { constructor: "c", toString: 1, hasOwnProperty: null };
    expect(fromStruct(toStruct(properties))).toEqual(properties);
    const lost = JSON.parse('{"a": {"__proto__": {"x": 1}}}') as Properties;
    expect(() => toStruct(lost)).toThrow(
      new TypeError('Property "__proto__": it cannot be sent. Choose another key.'),
    );
  });
});
