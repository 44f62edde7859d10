/** An inclusive span of whole numbers: IPv4 addresses as unsigned 32-bit numbers, or ports. */
export interface Range {
  readonly first: number;
  readonly last: number;
}

/** Every IPv4 address. */
export const ALL_ADDRESSES: Range = { first: 0, last: 2 ** 32 - 1 };

/** The number of a dotted IPv4 address, or undefined for anything else (IPv6 among it). */
export function addressNumber(text: string): number | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (match === null) return undefined;
  let number = 0;
  for (const part of match.slice(1)) {
    const octet = Number(part);
    if (octet > 255) return undefined;
    number = number * 256 + octet;
  }
  return number;
}

/** The span of `a.b.c.d/n`, host bits ignored as Kubernetes does, or undefined for anything else (IPv6 among it). */
export function cidrRange(text: string): Range | undefined {
  const [addressText = "", prefixText = "", ...rest] = text.split("/");
  const address = addressNumber(addressText);
  if (address === undefined || rest.length > 0 || !/^\d{1,2}$/.test(prefixText)) return undefined;
  const prefixLength = Number(prefixText);
  if (prefixLength > 32) return undefined;
  const size = 2 ** (32 - prefixLength);
  const first = Math.floor(address / size) * size;
  return { first, last: first + size - 1 };
}

/** The same numbers as sorted ranges that neither overlap nor touch. */
export function union(ranges: readonly Range[]): readonly Range[] {
  const merged: Range[] = [];
  for (const range of ranges.toSorted((a, b) => a.first - b.first)) {
    const previous = merged.at(-1);
    if (previous !== undefined && range.first <= previous.last + 1) {
      merged[merged.length - 1] = {
        first: previous.first,
        last: Math.max(previous.last, range.last),
      };
    } else {
      merged.push(range);
    }
  }
  return merged;
}

/** What is left of a range without the excepted ones. */
export function without(range: Range, exceptions: readonly Range[]): readonly Range[] {
  const left: Range[] = [];
  let first = range.first;
  for (const exception of union(exceptions)) {
    if (exception.last < first || exception.first > range.last) continue;
    if (exception.first > first) left.push({ first, last: exception.first - 1 });
    first = exception.last + 1;
  }
  if (first <= range.last) left.push({ first, last: range.last });
  return left;
}

/** Whether the ranges, sorted and merged, leave no address out. */
export function isEveryAddress(ranges: readonly Range[]): boolean {
  const [only, ...rest] = ranges;
  return (
    rest.length === 0 && only?.first === ALL_ADDRESSES.first && only.last === ALL_ADDRESSES.last
  );
}

/** A range of addresses as nft writes it: one address, a prefix where it is one, else `first-last`. */
export function addressRangeText({ first, last }: Range): string {
  if (first === last) return addressText(first);
  const size = last - first + 1;
  const prefixLength = 32 - Math.log2(size);
  return Number.isInteger(prefixLength) && first % size === 0
    ? `${addressText(first)}/${prefixLength}`
    : `${addressText(first)}-${addressText(last)}`;
}

/** The dotted form of an address number. */
export function addressText(address: number): string {
  return [2 ** 24, 2 ** 16, 2 ** 8, 1].map((unit) => Math.floor(address / unit) % 256).join(".");
}
