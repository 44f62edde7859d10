/** Names that the official plugins would choose from the same seed. */
import { createHash, randomBytes } from "node:crypto";

const HEX = "0123456789abcdef";

export interface UniqueNameOptions {
  /** The engine's `randomSeed` of a check, in base64; without it the name is truly random. */
  readonly randomSeed?: string | undefined;
  readonly prefix: string;
  /** How many random characters follow the prefix. @default 8 */
  readonly randomLength?: number;
  /** Longest name allowed, in characters. @default no limit */
  readonly maxLength?: number;
  /** Characters to choose from. @default lower-case hexadecimal digits */
  readonly alphabet?: string;
}

/**
 * The prefix followed by random characters. Equal seeds give equal names, the same that Pulumi's Go SDK
 * (`resource.NewUniqueName`) gives, so that a preview shows the name that the update will use.
 *
 * @throws when the name would be longer than allowed
 */
export function uniqueName(options: UniqueNameOptions): string {
  const { randomSeed, prefix, randomLength = 8, maxLength, alphabet = HEX } = options;
  if (maxLength !== undefined && prefix.length + randomLength > maxLength) {
    throw new Error(
      `Name "${prefix}": with ${randomLength} random characters it must not be longer than ${maxLength}, got ${prefix.length + randomLength}. Give a shorter name.`,
    );
  }
  const seed =
    randomSeed === undefined || randomSeed === ""
      ? randomBytes(32)
      : createHash("sha256").update(Buffer.from(randomSeed, "base64")).digest();
  const numbers = chacha8(seed);
  const count = BigInt(alphabet.length);
  // Numbers above the last multiple of the alphabet's length would favour its first characters.
  const limit = MAX_UINT64 - (MAX_UINT64 % count);
  let suffix = "";
  while (suffix.length < randomLength) {
    const number = numbers.next().value;
    if (number < limit) suffix += alphabet.charAt(Number(number % count));
  }
  return prefix + suffix;
}

const MAX_UINT64 = 0xffff_ffff_ffff_ffffn;
const BLOCKS = 4;
const WORDS = 16;
/** Blocks that one key is used for; the last 32 bytes of the last of them are the next key. */
const BLOCKS_PER_KEY = 16;
const KEY_BYTES = 32;

/** The stream of Go's `math/rand/v2.ChaCha8`: four interleaved ChaCha blocks of eight rounds at a time. */
function* chacha8(seed: Buffer): Generator<bigint, never> {
  let key = seed;
  for (;;) {
    for (let counter = 0; counter < BLOCKS_PER_KEY; counter += BLOCKS) {
      const bytes = fourBlocks(key, counter);
      const last = counter + BLOCKS === BLOCKS_PER_KEY;
      const end = bytes.length - (last ? KEY_BYTES : 0);
      for (let at = 0; at < end; at += 8) yield bytes.readBigUInt64LE(at);
      if (last) key = bytes.subarray(end);
    }
  }
}

function fourBlocks(key: Buffer, counter: number): Buffer {
  const bytes = Buffer.alloc(BLOCKS * WORDS * 4);
  for (let lane = 0; lane < BLOCKS; lane += 1) {
    const start = new Uint32Array(WORDS);
    start.set([0x61707865, 0x3320646e, 0x79622d32, 0x6b206574]);
    for (let i = 0; i < 8; i += 1) start[4 + i] = key.readUInt32LE(4 * i);
    start[12] = counter + lane;
    const block = start.slice();
    for (let round = 0; round < 4; round += 1) {
      for (let i = 0; i < 4; i += 1) quarterRound(block, i, 4 + i, 8 + i, 12 + i);
      for (let i = 0; i < 4; i += 1) {
        quarterRound(block, i, 4 + ((i + 1) % 4), 8 + ((i + 2) % 4), 12 + ((i + 3) % 4));
      }
    }
    for (let i = 0; i < WORDS; i += 1) {
      const added = i >= 4 && i < 12 ? (start[i] ?? 0) : 0;
      bytes.writeUInt32LE(((block[i] ?? 0) + added) >>> 0, 4 * (BLOCKS * i + lane));
    }
  }
  return bytes;
}

function quarterRound(words: Uint32Array, a: number, b: number, c: number, d: number): void {
  const step = (x: number, y: number, z: number, bits: number): void => {
    words[x] = (words[x] ?? 0) + (words[y] ?? 0);
    const mixed = (words[z] ?? 0) ^ (words[x] ?? 0);
    words[z] = (mixed << bits) | (mixed >>> (32 - bits));
  };
  step(a, b, d, 16);
  step(c, d, b, 12);
  step(a, b, d, 8);
  step(c, d, b, 7);
}
