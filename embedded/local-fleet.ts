import { generateKeyPairSync, randomBytes } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { parse, stringify } from "yaml";

import { controlPlaneHost } from "../model/panels.ts";
import { parseRootKey, rootKeyId } from "../model/settings-key.ts";
import { tenantStackName, tenantName } from "../model/tenant-name.ts";
import { type ImageFacts, type Images, RECEIVER_FILE } from "./images/build-images.ts";
import { ageRecipient, makeAgeIdentity } from "./age-key.ts";
import type { MachineFacts, PlatformFacts } from "./machines/platform.ts";
import { machinePlan } from "./machines/layout.ts";
import { CACHE, ROOT } from "./paths.ts";
import { PROVISIONER } from "./volumes/volumes.ts";

/** Name of the embedded fleet, and of its stack. */
export const LOCAL_FLEET = "local";

/** Hosts under these resolve to loopback in every browser, where the doors are. */
export const PANEL_DOMAIN = "panels.localhost";
export const TENANT_DOMAIN = "tenants.localhost";

/** What lies on a machine's encrypted disk, as the machine has it: embedded/machines/boot.sh. */
const ENCRYPTED_FOLDERS = [
  "/var/lib/kubelet",
  "/var/lib/volumes",
  "/var/lib/postgresql",
  "/var/lib/fluxbilling",
];

const SECRETS = join(CACHE, "secrets");
const ROOT_KEY_FILE = join(SECRETS, "settings-encryption-key");
const AUTHORITY_FILE = join(SECRETS, "backup-authority.pem");
/** The private backup key that opens the local fleet's dumps. */
export const BACKUP_KEY_FILE = join(SECRETS, "backup-key.txt");

/** What a run of Pulumi on a stack of the embedded fleet is given. */
export interface LocalStack {
  readonly name: string;
  readonly configFile: string;
  /** Secrets that the program reads from files while it runs. */
  readonly environment: { readonly SETTINGS_ENCRYPTION_KEY_FILE: string };
}

/** Settings of one local tenant, as `fluxbilling:tenant` takes them. */
export type LocalTenant = { readonly name: string; readonly location: string } & {
  readonly [key: string]: unknown;
};

/**
 * Writes the settings of the fleet stack out of what runs: the same keys as `Pulumi.prod.yaml`, with the addresses,
 * keys and files of the embedded machines. Secrets are made once and kept.
 */
export async function writeFleetStack(facts: PlatformFacts, images: Images): Promise<LocalStack> {
  await makeSecrets();
  const rootKey = parseRootKey(await readFile(ROOT_KEY_FILE, "utf8"), "the local root key");
  const byDigest = ({ reference, digest }: ImageFacts): string => `${reference}@${digest}`;
  const { master, standby } = facts.machines;
  const location = (machine: MachineFacts, country: string): unknown => ({
    ...machineSettings(machine, country),
    ssh: sshSettings(machine),
    encryptedFolders: ENCRYPTED_FOLDERS,
    kubernetes: kubernetesSettings(machine),
    postgres: postgresSettings(machine),
    certificates: { issuer: "fleet" },
    backupStore: "master",
    capacityTenants: 100,
  });
  const fleet = {
    name: LOCAL_FLEET,
    protectData: false,
    panelDomain: PANEL_DOMAIN,
    tenantDomain: TENANT_DOMAIN,
    settingsKeyId: rootKeyId(rootKey),
    imageRegistries: [
      images.backup.reference.split("/")[0],
      controlPlaneHost("registry", PANEL_DOMAIN),
    ],
    images: {
      tenantApp: byDigest(images["tenant-app"]),
      backup: byDigest(images.backup),
      registry: byDigest(images.registry),
      suspendedPage: byDigest(images["suspended-page"]),
    },
    master: {
      ...machineSettings(master, "NL"),
      ssh: sshSettings(master),
      encryptedFolders: ENCRYPTED_FOLDERS,
      kubernetes: kubernetesSettings(master),
      postgres: postgresSettings(master),
      certificates: { issuer: "fleet" },
    },
    standby: {
      ...machineSettings(standby, "FI"),
      ssh: sshSettings(standby),
      encryptedFolders: ENCRYPTED_FOLDERS,
    },
    backupStores: {
      master: {
        zone: "eu",
        address: master.address,
        ssh: sshSettings(master),
        receiverFile: fromRoot(RECEIVER_FILE),
        recipients: [ageRecipient(await readFile(BACKUP_KEY_FILE, "utf8"))],
        authority: { file: fromRoot(AUTHORITY_FILE) },
      },
    },
    locations: {
      "nl-1": location(facts.machines["nl-1"], "NL"),
      "fi-1": location(facts.machines["fi-1"], "FI"),
    },
  };
  const configFile = configFileOf(LOCAL_FLEET);
  await writeConfig(configFile, { "fluxbilling:fleet": fleet });
  return localStackOf(LOCAL_FLEET);
}

