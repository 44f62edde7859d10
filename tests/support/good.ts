import { Tenant } from "../../components/tenant.ts";
import type { TenantArgs } from "../../components/tenant.ts";
import { parseRootKey } from "../../model/settings-key.ts";
import { parseTenant } from "../../model/settings.ts";
import type { TenantSettings } from "../../model/settings.ts";
import { sshAuthority } from "../../model/ssh-certificate.ts";

/** A root key that only tests use: thirty-two bytes of 0x11. */
export const TEST_ROOT_KEY = parseRootKey("11".repeat(32), "the test's root key");

/** An authority that only tests use: an Ed25519 key whose seed is thirty-two bytes of 0x22. */
export const TEST_AUTHORITY = sshAuthority(ed25519Pem(0x22), "the test's authority");

/** The PKCS #8 PEM of the Ed25519 key whose seed is one byte, thirty-two times. */
export function ed25519Pem(byte: number): string {
  const der = Buffer.concat([
    Buffer.from("302e020100300506032b657004220420", "hex"),
    Buffer.alloc(32, byte),
  ]);
  return `-----BEGIN PRIVATE KEY-----\n${der.toString("base64")}\n-----END PRIVATE KEY-----\n`;
}

/** What a good tenant's component is given; a test spoils one thing. */
export function goodTenantArgs(settings: Readonly<Record<string, unknown>> = {}): TenantArgs {
  return {
    settings: goodTenantSettings(settings),
    locationName: "nl-1",
    locationZone: "eu",
    storeName: "master",
    storeZone: "eu",
    store: {
      endpoint: { address: "10.77.0.10", port: 22 },
      hostKey: "ssh-ed25519 AAAAstore",
      user: "fluxbackup",
      path: "/var/lib/fluxbilling/backups",
      authority: TEST_AUTHORITY,
      sourceAddresses: ["10.77.0.21"],
    },
    database: { address: "10.77.0.21", port: 5432 },
    databaseCaCertificate: "the server's authority",
    storageClass: "local-path",
    certificates: { issuer: "fleet" },
    tenantDomain: "tenants.test",
    images: {
      tenantApp: `registry.test/fluxbilling/tenant-app@sha256:${"1".repeat(64)}`,
      backup: `registry.test/fluxbilling/backup@sha256:${"2".repeat(64)}`,
    },
    rootKey: TEST_ROOT_KEY,
    protectData: true,
  };
}

/** Settings of a good tenant. */
export function goodTenantSettings(
  settings: Readonly<Record<string, unknown>> = {},
): TenantSettings {
  return parseTenant({ name: "acme", location: "nl-1", ...settings }, "the test");
}

/** Builds a good tenant. */
export function goodTenant(settings: Readonly<Record<string, unknown>> = {}): Tenant {
  return new Tenant("acme", goodTenantArgs(settings));
}
