import { verify as matchesHash } from "@node-rs/bcrypt";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Properties } from "../../../embedded/plugins/provider.ts";
import { randomProvider } from "../../../embedded/plugins/random/random-provider.ts";
import { unwrapSecrets } from "../../../embedded/plugins/values.ts";
import { recordedCalls, replay, testContext } from "./replay.ts";
import type { Allowance } from "./replay.ts";

const provider = randomProvider();

const random: Allowance["reason"] = "the value is random";
const allowances: Allowance[] = [
  { methods: ["Create"], at: "id", reason: random },
  { methods: ["Create"], at: "properties.id", reason: random },
  { methods: ["Create"], at: "properties.result", reason: random },
  { methods: ["Create"], at: "properties.bcryptHash", reason: random },
  { methods: ["Create"], type: ":RandomBytes", at: "properties.base64", reason: random },
  { methods: ["Create"], at: "properties.hex", reason: random },
  { methods: ["Create"], type: ":RandomId", at: "properties.b64Std", reason: random },
  { methods: ["Create"], type: ":RandomId", at: "properties.b64Url", reason: random },
  { methods: ["Create"], type: ":RandomId", at: "properties.dec", reason: random },
];

function request(kind: string, rest: Properties) {
  const type = `random:index/random${kind}:Random${kind}`;
  return { urn: `urn:pulumi:s::p::${type}::it`, type, name: "it", ...rest } as const;
}

async function create(kind: string, inputs: Properties) {
  const checked = await provider.check({ ...request(kind, {}), olds: {}, news: inputs });
  expect(checked.failures).toBe(undefined);
  const { id, properties } = await provider.create(
    { ...request(kind, {}), properties: unwrapSecrets(checked.inputs ?? {}) },
    testContext(),
  );
  return { id, ...unwrapSecrets(properties) } as Properties & { result: string; id: string };
}

async function failures(kind: string, news: Properties) {
  return (await provider.check({ ...request(kind, {}), olds: {}, news })).failures;
}

const text = (made: Properties, name: string): string => {
  const value = made[name];
  if (typeof value !== "string") throw new Error(`${name} is no text`);
  return value;
};

const count = (from: string, characters: RegExp): number => from.match(characters)?.length ?? 0;

