import { createHash, createHmac, pbkdf2Sync } from "node:crypto";

/** Rounds of PBKDF2 in a verifier: PostgreSQL's own default. */
export const SCRAM_ITERATIONS = 4096;

/**
 * The salt of a role: fixed by its name, so that the same password gives the same verifier at every
 * run. A salt is public; it only has to differ between roles.
 */
export function scramSalt(role: string): Buffer {
  return createHash("sha256").update(`fluxbilling/v1/scram/${role}`).digest().subarray(0, 16);
}

/**
 * What PostgreSQL stores for a password: with it the server can check the password but nobody can
 * log in. Passed in place of the password, so that no statement and no server log holds the
 * password itself.
 *
 * @param password ASCII, so that SASLprep changes nothing.
 * @throws RangeError when the password holds another character.
 */
export function scramVerifier(
  password: string,
  salt: Buffer,
  iterations: number = SCRAM_ITERATIONS,
): string {
  if (!/^[\x20-\x7e]+$/.test(password)) {
    throw new RangeError("a password for SCRAM must be printable ASCII");
  }
  const salted = pbkdf2Sync(password, salt, iterations, 32, "sha256");
  const clientKey = createHmac("sha256", salted).update("Client Key").digest();
  const storedKey = createHash("sha256").update(clientKey).digest("base64");
  const serverKey = createHmac("sha256", salted).update("Server Key").digest("base64");
  return `SCRAM-SHA-256$${iterations}:${salt.toString("base64")}$${storedKey}:${serverKey}`;
}
