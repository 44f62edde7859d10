import type { TenantArgs } from "../../components/tenant.ts";
import { parseRootKey, rootKeyId } from "../../model/settings-key.ts";
import {
  hostLocation,
  parseFleet,
  parseHost,
  parseTenant,
  placeTenant,
} from "../../model/settings.ts";
import type { FleetSettings, TenantSettings } from "../../model/settings.ts";
import { sshAuthority } from "../../model/ssh-certificate.ts";
import { deployFleet } from "../../stacks/fleet.ts";
import { deployHost } from "../../stacks/host.ts";
import type { SecretSource } from "../../stacks/secret-source.ts";
import { deployTenant } from "../../stacks/tenant.ts";
import { construct } from "./construct.ts";
import type { Registered } from "./construct.ts";

/** A root key that only tests use: thirty-two bytes of 0x5a. */
export const TEST_ROOT_KEY = parseRootKey("5a".repeat(32), "the test's root key");

/** An authority that only tests use: an Ed25519 key whose seed is thirty-two bytes of 0x22. */
export const TEST_AUTHORITY = sshAuthority(ed25519Pem(0x22), "the test's authority");

/** A public backup key that only tests use. */
export const TEST_RECIPIENT = "age14394ew67el7vzm4zc6ex5ukhww0jjk0s0zw8nzq3wxe9zxj3n3esk5nllz";

/** A certificate that only tests use, as SAML writes it. */
export const TEST_CERTIFICATE =
  "MIIBOjCB7aADAgECAhQunuQS/fzvbPHIosKZzHWoHFk65TAFBgMrZXAwEzERMA8G" +
  "A1UEAwwIaWRwLnRlc3QwHhcNMjYxMTIzMDI1MzMxWhcNMzYxMTIwMDI1MzMxWjAT" +
  "MREwDwYDVQQDDAhpZHAudGVzdDAqMAUGAytlcAMhAAaIhK5kg2AUMJpI3MG5i0k8" +
  "M+XW+U/Cp05wvMzsmwXNo1MwUTAdBgNVHQ4EFgQU6Of/bLRuxRe9s6j6v8tuRrvf" +
  "w6cwHwYDVR0jBBgwFoAU6Of/bLRuxRe9s6j6v8tuRrvfw6cwDwYDVR0TAQH/BAUw" +
  "AwEB/zAFBgMrZXADQQBVTky4l8TMHyeKrE4Anp/kgFsPPe96+ajQqtsWjtLMKzXK" +
  "mmg/1mAtPCMb1VvmRryTpUtGwPqN0d/I//Z6XKQG";

/** What a tenant may say about signing in and mail: a provider of each kind, and a relay. */
export const GOOD_IDENTITY = {
  identity: {
    registration: "open",
    secondFactor: ["operator", "owner"],
    sessionDays: 7,
    accessTokenMinutes: 15,
    refreshTokenDays: 10,
    providers: [
      {
        ...{ kind: "oidc", name: "work", issuer: "https://login.example.com/realms/acme" },
        ...{ clientId: "f0".repeat(32), clientSecret: { file: "work.secret" } },
      },
      {
        ...{ kind: "oauth2", name: "git", authorizeUrl: "https://git.example.com/authorize" },
        ...{ tokenUrl: "https://git.example.com/token", clientId: "acme" },
        clientSecret: { env: "GIT_SECRET" },
      },
      {
        ...{ kind: "saml", name: "partner", entityId: "urn:example:partner" },
        ...{ ssoUrl: "https://partner.example.com/sso", certificateFile: "partner.crt" },
      },
      {
        ...{ kind: "ldap", name: "directory", url: "ldaps://directory.example.com" },
        ...{ bindDn: "cn=reader,dc=example,dc=com", baseDn: "dc=example,dc=com" },
        bindPassword: { env: "DIRECTORY_PASSWORD" },
      },
    ],
  },
  mail: {
    ...{ host: "smtp.example.com", user: "AKIAIOSFODNN7EXAMPLE", from: "billing@acme.example" },
    password: { file: "mail.password" },
  },
} as const;

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
      recipients: [TEST_RECIPIENT],
      sourceAddresses: ["10.77.0.21"],
    },
    database: { address: "10.77.0.21", port: 5432 },
    databaseCaCertificate: "the server's authority",
    nodeName: "nl-1",
    podRange: "10.42.0.0/16",
    certificates: { issuer: "fleet" },
    tenantDomain: "tenants.test",
    images: {
      tenantApp: `registry.test/fluxbilling/tenant-app@sha256:${"1".repeat(64)}`,
      backup: `registry.test/fluxbilling/backup@sha256:${"2".repeat(64)}`,
    },
    imageRegistries: ["registry.test"],
    identityProviders: [],
    credentials: {},
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

