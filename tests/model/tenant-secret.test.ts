import { hkdfSync } from "node:crypto";
import { describe, expect, it } from "vitest";
import { deriveSecret } from "../../model/tenant-secret.ts";

describe("deriveSecret", () => {
  it("is HKDF-SHA-256 of the seed with the format and purpose as info, 256 bits in 43 letters", () => {
    const secret = hkdfSync("sha256", "a seed", "", "fluxbilling/v1/secret/session", 32);
    expect(deriveSecret("a seed", "session")).toBe(Buffer.from(secret).toString("base64url"));
    expect(deriveSecret("a seed", "session")).toMatch(/^[\w-]{43}$/);
  });

  it("is another for another purpose and another seed", () => {
    const secrets = [
      deriveSecret("a seed", "database-app"),
      deriveSecret("a seed", "database-backup"),
      deriveSecret("another", "database-app"),
    ];
    expect(new Set(secrets).size).toBe(3);
  });
});
