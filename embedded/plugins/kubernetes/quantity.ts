/** Kubernetes quantities ("100m", "1.5Gi", "1e3") in their canonical form, as Go's `resource.Quantity` writes them. */

const DECIMAL_EXPONENTS: { readonly [suffix: string]: number } = {
  n: -9,
  u: -6,
  m: -3,
  "": 0,
  k: 3,
  M: 6,
  G: 9,
  T: 12,
  P: 15,
  E: 18,
};
const DECIMAL_SUFFIXES = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"] as const;
const BINARY_SUFFIXES = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"] as const;
/** Smaller parts than this are rounded up to it: one billionth. */
const SMALLEST_EXPONENT = -9;

/**
 * The canonical form of a quantity, or undefined when it is none.
 *
 * Like Go's, it leaves some spellings alone that are not the shortest ("1.500"), for the API server does so too.
 */
export function canonicalQuantity(quantity: string): string | undefined {
  const match = /^([+-]?)(\d*)(?:\.(\d*))?([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?$/.exec(
    quantity.trim(),
  );
  if (match === null) return undefined;
  const [, sign = "", whole = "", fraction = "", suffix = ""] = match;
  if (whole === "" && fraction === "") return undefined;
  if (quantity === "0") return quantity;
  const number = whole.replace(/^0+(?=.)/, "");
  const digits = BigInt(`${number}${fraction}`);
  const negative = sign === "-" ? "-" : "";

  const power = BINARY_SUFFIXES.indexOf(suffix as (typeof BINARY_SUFFIXES)[number]);
  if (power > 0) return canonicalBinary(quantity, negative, digits, fraction.length, power);

  const exponentForm = /^[eE]/.test(suffix);
  const exponent = exponentForm ? Number(suffix.slice(1)) : (DECIMAL_EXPONENTS[suffix] ?? 0);
  const scale = exponent - fraction.length;
  const shifted = `${number}${fraction}`;
  const kept =
    shifted.length <= 18 &&
    scale >= SMALLEST_EXPONENT &&
    scale % 3 === 0 &&
    !shifted.endsWith("000") &&
    !shifted.startsWith("0");
  if (kept) return quantity.trim();
  return negative + canonicalDecimal(digits, scale, exponentForm);
}

function canonicalDecimal(digits: bigint, scale: number, exponentForm: boolean): string {
  if (digits === 0n) return "0";
  let mantissa = digits;
  let exponent = scale;
  while (exponent < SMALLEST_EXPONENT) {
    mantissa = (mantissa + 9n) / 10n;
    exponent += 1;
  }
  while (mantissa % 10n === 0n) {
    mantissa /= 10n;
    exponent += 1;
  }
  while (exponent % 3 !== 0) {
    mantissa *= 10n;
    exponent -= 1;
  }
  while (exponent > 18) {
    mantissa *= 1000n;
    exponent -= 3;
  }
  if (exponentForm) return exponent === 0 ? String(mantissa) : `${mantissa}e${exponent}`;
  return `${mantissa}${DECIMAL_SUFFIXES[exponent / 3 + 3] ?? ""}`;
}

function canonicalBinary(
  quantity: string,
  negative: string,
  digits: bigint,
  fractionDigits: number,
  power: number,
): string {
  if (fractionDigits === 0 && (digits & 7n) !== 0n) return quantity.trim();
  const divisor = 10n ** BigInt(fractionDigits);
  const scaled = digits * 1024n ** BigInt(power);
  if (scaled % divisor !== 0n || scaled / divisor < 1024n) {
    return negative + canonicalDecimal(scaled, -fractionDigits, false);
  }
  let value = scaled / divisor;
  let suffix = 0;
  while (suffix < BINARY_SUFFIXES.length - 1 && value % 1024n === 0n) {
    value /= 1024n;
    suffix += 1;
  }
  return `${negative}${value}${BINARY_SUFFIXES[suffix] ?? ""}`;
}
