import { hkdfSync } from "node:crypto";
import { Refusal } from "./refusal.ts";
import type { TenantName } from "./tenant-name.ts";

declare const rootKeyBrand: unique symbol;

/** SETTINGS_ENCRYPTION_KEY, 32 bytes: the root of every tenant's keys. It stays in the process. */
export type RootKey = Buffer & { readonly [rootKeyBrand]: true };

/**
 * What a derived key is for; each purpose gives an independent key.
 *
 * `settings` encrypts settings; the three `attributes` are what an application with searchable
 * encrypted attributes asks for; `secret-names` names Secrets after what they hold and leaves the
 * process no more than the root does.
 */
export type KeyPurpose =
  | "settings"
  | "attributes-primary"
  | "attributes-deterministic"
  | "attributes-salt"
  | "secret-names";

/** Bytes of the root key and of each derived key. */
export const KEY_BYTES = 32;

/**
 * The root key that a text spells: 64 hexadecimal digits, or 32 bytes in base64.
 *
 * @param source Where the text comes from, for errors: `SETTINGS_ENCRYPTION_KEY`.
 * @throws Refusal `ROOT_KEY` when it spells none. The text is in no message.
 */
export function parseRootKey(text: string, source: string): RootKey {
  const trimmed = text.trim();
  const bytes = /^[0-9a-fA-F]{64}$/.test(trimmed)
    ? Buffer.from(trimmed, "hex")
    : /^[A-Za-z0-9+/]{43}=$/.test(trimmed)
      ? Buffer.from(trimmed, "base64")
      : undefined;
  if (bytes === undefined) {
    throw new Refusal(
      "ROOT_KEY",
      `Root key "${source}": must be ${KEY_BYTES} bytes as 64 hexadecimal digits or in base64, got ${trimmed.length} characters of another form. Make one with \`openssl rand -base64 ${KEY_BYTES}\`, or give the key that the fleet was made with.`,
    );
  }
  return bytes as RootKey;
}

/** The name of a root key, 16 hexadecimal digits, from which nothing about the key can be learnt. */
export function rootKeyId(root: RootKey): string {
  return Buffer.from(hkdfSync("sha256", root, "", "fluxbilling/v1/root-key-id", 8)).toString("hex");
}

/**
 * Refuses a root key that is not the fleet's own: with it every tenant's key would be replaced by
 * one that opens nothing.
 *
 * @throws Refusal `ROOT_KEY`.
 */
export function checkRootKey(root: RootKey, fleetName: string, expectedId: string): void {
  const id = rootKeyId(root);
  if (id !== expectedId) {
    throw new Refusal(
      "ROOT_KEY",
      `Fleet "${fleetName}": SETTINGS_ENCRYPTION_KEY must be the key with id ${expectedId}, got the key with id ${id}. Give the key that the fleet was made with; for a new fleet, set fluxbilling:fleet.settingsKeyId to "${id}".`,
    );
  }
}

/**
 * One tenant's key: HKDF-SHA-256 of the root, without salt, with an info string that names format,
 * tenant, purpose and generation. Other tenants, purposes and generations give independent keys,
 * and none of them leads back to the root.
 */
export function deriveTenantKey(
  root: RootKey,
  tenant: TenantName,
  purpose: KeyPurpose,
  generation: number,
): Buffer {
  return Buffer.from(
    hkdfSync("sha256", root, "", tenantKeyInfo(tenant, purpose, generation), KEY_BYTES),
  );
}

/** The info string of one derived key. */
export function tenantKeyInfo(tenant: TenantName, purpose: KeyPurpose, generation: number): string {
  return `fluxbilling/v1/tenant/${tenant}/${purpose}/${generation}`;
}
