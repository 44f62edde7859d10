/** New private keys, and one key in all the forms that the official tls plugin gives. */
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPair,
  randomBytes,
} from "node:crypto";
import type { KeyObject } from "node:crypto";
import { promisify } from "node:util";

export const ALGORITHMS = ["RSA", "ECDSA", "ED25519"] as const;
export type Algorithm = (typeof ALGORITHMS)[number];

/** The curves by the names that programs use, with OpenSSL's name, and SSH's where SSH has the curve. */
const CURVES = {
  P224: { openssl: "secp224r1" },
  P256: { openssl: "prime256v1", ssh: "nistp256" },
  P384: { openssl: "secp384r1", ssh: "nistp384" },
  P521: { openssl: "secp521r1", ssh: "nistp521" },
} as const;
export type Curve = keyof typeof CURVES;
export const CURVE_NAMES = Object.keys(CURVES) as Curve[];

const generate = promisify(generateKeyPair);

export async function generatePrivateKey(options: {
  readonly algorithm: Algorithm;
  /** Only for RSA. */
  readonly rsaBits: number;
  /** Only for ECDSA. */
  readonly curve: Curve;
}): Promise<KeyObject> {
  switch (options.algorithm) {
    case "RSA":
      return (await generate("rsa", { modulusLength: options.rsaBits })).privateKey;
    case "ECDSA":
      return (await generate("ec", { namedCurve: CURVES[options.curve].openssl })).privateKey;
    case "ED25519":
      return (await generate("ed25519")).privateKey;
  }
}

/**
 * Reads a private key in PEM: PKCS#1, SEC 1 or PKCS#8.
 *
 * @param property the property that holds it, for the error
 * @throws when it is none of these; the error says nothing of what was given
 */
export function parsePrivateKey(pem: string, property: string): KeyObject {
  const unusable = `${property}: it must be an RSA, ECDSA or ED25519 private key in PEM format without a passphrase, got something else. Pass the privateKeyPem of a PrivateKey.`;
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch {
    throw new Error(unusable);
  }
  if (!["rsa", "ec", "ed25519"].includes(key.asymmetricKeyType ?? "")) throw new Error(unusable);
  return key;
}

export function algorithmOf(key: KeyObject): Algorithm {
  if (key.asymmetricKeyType === "rsa") return "RSA";
  return key.asymmetricKeyType === "ec" ? "ECDSA" : "ED25519";
}

/** The curve of an ECDSA key; undefined for other keys. */
export function curveOf(key: KeyObject): Curve | undefined {
  const name = key.asymmetricKeyDetails?.namedCurve;
  return CURVE_NAMES.find((curve) => CURVES[curve].openssl === name);
}

export interface KeyForms {
  /** SHA-1 of the public key's DER form, in hexadecimal: what the official plugin takes as id. */
  readonly id: string;
  readonly privateKeyPem: string;
  readonly privateKeyPemPkcs8: string;
  /** Empty for curve P224, which SSH does not know; so are the next three. */
  readonly privateKeyOpenssh: string;
  readonly publicKeyOpenssh: string;
  readonly publicKeyFingerprintMd5: string;
  readonly publicKeyFingerprintSha256: string;
  readonly publicKeyPem: string;
}

export function keyForms(key: KeyObject): KeyForms {
  const publicKey = createPublicKey(key);
  const traditional = { RSA: "pkcs1", ECDSA: "sec1", ED25519: "pkcs8" } as const;
  const der = publicKey.export({ type: "spki", format: "der" });
  return {
    id: createHash("sha1").update(der).digest("hex"),
    privateKeyPem: key.export({ type: traditional[algorithmOf(key)], format: "pem" }).toString(),
    privateKeyPemPkcs8: key.export({ type: "pkcs8", format: "pem" }).toString(),
    publicKeyPem: publicKey.export({ type: "spki", format: "pem" }).toString(),
    ...sshForms(key),
  };
}

type SshForms = Pick<
  KeyForms,
  | "privateKeyOpenssh"
  | "publicKeyOpenssh"
  | "publicKeyFingerprintMd5"
  | "publicKeyFingerprintSha256"
>;

