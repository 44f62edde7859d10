/** The embedded stand-in for the official random plugin. */
import { randomBytes, randomInt, randomUUID } from "node:crypto";
import { BridgedProvider } from "../bridged.ts";
import type { BridgedProperties, BridgedProperty, BridgedResource } from "../bridged.ts";
import type { CheckFailure, Properties } from "../provider.ts";
import { isUnknown } from "../values.ts";

/** The release of the official plugin whose answers this one gives. */
const VERSION = "4.21.1";

const DIGITS = "0123456789";
const LOWER = "abcdefghijklmnopqrstuvwxyz";
const UPPER = LOWER.toUpperCase();
const SPECIAL = "!@#$%&*()-_=+[]{}<>:?";

/** The cost that the official plugin uses. */
const BCRYPT_ROUNDS = 10;
/** bcrypt reads no more than this; the official plugin cuts a longer password off here. */
const BCRYPT_MAX_BYTES = 72;

const keepers: BridgedProperty = { kind: "map", use: "optional", forceNew: true };

/** Passwords and strings: a length, and which characters may and must be in it. */
const textProperties: BridgedProperties = {
  keepers,
  length: { kind: "number", use: "required", forceNew: true },
  lower: { kind: "bool", use: "optional", default: true, forceNew: true },
  minLower: { kind: "number", use: "optional", default: 0, forceNew: true },
  minNumeric: { kind: "number", use: "optional", default: 0, forceNew: true },
  minSpecial: { kind: "number", use: "optional", default: 0, forceNew: true },
  minUpper: { kind: "number", use: "optional", default: 0, forceNew: true },
  number: { kind: "bool", use: "optional+computed", forceNew: true },
  numeric: { kind: "bool", use: "optional+computed", forceNew: true },
  overrideSpecial: { kind: "string", use: "optional", forceNew: true },
  special: { kind: "bool", use: "optional", default: true, forceNew: true },
  upper: { kind: "bool", use: "optional", default: true, forceNew: true },
};

function count(inputs: Properties, name: string): number {
  const value = inputs[name];
  return typeof value === "number" ? value : 0;
}

function text(inputs: Properties, name: string): string {
  const value = inputs[name];
  return typeof value === "string" ? value : "";
}

function checkWhole(inputs: Properties, names: readonly string[], least: number): CheckFailure[] {
  return names.flatMap((name) => {
    const value = inputs[name];
    return typeof value !== "number" || (Number.isSafeInteger(value) && value >= least)
      ? []
      : [
          {
            property: name,
            reason: `It must be a whole number of at least ${least}, got ${value}.`,
          },
        ];
  });
}

const MINIMUMS = ["minLower", "minNumeric", "minSpecial", "minUpper"] as const;

function checkText(inputs: Properties): CheckFailure[] {
  const failures = [...checkWhole(inputs, ["length"], 1), ...checkWhole(inputs, MINIMUMS, 0)];
  const least = MINIMUMS.reduce((sum, name) => sum + count(inputs, name), 0);
  const length = inputs["length"];
  if (typeof length === "number" && length < least) {
    failures.push({
      property: "length",
      reason: `It must be at least the sum of minLower, minNumeric, minSpecial and minUpper, ${least}, got ${length}.`,
    });
  }
  const { number, numeric } = inputs;
  const bothGiven = typeof number === "boolean" && typeof numeric === "boolean";
  if (bothGiven && number !== numeric) {
    failures.push({
      property: "number",
      reason: `It is the old name of numeric and must be equal to it, got ${number}. Give numeric alone.`,
    });
  }
  return failures;
}

/** `number` is the old name of `numeric`: each follows the other, and both are true when neither is given. */
function planText(planned: Properties, news: Properties): { planned: Properties } {
  const numeric = news["numeric"] ?? news["number"] ?? true;
  return { planned: { ...planned, number: numeric, numeric } };
}

/** @throws when no character may be used */
function randomText(planned: Properties): string {
  const special = text(planned, "overrideSpecial");
  const sets = [
    { allowed: planned["numeric"], characters: DIGITS, least: count(planned, "minNumeric") },
    { allowed: planned["lower"], characters: LOWER, least: count(planned, "minLower") },
    { allowed: planned["upper"], characters: UPPER, least: count(planned, "minUpper") },
    {
      allowed: planned["special"],
      characters: special === "" ? SPECIAL : special,
      least: count(planned, "minSpecial"),
    },
  ];
  const all = sets.map(({ allowed, characters }) => (allowed === true ? characters : "")).join("");
  const length = count(planned, "length");
  const least = sets.reduce((sum, set) => sum + set.least, 0);
  if (all === "" && length > least) {
    throw new Error(
      "length: some of lower, upper, numeric and special must be true to fill it, got none. Allow one of them.",
    );
  }
  const characters = sets.flatMap((set) => pick(set.characters, set.least));
  characters.push(...pick(all, length - least));
  // Those that had to be there must not stand in front.
  for (let i = characters.length - 1; i > 0; i -= 1) {
    const j = randomInt(i + 1);
    [characters[i], characters[j]] = [characters[j] ?? "", characters[i] ?? ""];
  }
  return characters.join("");
}

