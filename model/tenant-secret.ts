import { hkdfSync } from "node:crypto";

/** What a random secret of a tenant is for; each purpose gives an independent one. */
export type SecretPurpose = "session" | "token" | "webhook" | "database-app" | "database-backup";

/** Letters and digits of a seed: more than 256 random bits. */
export const SEED_LETTERS = 48;

/**
 * One secret out of a tenant's seed: 256 bits as 43 letters, digits, hyphens and underscores. HKDF-SHA-256 with an info
 * string that names format and purpose, so that no secret leads to another or back to the seed.
 */
export function deriveSecret(seed: string, purpose: SecretPurpose): string {
  const secret = hkdfSync("sha256", seed, "", `fluxbilling/v1/secret/${purpose}`, 32);
  return Buffer.from(secret).toString("base64url");
}