const HOST_KEY = `ssh-ed25519 ${Buffer.alloc(51, 1).toString("base64")}`;

function machine(address: string): object {
  return { zone: "eu", country: "NL", address };
}

function cluster(name: string): object {
  return {
    kubernetes: { kubeconfig: { file: `${name}.kubeconfig` }, nodeName: name },
    postgres: { adminUser: "admin", adminPassword: { file: `${name}.password` }, caFile: "ca.crt" },
    certificates: { issuer: "fleet" },
  };
}

const SSH = { hostKey: HOST_KEY, privateKey: { file: "operator" } };

/** The raw settings of a good fleet: two locations in one zone, every key right. */
export function goodFleetInput(): Record<string, unknown> {
  return {
    name: "test",
    protectData: true,
    panelDomain: "panels.test",
    tenantDomain: "tenants.test",
    settingsKeyId: rootKeyId(TEST_ROOT_KEY),
    imageRegistries: ["registry.test", "registry.panels.test"],
    images: {
      ...goodTenantArgs().images,
      registry: `registry.test/library/registry@sha256:${"3".repeat(64)}`,
      suspendedPage: `registry.test/fluxbilling/suspended-page@sha256:${"4".repeat(64)}`,
    },
    master: { ...machine("10.77.0.10"), ssh: SSH, ...cluster("master") },
    standby: { ...machine("10.77.0.11"), ssh: SSH },
    backupStores: {
      master: {
        zone: "eu",
        address: "10.77.0.10",
        ssh: SSH,
        authority: { file: "authority.pem" },
        recipients: [TEST_RECIPIENT],
        receiverFile: "receive",
      },
    },
    locations: Object.fromEntries(
      [
        ["nl-1", "10.77.0.21"],
        ["fi-1", "10.77.0.31"],
      ].map(([name = "", address = ""]) => [
        name,
        {
          ...machine(address),
          ssh: SSH,
          ...cluster(name),
          backupStore: "master",
          capacityTenants: 100,
        },
      ]),
    ),
  };
}

/** The raw settings of a host of that fleet that is to be prepared, every key right. */
export function goodHostInput(): Record<string, unknown> {
  const release = "https://github.com/k3s-io/k3s/releases/download/v1.33.5%2Bk3s1";
  return {
    location: "nl-1",
    k3s: {
      version: "v1.33.5+k3s1",
      url: `${release}/k3s`,
      sha256: "5".repeat(64),
      images: { url: `${release}/k3s-airgap-images-amd64.tar.zst`, sha256: "6".repeat(64) },
    },
    postgresql: { version: "15.18-0+deb12u1" },
  };
}

/** A good fleet. */
export function goodFleet(): FleetSettings {
  return parseFleet(goodFleetInput(), "the test");
}

/** Secrets that need no file: each is the name of what it was asked for. */
export const TEST_SECRETS: SecretSource = {
  read: (reference) =>
    "file" in reference && reference.file === "authority.pem"
      ? ed25519Pem(0x22)
      : `secret of ${JSON.stringify(reference)}`,
  readPublic: (path) =>
    path === "partner.crt"
      ? Buffer.from(TEST_CERTIFICATE, "base64")
      : Buffer.from(`public ${path}`),
  rootKey: () => TEST_ROOT_KEY,
};

/** Stacks that were built before, by what was asked for: building one costs a fifth of a second. */
const built = new Map<string, Promise<readonly Registered[]>>();

/** Everything that a good fleet's stack registers. Shared between tests: copy before you spoil it. */
export function fleetResources(): Promise<readonly Registered[]> {
  return once("fleet", () => {
    deployFleet(goodFleet(), TEST_SECRETS);
  });
}

/** Everything that a good host's stack registers. Shared as well. */
export function hostResources(): Promise<readonly Registered[]> {
  return once("host", () => {
    const fleet = goodFleet();
    const host = parseHost(goodHostInput(), "the test");
    deployHost(fleet, host, hostLocation(fleet, host), TEST_SECRETS);
  });
}

/** Everything that a good tenant's stack registers. Shared as well. */
export function tenantResources(
  settings: Readonly<Record<string, unknown>> = {},
): Promise<readonly Registered[]> {
  return once(`tenant ${JSON.stringify(settings)}`, () => {
    const fleet = goodFleet();
    const tenant = goodTenantSettings(settings);
    return deployTenant(fleet, tenant, placeTenant(fleet, tenant), TEST_SECRETS);
  });
}

function once(key: string, build: () => void | Promise<unknown>): Promise<readonly Registered[]> {
  const resources = built.get(key) ?? construct(build);
  built.set(key, resources);
  return resources;
}