/** Writes the settings of one tenant's stack in the local fleet. */
export async function writeTenantStack(tenant: LocalTenant): Promise<LocalStack> {
  const name = tenantStackName(LOCAL_FLEET, tenantName(tenant.name));
  const configFile = configFileOf(name);
  await writeConfig(configFile, {
    "fluxbilling:fleetFile": fromRoot(configFileOf(LOCAL_FLEET)),
    "fluxbilling:tenant": tenant,
  });
  return localStackOf(name);
}

/** The settings file and environment of a stack by its name, whether it exists or not. */
export function localStackOf(name: string): LocalStack {
  return {
    name,
    configFile: configFileOf(name),
    environment: { SETTINGS_ENCRYPTION_KEY_FILE: ROOT_KEY_FILE },
  };
}

function configFileOf(stackName: string): string {
  return join(CACHE, "stacks", `Pulumi.${stackName}.yaml`);
}

/** Replaces the settings of a stack and keeps the salt of its secrets, which Pulumi writes into the same file. */
export async function writeConfig(
  configFile: string,
  settings: { readonly [key: string]: unknown },
): Promise<void> {
  await mkdir(dirname(configFile), { recursive: true });
  const earlier = await readFile(configFile, "utf8").then(
    (text) => parse(text) as { encryptionsalt?: string; config?: unknown } | null,
    () => null,
  );
  const config = { "pulumi:disable-default-providers": ["kubernetes", "postgresql"], ...settings };
  // Left as Pulumi has written it where it says the same, so that an unchanged file is an unchanged file.
  if (isDeepStrictEqual(earlier?.config, parse(stringify(config)))) return;
  const salt = earlier?.encryptionsalt;
  const content = stringify({ ...(salt === undefined ? {} : { encryptionsalt: salt }), config });
  await writeFile(`${configFile}.new`, content);
  await rename(`${configFile}.new`, configFile);
}

async function makeSecrets(): Promise<void> {
  await mkdir(SECRETS, { recursive: true, mode: 0o700 });
  await makeOnce(ROOT_KEY_FILE, () => `${randomBytes(32).toString("base64")}\n`);
  await makeOnce(AUTHORITY_FILE, () =>
    generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
  );
  await makeOnce(BACKUP_KEY_FILE, () => `${makeAgeIdentity()}\n`);
}

async function makeOnce(file: string, make: () => string): Promise<void> {
  try {
    await writeFile(file, make(), { flag: "wx", mode: 0o600 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
}

function machineSettings(machine: MachineFacts, country: string): object {
  return { zone: "eu", country, address: machine.address };
}

function sshSettings({ ssh }: MachineFacts): object {
  return {
    port: ssh.port,
    user: ssh.user,
    hostKey: ssh.hostKey,
    privateKey: { file: fromRoot(ssh.privateKeyFile) },
  };
}

function kubernetesSettings({ name, cluster }: MachineFacts): object {
  if (cluster === undefined) throw new Error(`Machine "${name}" must have a cluster`);
  return {
    kubeconfig: { file: fromRoot(cluster.kubeconfigFile) },
    volumes: { provisioner: PROVISIONER, folder: "/var/lib/volumes" },
    nodeName: name,
    podRange: machinePlan(name).cluster?.podCidr,
  };
}

function postgresSettings({ name, postgres }: MachineFacts): object {
  if (postgres === undefined) throw new Error(`Machine "${name}" must have a PostgreSQL`);
  return {
    port: postgres.port,
    adminUser: postgres.adminUser,
    adminPassword: { file: fromRoot(postgres.adminPasswordFile) },
    caFile: fromRoot(postgres.caFile),
  };
}

function fromRoot(file: string): string {
  return relative(ROOT, file);
}