function pick(characters: string, times: number): string[] {
  return Array.from({ length: times }, () => characters.charAt(randomInt(characters.length)));
}

const randomPassword: BridgedResource = {
  schemaVersion: 3,
  properties: {
    ...textProperties,
    bcryptHash: { kind: "string", use: "computed", secret: true },
    result: { kind: "string", use: "computed", secret: true },
  },
  checkInputs: checkText,
  modifyPlan: ({ planned, news }) => planText(planned, news),
  create: async (planned) => {
    const result = randomText(planned);
    // Only a new password needs it, and it would delay every start.
    const { hash } = await import("@node-rs/bcrypt");
    const hashed = await hash(Buffer.from(result).subarray(0, BCRYPT_MAX_BYTES), BCRYPT_ROUNDS);
    // The prefix that Go writes; both name the same algorithm.
    const bcryptHash = hashed.replace(/^\$2[by]\$/, "$2a$");
    return { id: "none", state: { ...planned, bcryptHash, result } };
  },
};

const randomString: BridgedResource = {
  schemaVersion: 2,
  properties: { ...textProperties, result: { kind: "string", use: "computed" } },
  checkInputs: checkText,
  modifyPlan: ({ planned, news }) => planText(planned, news),
  create: (planned) => {
    const result = randomText(planned);
    return { id: result, state: { ...planned, result } };
  },
};

const randomBytesResource: BridgedResource = {
  idProperty: false,
  properties: {
    base64: { kind: "string", use: "computed", secret: true },
    hex: { kind: "string", use: "computed", secret: true },
    keepers,
    length: { kind: "number", use: "required", forceNew: true },
  },
  checkInputs: (inputs) => checkWhole(inputs, ["length"], 1),
  create: (planned) => {
    const bytes = randomBytes(count(planned, "length"));
    const base64 = bytes.toString("base64");
    return { id: base64, state: { ...planned, base64, hex: bytes.toString("hex") } };
  },
};

const randomId: BridgedResource = {
  properties: {
    b64Std: { kind: "string", use: "computed" },
    b64Url: { kind: "string", use: "computed" },
    byteLength: { kind: "number", use: "required", forceNew: true },
    dec: { kind: "string", use: "computed" },
    hex: { kind: "string", use: "computed" },
    keepers,
    prefix: { kind: "string", use: "optional", forceNew: true },
  },
  checkInputs: (inputs) => checkWhole(inputs, ["byteLength"], 1),
  create: (planned) => {
    const bytes = randomBytes(count(planned, "byteLength"));
    const prefix = text(planned, "prefix");
    const hex = bytes.toString("hex");
    const b64Url = bytes.toString("base64url");
    return {
      id: b64Url,
      state: {
        ...planned,
        b64Std: prefix + bytes.toString("base64"),
        b64Url: prefix + b64Url,
        dec: prefix + BigInt(`0x${hex}`).toString(),
        hex: prefix + hex,
      },
    };
  },
};

const randomUuid: BridgedResource = {
  properties: { keepers, result: { kind: "string", use: "computed" } },
  create: (planned) => {
    const result = randomUUID();
    return { id: result, state: { ...planned, result } };
  },
};

/** Node's generator gives numbers from ranges below this. */
const MAX_RANGE = 2 ** 48;

const randomInteger: BridgedResource = {
  properties: {
    keepers,
    max: { kind: "number", use: "required", forceNew: true },
    min: { kind: "number", use: "required", forceNew: true },
    result: { kind: "number", use: "computed" },
    seed: { kind: "string", use: "optional", forceNew: true },
  },
  checkInputs: (inputs) => {
    const failures = checkWhole(inputs, ["min", "max"], Number.MIN_SAFE_INTEGER);
    const { min, max, seed } = inputs;
    if (typeof min === "number" && typeof max === "number") {
      const range = max - min;
      if (range < 0) {
        failures.push({ property: "min", reason: `It must not be above max, ${max}, got ${min}.` });
      } else if (range >= MAX_RANGE - 1) {
        failures.push({
          property: "max",
          reason: `It must be less than 2^48 - 1 above min, ${min}, got ${max}.`,
        });
      }
    }
    if (seed !== undefined) {
      failures.push({
        property: "seed",
        reason: `The embedded random plugin cannot repeat the official one's numbers, got ${isUnknown(seed) ? "a seed" : `seed "${text(inputs, "seed")}"`}. Leave seed out, or use the official plugin.`,
      });
    }
    return failures;
  },
  create: (planned) => {
    const result = randomInt(count(planned, "min"), count(planned, "max") + 1);
    return { id: String(result), state: { ...planned, result } };
  },
};

/** A provider for random values; they come from the system's cryptographic generator and live in the state alone. */
export function randomProvider(): BridgedProvider {
  return new BridgedProvider({
    name: "random",
    version: VERSION,
    flavour: "framework",
    resources: {
      "random:index/randomBytes:RandomBytes": randomBytesResource,
      "random:index/randomId:RandomId": randomId,
      "random:index/randomInteger:RandomInteger": randomInteger,
      "random:index/randomPassword:RandomPassword": randomPassword,
      "random:index/randomString:RandomString": randomString,
      "random:index/randomUuid:RandomUuid": randomUuid,
    },
  });
}
