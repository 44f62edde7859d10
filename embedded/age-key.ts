import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
} from "node:crypto";

const ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const GENERATOR = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3];
const IDENTITY = "age-secret-key-";
const RECIPIENT = "age";
/** What comes before the thirty-two bytes in the PKCS #8 form of an X25519 key (RFC 8410). */
const PKCS8_HEAD = Buffer.from("302e020100300506032b656e04220420", "hex");

/** A new private backup key, as `age-keygen` writes it: `AGE-SECRET-KEY-1…`. */
export function makeAgeIdentity(): string {
  const { privateKey } = generateKeyPairSync("x25519");
  return bech32(IDENTITY, rawKey(privateKey, "d")).toUpperCase();
}

/** The public half of a private backup key: `age1…`. */
export function ageRecipient(identity: string): string {
  const secret = unbech32(IDENTITY, identity.trim().toLowerCase());
  const key = createPrivateKey({
    key: Buffer.concat([PKCS8_HEAD, secret]),
    format: "der",
    type: "pkcs8",
  });
  return bech32(RECIPIENT, rawKey(createPublicKey(key), "x"));
}

function rawKey(key: KeyObject, part: "d" | "x"): Buffer {
  return Buffer.from(key.export({ format: "jwk" })[part] ?? "", "base64url");
}

/** BIP 173, as age uses it: without the limit of ninety characters. */
function bech32(prefix: string, data: Buffer): string {
  const words = regroup([...data], 8, 5);
  const check = polymod([...spread(prefix), ...words, 0, 0, 0, 0, 0, 0]) ^ 1;
  const sum = [5, 4, 3, 2, 1, 0].map((place) => (check >>> (5 * place)) & 31);
  return `${prefix}1${[...words, ...sum].map((word) => ALPHABET[word]).join("")}`;
}

function unbech32(prefix: string, text: string): Buffer {
  const words = [...text.slice(prefix.length + 1)].map((letter) => ALPHABET.indexOf(letter));
  if (!text.startsWith(`${prefix}1`) || polymod([...spread(prefix), ...words]) !== 1) {
    throw new Error("a backup key must be as age-keygen writes it");
  }
  return Buffer.from(regroup(words.slice(0, -6), 5, 8).slice(0, 32));
}

function spread(prefix: string): number[] {
  const codes = [...prefix].map((letter) => letter.charCodeAt(0));
  return [...codes.map((code) => code >> 5), 0, ...codes.map((code) => code & 31)];
}

function polymod(words: readonly number[]): number {
  let check = 1;
  for (const word of words) {
    const top = check >>> 25;
    check = ((check & 0x1ffffff) << 5) ^ word;
    GENERATOR.forEach((value, bit) => {
      if (((top >> bit) & 1) === 1) check ^= value;
    });
  }
  return check;
}

/** Groups of bits as groups of another size, filled up with zeros. */
function regroup(groups: readonly number[], from: number, to: number): number[] {
  const bits = groups.map((group) => group.toString(2).padStart(from, "0")).join("");
  const parts: string[] = bits.match(new RegExp(`.{1,${String(to)}}`, "g")) ?? [];
  return parts.map((part) => Number.parseInt(part.padEnd(to, "0"), 2));
}
