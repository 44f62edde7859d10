import { createHash, createPrivateKey, createPublicKey, sign } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { Refusal } from "./refusal.ts";

/** What a certificate for a backup key allows: one user, one command, from these addresses. */
export interface SshCertificateArgs {
  /** The key to certify: `ssh-ed25519 <base64>`, with or without a comment. */
  readonly publicKey: string;
  /** The user that the key may log in as. */
  readonly principal: string;
  /** The command that runs whatever the client asks for. */
  readonly forceCommand: string;
  /** Addresses that a client may come from. */
  readonly sourceAddresses: readonly string[];
  /** Name in the host's log. */
  readonly keyId: string;
  /** Number in the host's log and for revocation. */
  readonly serial: number;
}

/** An authority that certifies SSH keys. */
export interface SshAuthority {
  /** `ssh-ed25519 <base64>`: what the host trusts. */
  readonly publicKey: string;
  /**
   * The certificate of a key, in one line, as OpenSSH's client reads it from `<key>-cert.pub`. The
   * same arguments give the same line: nothing in it is random, so an unchanged tenant shows no
   * change.
   */
  certify(args: SshCertificateArgs): string;
}

const KEY_TYPE = "ssh-ed25519";
const CERTIFICATE_TYPE = "ssh-ed25519-cert-v01@openssh.com";
const USER_CERTIFICATE = 1;
const FOREVER = 0xffff_ffff_ffff_ffffn;

/**
 * The authority whose private key a PEM holds.
 *
 * @param pem PKCS #8, Ed25519.
 * @param source Where the key comes from, for errors.
 * @throws Refusal `AUTHORITY_KEY` when it is no such key. The text is in no message.
 */
export function sshAuthority(pem: string, source: string): SshAuthority {
  const key = parseKey(pem);
  if (key?.asymmetricKeyType !== "ed25519") {
    throw new Refusal(
      "AUTHORITY_KEY",
      `Backup authority "${source}": must be an Ed25519 private key in PEM (PKCS #8), got ${key === undefined ? "no readable key" : `a key of type ${key.asymmetricKeyType ?? "unknown"}`}. Make one with \`openssl genpkey -algorithm ed25519\`.`,
    );
  }
  const blob = publicKeyBlob(key);
  return {
    publicKey: `${KEY_TYPE} ${blob.toString("base64")}`,
    certify: (args) => certify(key, blob, args),
  };
}

function parseKey(pem: string): KeyObject | undefined {
  try {
    return createPrivateKey(pem);
  } catch {
    return undefined;
  }
}

function publicKeyBlob(key: KeyObject): Buffer {
  const raw = createPublicKey(key).export({ format: "jwk" }).x;
  return Buffer.concat([string(KEY_TYPE), string(Buffer.from(raw ?? "", "base64url"))]);
}

function certify(authority: KeyObject, authorityBlob: Buffer, args: SshCertificateArgs): string {
  const [type, encoded] = args.publicKey.trim().split(/\s+/);
  if (type !== KEY_TYPE || encoded === undefined) {
    throw new RangeError(`a key to certify must be of type ${KEY_TYPE}`);
  }
  const blob = Buffer.from(encoded, "base64");
  const subject = blob.subarray(string(KEY_TYPE).length);
  const body = Buffer.concat([
    string(CERTIFICATE_TYPE),
    // Against a chosen-prefix attack on the signature's hash a nonce must be unforeseeable to whoever
    // asks for a certificate; here nobody outside asks, and a fixed one keeps the line the same.
    string(createHash("sha256").update(blob).update(args.keyId).digest()),
    subject,
    uint64(BigInt(args.serial)),
    uint32(USER_CERTIFICATE),
    string(args.keyId),
    string(string(args.principal)),
    uint64(0n),
    uint64(FOREVER),
    string(
      Buffer.concat([
        option("force-command", args.forceCommand),
        option("source-address", args.sourceAddresses.join(",")),
      ]),
    ),
    string(""),
    string(""),
    string(authorityBlob),
  ]);
  const signature = Buffer.concat([string(KEY_TYPE), string(sign(null, body, authority))]);
  return `${CERTIFICATE_TYPE} ${Buffer.concat([body, string(signature)]).toString("base64")} ${args.keyId}`;
}

function option(name: string, value: string): Buffer {
  return Buffer.concat([string(name), string(string(value))]);
}

function string(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([uint32(bytes.length), bytes]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function uint64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
}