function sshForms(key: KeyObject): SshForms {
  const parts = sshParts(key);
  if (parts === undefined) {
    return {
      privateKeyOpenssh: "",
      publicKeyOpenssh: "",
      publicKeyFingerprintMd5: "",
      publicKeyFingerprintSha256: "",
    };
  }
  const blob = Buffer.concat([sshString(parts.type), ...parts.publicFields]);
  const md5 = createHash("md5").update(blob).digest("hex");
  return {
    privateKeyOpenssh: opensshPrivateKey(parts, blob),
    publicKeyOpenssh: `${parts.type} ${blob.toString("base64")}\n`,
    publicKeyFingerprintMd5: (md5.match(/../g) ?? []).join(":"),
    publicKeyFingerprintSha256: `SHA256:${createHash("sha256").update(blob).digest("base64").replace(/=+$/, "")}`,
  };
}

interface SshParts {
  readonly type: string;
  /** What follows the type in the public key. */
  readonly publicFields: readonly Buffer[];
  /** What follows the type in the private key. */
  readonly privateFields: readonly Buffer[];
}

/** The numbers of a key as SSH writes them; undefined for a key that SSH does not know. */
function sshParts(key: KeyObject): SshParts | undefined {
  if (curveOf(key) === "P224") return undefined;
  const jwk = key.export({ format: "jwk" });
  const field = (name: "n" | "e" | "d" | "p" | "q" | "qi" | "x" | "y"): Buffer =>
    Buffer.from(jwk[name] ?? "", "base64url");
  switch (algorithmOf(key)) {
    case "RSA": {
      const [n, e] = [sshInteger(field("n")), sshInteger(field("e"))];
      const secrets = (["d", "qi", "p", "q"] as const).map((name) => sshInteger(field(name)));
      return { type: "ssh-rsa", publicFields: [e, n], privateFields: [n, e, ...secrets] };
    }
    case "ECDSA": {
      const curve = CURVES[curveOf(key) ?? "P224"];
      if (!("ssh" in curve)) return undefined;
      const point = sshString(Buffer.concat([Buffer.from([4]), field("x"), field("y")]));
      const publicFields = [sshString(curve.ssh), point];
      return {
        type: `ecdsa-sha2-${curve.ssh}`,
        publicFields,
        privateFields: [...publicFields, sshInteger(field("d"))],
      };
    }
    case "ED25519": {
      const point = field("x");
      return {
        type: "ssh-ed25519",
        publicFields: [sshString(point)],
        privateFields: [sshString(point), sshString(Buffer.concat([field("d"), point]))],
      };
    }
  }
}

const OPENSSH_BLOCK_BYTES = 8;

/** OpenSSH's own format ("openssh-key-v1"), without a passphrase and without a comment. */
function opensshPrivateKey(parts: SshParts, publicBlob: Buffer): string {
  const check = randomBytes(4);
  const fields = Buffer.concat([
    check,
    check,
    sshString(parts.type),
    ...parts.privateFields,
    sshString(""),
  ]);
  const missing =
    (OPENSSH_BLOCK_BYTES - (fields.length % OPENSSH_BLOCK_BYTES)) % OPENSSH_BLOCK_BYTES;
  const padding = Buffer.from(Array.from({ length: missing }, (_, i) => i + 1));
  const keyCount = Buffer.from([0, 0, 0, 1]);
  const body = Buffer.concat([
    Buffer.from("openssh-key-v1\0"),
    sshString("none"),
    sshString("none"),
    sshString(""),
    keyCount,
    sshString(publicBlob),
    sshString(Buffer.concat([fields, padding])),
  ]);
  return pem("OPENSSH PRIVATE KEY", body);
}

function sshString(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

/** A positive number: without leading zeros, but for the one that keeps it positive. */
function sshInteger(bytes: Buffer): Buffer {
  const start = bytes.findIndex((byte) => byte !== 0);
  const trimmed = bytes.subarray(start === -1 ? bytes.length : start);
  const negative = ((trimmed[0] ?? 0) & 0x80) !== 0;
  return sshString(negative ? Buffer.concat([Buffer.from([0]), trimmed]) : trimmed);
}

/** DER as PEM, in lines of 64 characters. */
export function pem(label: string, der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString("base64")
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}
