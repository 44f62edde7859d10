import { createPublicKey, verify } from "node:crypto";
import { describe, expect, it } from "vitest";
import { Refusal } from "../../model/refusal.ts";
import { sshAuthority } from "../../model/ssh-certificate.ts";
import type { SshCertificateArgs } from "../../model/ssh-certificate.ts";
import { TEST_PUBLIC_KEY } from "../support/construct.ts";
import { ed25519Pem } from "../support/good.ts";

const ARGS: SshCertificateArgs = {
  publicKey: TEST_PUBLIC_KEY,
  principal: "fluxbackup",
  forceCommand: "receive -tenant acme",
  sourceAddresses: ["10.77.0.21/32", "10.77.0.22/32"],
  keyId: "backup-acme",
  serial: 3,
};

/** Reads the certificate by PROTOCOL.certkeys, apart from the code that writes it. */
function read(
  line: string,
): Record<string, unknown> & { body: Buffer; signature: Buffer; authority: Buffer } {
  const blob = Buffer.from(line.split(" ")[1] ?? "", "base64");
  let at = 0;
  const string = (): Buffer => {
    const length = blob.readUInt32BE(at);
    const value = blob.subarray(at + 4, at + 4 + length);
    at += 4 + length;
    return value;
  };
  const number = (bytes: 4 | 8): bigint => {
    const value = bytes === 4 ? BigInt(blob.readUInt32BE(at)) : blob.readBigUInt64BE(at);
    at += bytes;
    return value;
  };
  const strings = (list: Buffer): string[] => {
    const found: string[] = [];
    for (let place = 0; place < list.length;) {
      const length = list.readUInt32BE(place);
      found.push(list.subarray(place + 4, place + 4 + length).toString("latin1"));
      place += 4 + length;
    }
    return found;
  };
  const type = string().toString();
  string();
  const key = string().toString("hex");
  const serial = number(8);
  const kind = number(4);
  const keyId = string().toString();
  const principals = strings(string());
  const after = number(8);
  const before = number(8);
  const options = strings(string()).map((value, index) =>
    index % 2 === 0 ? value : strings(Buffer.from(value, "latin1")).join(),
  );
  const extensions = strings(string());
  string();
  const authorityBlob = string();
  const body = blob.subarray(0, at);
  const signatureBlob = string();
  return {
    type,
    key,
    serial,
    kind,
    keyId,
    principals,
    after,
    before,
    options,
    extensions,
    trailing: blob.length - at,
    body,
    authority: authorityBlob.subarray(19),
    signature: signatureBlob.subarray(19),
  };
}

describe("sshAuthority", () => {
  it("certifies one user, one command and the given addresses, and nothing else", () => {
    const { body, signature, authority, ...fields } = read(
      sshAuthority(ed25519Pem(0x22), "test").certify(ARGS),
    );
    expect(fields).toEqual({
      type: "ssh-ed25519-cert-v01@openssh.com",
      key: "07".repeat(32),
      serial: 3n,
      kind: 1n,
      keyId: "backup-acme",
      principals: ["fluxbackup"],
      after: 0n,
      before: 0xffff_ffff_ffff_ffffn,
      options: [
        "force-command",
        "receive -tenant acme",
        "source-address",
        "10.77.0.21/32,10.77.0.22/32",
      ],
      extensions: [],
      trailing: 0,
    });
    const key = createPublicKey({
      key: { kty: "OKP", crv: "Ed25519", x: authority.toString("base64url") },
      format: "jwk",
    });
    expect(verify(null, body, key, signature)).toBe(true);
  });

  it("gives the same line for the same arguments", () => {
    const authority = sshAuthority(ed25519Pem(0x22), "test");
    expect(authority.certify(ARGS)).toBe(authority.certify(ARGS));
  });

  it("shows the public key that a host must trust", () => {
    expect(sshAuthority(ed25519Pem(0x22), "test").publicKey).toMatch(
      /^ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]{43}$/,
    );
  });

  it.each([
    ["nonsense", "no readable key"],
    [
      "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VuBCIEIBERERERERERERERERERERERERERERERERERERERERER\n-----END PRIVATE KEY-----\n",
      "a key of type x25519",
    ],
  ])("refuses another key without repeating it", (pem, got) => {
    expect(() => sshAuthority(pem, "backup.authority")).toThrow(
      new Refusal(
        "AUTHORITY_KEY",
        `Backup authority "backup.authority": must be an Ed25519 private key in PEM (PKCS #8), got ${got}. Make one with \`openssl genpkey -algorithm ed25519\`.`,
      ),
    );
  });
});
