import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  addressNumber,
  addressRangeText,
  addressText,
  cidrRange,
  isEveryAddress,
  union,
  without,
} from "../../../embedded/network-policy/ipv4-ranges.ts";
import type { Range } from "../../../embedded/network-policy/ipv4-ranges.ts";

/** Small numbers, so that ranges meet, touch and overlap often. */
const range: fc.Arbitrary<Range> = fc
  .tuple(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 10 }))
  .map(([first, length]) => ({ first, last: first + length }));

function members(ranges: readonly Range[]): readonly number[] {
  return Array.from({ length: 60 }, (_, number) => number).filter((number) =>
    ranges.some(({ first, last }) => first <= number && number <= last),
  );
}

describe("addressNumber", () => {
  it("reads what addressText writes", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 32 - 1 }), (address) => {
        expect(addressNumber(addressText(address))).toBe(address);
      }),
    );
  });

  it("knows no address in anything but four octets", () => {
    expect(
      ["", "10.0.0", "10.0.0.256", "10.0.0.1/32", "::1", "10.0.0.1.2"].map(addressNumber),
    ).toEqual(Array(6).fill(undefined));
  });
});

describe("cidrRange", () => {
  it("ignores host bits", () => {
    expect(addressRangeText(cidrRange("10.1.2.3/16") as Range)).toBe("10.1.0.0/16");
  });

  it("covers every address with a prefix of no length, and one with the longest", () => {
    expect(cidrRange("203.0.113.9/0")).toEqual({ first: 0, last: 2 ** 32 - 1 });
    expect(cidrRange("255.255.255.255/32")).toEqual({ first: 2 ** 32 - 1, last: 2 ** 32 - 1 });
  });

  it("knows no range in anything else", () => {
    expect(
      ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8/8", "fd00::/8"].map(cidrRange),
    ).toEqual(Array(5).fill(undefined));
  });
});

describe("union", () => {
  it("keeps the members and leaves a gap between any two ranges", () => {
    fc.assert(
      fc.property(fc.array(range), (ranges) => {
        const merged = union(ranges);
        expect(members(merged)).toEqual(members(ranges));
        for (const [index, { first }] of merged.entries()) {
          expect(first).toBeGreaterThan((merged[index - 1]?.last ?? -2) + 1);
        }
      }),
    );
  });
});

describe("without", () => {
  it("keeps the members of the one that are in none of the others", () => {
    fc.assert(
      fc.property(range, fc.array(range), (whole, exceptions) => {
        const excepted = members(exceptions);
        expect(members(without(whole, exceptions))).toEqual(
          members([whole]).filter((member) => !excepted.includes(member)),
        );
      }),
    );
  });
});

describe("isEveryAddress", () => {
  it("is true of the whole only", () => {
    expect(isEveryAddress([{ first: 0, last: 2 ** 32 - 1 }])).toBe(true);
    expect(isEveryAddress([{ first: 1, last: 2 ** 32 - 1 }])).toBe(false);
    expect(isEveryAddress([])).toBe(false);
  });
});

describe("addressRangeText", () => {
  it("writes an address, a prefix, or first and last", () => {
    const text = (first: string, last: string): string =>
      addressRangeText({
        first: addressNumber(first) as number,
        last: addressNumber(last) as number,
      });
    expect(text("10.0.0.1", "10.0.0.1")).toBe("10.0.0.1");
    expect(text("10.0.0.0", "10.0.0.255")).toBe("10.0.0.0/24");
    expect(text("10.0.0.1", "10.0.1.0")).toBe("10.0.0.1-10.0.1.0");
    expect(text("0.0.0.0", "255.255.255.255")).toBe("0.0.0.0/0");
  });
});
