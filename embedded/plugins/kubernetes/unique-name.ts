/**
 * Names made as the official plugin makes them: from the same seed the same name.
 *
 * The suffix's characters come from Go's ChaCha8 generator, seeded by the SHA-256 of the engine's seed. Only its first
 * block is needed: eight characters take eight of its 32 numbers.
 */
import { createHash, randomBytes } from "node:crypto";

const CONSTANTS = [0x61707865, 0x3320646e, 0x79622d32, 0x6b206574] as const;
const CHARACTERS = "0123456789abcdef";
const SUFFIX_LENGTH = 8;
const ROUNDS = 8;

function rotate(x: number, by: number): number {
  return (x << by) | (x >>> (32 - by));
}

function quarterRound(w: Uint32Array, a: number, b: number, c: number, d: number): void {
  const at = (i: number): number => w[i] ?? 0;
  w[a] = at(a) + at(b);
  w[d] = rotate(at(d) ^ at(a), 16);
  w[c] = at(c) + at(d);
  w[b] = rotate(at(b) ^ at(c), 12);
  w[a] = at(a) + at(b);
  w[d] = rotate(at(d) ^ at(a), 8);
  w[c] = at(c) + at(d);
  w[b] = rotate(at(b) ^ at(c), 7);
}

/** One lane of Go's generator: plain ChaCha8, but that only the key words are added to the result. */
function lane(key: Uint32Array, counter: number): Uint32Array {
  const w = new Uint32Array([...CONSTANTS, ...key, counter, 0, 0, 0]);
  for (let round = 0; round < ROUNDS; round += 2) {
    for (let i = 0; i < 4; i += 1) quarterRound(w, i, 4 + i, 8 + i, 12 + i);
    for (let i = 0; i < 4; i += 1) {
      quarterRound(w, i, 4 + ((i + 1) % 4), 8 + ((i + 2) % 4), 12 + ((i + 3) % 4));
    }
  }
  for (let i = 4; i < 12; i += 1) w[i] = (w[i] ?? 0) + (key[i - 4] ?? 0);
  return w;
}

/**
 * The prefix and eight hexadecimal characters.
 *
 * @param prefix what the name begins with, its separator included.
 * @param seed the engine's seed in base64; without one the suffix is random.
 */
export function uniqueName(prefix: string, seed?: string): string {
  const bytes = seed === undefined || seed === "" ? randomBytes(32) : Buffer.from(seed, "base64");
  const hash = createHash("sha256").update(bytes).digest();
  const key = new Uint32Array(8).map((_, i) => hash.readUInt32LE(4 * i));
  const lanes = [0, 1, 2, 3].map((counter) => lane(key, counter));
  let suffix = "";
  for (let i = 0; i < SUFFIX_LENGTH; i += 1) {
    // A number's low half, row by row, two numbers in a row of four lanes; 16 divides 2^32, so it is enough.
    const low = lanes[(i % 2) * 2]?.[Math.floor(i / 2)] ?? 0;
    suffix += CHARACTERS[low % CHARACTERS.length];
  }
  return prefix + suffix;
}