describe("random provider", () => {
  it("answers every recorded call as the official plugin did", async () => {
    expect(await replay(provider, recordedCalls("random"), allowances)).toEqual([]);
  });

  it("gives passwords of the length and the least counts asked for, from the allowed classes", async () => {
    const least = fc.nat({ max: 4 });
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          minLower: least,
          minUpper: least,
          minNumeric: least,
          minSpecial: least,
          length: fc.integer({ min: 16, max: 40 }),
          upper: fc.boolean(),
          special: fc.boolean(),
        }),
        async (inputs) => {
          const { result } = await create("String", inputs);
          expect(result).toHaveLength(inputs.length);
          expect(count(result, /[a-z]/g)).toBeGreaterThanOrEqual(inputs.minLower);
          expect(count(result, /[0-9]/g)).toBeGreaterThanOrEqual(inputs.minNumeric);
          const upper = count(result, /[A-Z]/g);
          const special = count(result, /[!@#$%&*()\-_=+[\]{}<>:?]/g);
          expect([inputs.upper ? upper >= inputs.minUpper : upper]).toEqual([
            inputs.upper ? true : inputs.minUpper,
          ]);
          expect([inputs.special ? special >= inputs.minSpecial : special]).toEqual([
            inputs.special ? true : inputs.minSpecial,
          ]);
        },
      ),
    );
  });

  it("spreads the characters that must be there over the whole text", async () => {
    const results = await Promise.all(
      Array.from({ length: 60 }, () =>
        create("String", { length: 20, minNumeric: 1, numeric: false }),
      ),
    );
    const places = new Set(results.map(({ result }) => result.search(/[0-9]/)));
    expect(places.size).toBeGreaterThan(5);
  });

  it("draws special characters from overrideSpecial", async () => {
    const { result } = await create("String", {
      length: 30,
      lower: false,
      upper: false,
      numeric: false,
      overrideSpecial: "_~",
    });
    expect(result).toMatch(/^[_~]{30}$/);
  });

  it("never gives the same password twice, and hashes each with bcrypt at cost 10", async () => {
    const one = await create("Password", { length: 32 });
    const other = await create("Password", { length: 32 });
    expect(one.result).not.toBe(other.result);
    expect(text(one, "bcryptHash")).toMatch(/^\$2a\$10\$[./A-Za-z0-9]{53}$/);
    expect(await matchesHash(one.result, text(one, "bcryptHash"))).toBe(true);
    expect(await matchesHash(other.result, text(one, "bcryptHash"))).toBe(false);
  });

  it("hashes a password beyond bcrypt's 72 bytes", async () => {
    const long = await create("Password", { length: 100 });
    expect(await matchesHash(long.result.slice(0, 72), text(long, "bcryptHash"))).toBe(true);
  });

  it("gives one value in all the forms of RandomBytes and RandomId", async () => {
    const bytes = await create("Bytes", { length: 32 });
    const raw = Buffer.from(text(bytes, "base64"), "base64");
    expect([raw.length, bytes.id, bytes["hex"]]).toEqual([
      32,
      bytes["base64"],
      raw.toString("hex"),
    ]);

    const id = await create("Id", { byteLength: 6, prefix: "host-" });
    const hex = text(id, "hex").slice("host-".length);
    expect(id).toMatchObject({
      b64Std: `host-${Buffer.from(hex, "hex").toString("base64")}`,
      b64Url: `host-${Buffer.from(hex, "hex").toString("base64url")}`,
      dec: `host-${BigInt(`0x${hex}`)}`,
      prefix: "host-",
    });
    expect(hex).toMatch(/^[0-9a-f]{12}$/);
  });

  it("gives integers of the whole range, both ends included", async () => {
    const results = await Promise.all(
      Array.from({ length: 40 }, () => create("Integer", { min: -1, max: 1 })),
    );
    expect([...new Set(results.map(({ result }) => Number(result)))].sort((a, b) => a - b)).toEqual(
      [-1, 0, 1],
    );
    expect(results.every(({ id, result }) => id === String(result))).toBe(true);
  });

  it("takes number as the old name of numeric", async () => {
    expect(await create("String", { length: 8, number: false })).toMatchObject({
      number: false,
      numeric: false,
    });
    expect(await failures("String", { length: 8, number: false, numeric: true })).toEqual([
      {
        property: "number",
        reason:
          "It is the old name of numeric and must be equal to it, got false. Give numeric alone.",
      },
    ]);
  });

  it.each<[string, Properties, object[]]>([
    ["Password", {}, [{ property: "length", reason: "Missing required property 'length'" }]],
    [
      "Password",
      { length: 0 },
      [{ property: "length", reason: "It must be a whole number of at least 1, got 0." }],
    ],
    [
      "Password",
      { length: 4, minLower: 3, minUpper: 2 },
      [
        {
          property: "length",
          reason:
            "It must be at least the sum of minLower, minNumeric, minSpecial and minUpper, 5, got 4.",
        },
      ],
    ],
    [
      "Password",
      { length: 4, lenght: 5 },
      [
        {
          property: "lenght",
          reason: "Invalid or unknown key. Examine values at 'lenght'.",
        },
      ],
    ],
    [
      "Bytes",
      { length: 1.5 },
      [{ property: "length", reason: "It must be a whole number of at least 1, got 1.5." }],
    ],
    [
      "Bytes",
      { length: "many" },
      [
        {
          property: "length",
          reason: "Expected a number, got string. Examine values at 'length'.",
        },
      ],
    ],
    [
      "Integer",
      { min: 2, max: 1 },
      [{ property: "min", reason: "It must not be above max, 1, got 2." }],
    ],
    [
      "Integer",
      { min: 1, max: 2, seed: "abc" },
      [
        {
          property: "seed",
          reason:
            'The embedded random plugin cannot repeat the official one\'s numbers, got seed "abc". Leave seed out, or use the official plugin.',
        },
      ],
    ],
  ])("refuses Random%s %j", async (kind, inputs, expected) => {
    expect(await failures(kind, inputs)).toEqual(expected);
  });

  it("refuses a text that no character may be in", async () => {
    const nothing = { length: 3, lower: false, upper: false, numeric: false, special: false };
    await expect(create("String", nothing)).rejects.toThrow(
      new Error(
        "length: some of lower, upper, numeric and special must be true to fill it, got none. Allow one of them.",
      ),
    );
  });

  it("refuses to import, and names the way out", async () => {
    const asked = provider.read({ ...request("Uuid", {}), id: "abc" }, testContext());
    await expect(asked).rejects.toThrow(
      new Error(
        'Resource "it": the embedded random plugin cannot import a random:index/randomUuid:RandomUuid, got id "abc". Let it be created, or import it with the official plugin.',
      ),
    );
  });

  it("refuses a type that it does not know, and lists those it does", async () => {
    const type = "random:index/randomPet:RandomPet";
    const asked = provider.check({ ...request("Uuid", {}), type, news: {} });
    await expect(asked).rejects.toThrow(
      new Error(
        'Resource type "random:index/randomPet:RandomPet": the embedded random plugin must know it, got an unknown one. Use one of: random:index/randomBytes:RandomBytes, random:index/randomId:RandomId, random:index/randomInteger:RandomInteger, random:index/randomPassword:RandomPassword, random:index/randomString:RandomString, random:index/randomUuid:RandomUuid.',
      ),
    );
  });
});
