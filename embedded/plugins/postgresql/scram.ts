/** What the server is told in place of a password. */
import { createHash, createHmac, pbkdf2, randomBytes } from "node:crypto";
import { promisify } from "node:util";

/** The server's own default. */
const ITERATIONS = 4096;
const SALT_BYTES = 16;
const HASH_BYTES = 32;

/** A password that is a verifier already: the server stores it as it is. */
export function isVerifier(password: string): boolean {
  return password.startsWith("SCRAM-SHA-256$") || /^md5[0-9a-f]{32}$/.test(password);
}

/**
 * The verifier that the server would make of the password itself, so that the password stays out of its log, its
 * activity view and this plugin's statements. The official plugin sends the password; states are the same.
 *
 * @returns the password itself where only the server knows how to normalise it: outside printable ASCII.
 */
export async function scramVerifier(password: string): Promise<string> {
  if (isVerifier(password) || !/^[\x20-\x7e]+$/.test(password)) return password;
  const salt = randomBytes(SALT_BYTES);
  const salted = await promisify(pbkdf2)(password, salt, ITERATIONS, HASH_BYTES, "sha256");
  const hmac = (text: string) => createHmac("sha256", salted).update(text).digest();
  const storedKey = createHash("sha256").update(hmac("Client Key")).digest("base64");
  const serverKey = hmac("Server Key").toString("base64");
  return `SCRAM-SHA-256$${ITERATIONS}:${salt.toString("base64")}$${storedKey}:${serverKey}`;
}
