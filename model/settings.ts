import { z } from "zod";
import { BACKUP_KEY, IMAGES_MIRROR } from "./backup-store.ts";
import { CLUSTER_FOLDERS, liesIn, STANDBY_FOLDERS } from "./encrypted-storage.ts";
import { IMAGE_RULE, parseImage } from "./image.ts";
import { LDAPS_PORT, MAIL_PORT } from "./network.ts";
import { controlPlaneHost } from "./panels.ts";
import { DEFAULT_PLAN, PLAN_NAMES } from "./plan.ts";
import type { PlanName } from "./plan.ts";
import {
  ARTEFACT_URL_RULE,
  encryptsBySecretbox,
  isArtefactUrl,
  isK3sRelease,
  isPackageVersion,
  K3S_RELEASE_RULE,
  K3S_SECRETBOX_RULE,
  PACKAGE_VERSION_RULE,
} from "./prepared-host.ts";
import { Refusal } from "./refusal.ts";
import { isTenantName, TENANT_NAME_RULE } from "./tenant-name.ts";
import { DEFAULT_ZONE, needsContract, ZONES } from "./zone.ts";
import type { Zone } from "./zone.ts";

const NAME = /^[a-z][a-z0-9]*(-[a-z0-9]+)*$/;
const HOST_NAME =
  /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*\.[a-z]([a-z0-9-]*[a-z0-9])?$/;
const NODE_NAME = /^(?=.{1,63}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/;
const PATH = /^\/([A-Za-z0-9._-]+\/)*[A-Za-z0-9._-]+$/;
const HOST_KEY = /^ssh-ed25519 [A-Za-z0-9+/]+=*$/;
const ROLE = /^[a-z_][a-z0-9_]*$/;
const IPV4_RANGE = /^(\d{1,3}\.){3}\d{1,3}\/([89]|[12]\d|3[0-2])$/;
const KEY_ID = /^[0-9a-f]{16}$/;
const WORD = /^[\x21-\x7e]{1,255}$/;
const DN = /^[A-Za-z][A-Za-z0-9-]*=[^=,\s][^\r\n]{0,500}$/;

const SECRET_RULE =
  "must be a reference to a secret, { file: <path> } or { env: <VARIABLE> }, never the secret itself";

const BACKUP_KEY_RULE = "must be a public backup key, age1…, as age-keygen prints it";

const HTTPS_RULE =
  "must be an https address of a host by its name, on port 443, without a user or a query, as in https://login.example.com/oauth";

const LDAPS_RULE =
  "must be an ldaps address of a host by its name, on port 636, as in ldaps://directory.example.com";

const CLIENT_RULE =
  "must be what the provider calls its client, at most 255 plain characters without a space";

const DN_RULE = "must be a distinguished name, as in cn=reader,dc=example,dc=com";

const MAIL_USER_RULE =
  "must be the name that the relay knows, at most 255 plain characters without a space";

/** Rules about values of which a wrong one may be a secret: it is not shown. */
const HIDING_RULES: readonly string[] = [
  ...[SECRET_RULE, BACKUP_KEY_RULE, HTTPS_RULE, LDAPS_RULE],
  ...[CLIENT_RULE, DN_RULE, MAIL_USER_RULE],
];

/** An object whose every key is named here: one that is not is refused, by name. */
function keys<Shape extends z.ZodRawShape>(shape: Shape): z.ZodObject<Shape, z.core.$strict> {
  const known = Object.keys(shape).join(", ");
  return z.strictObject(shape, {
    error: (issue) =>
      issue.code === "unrecognized_keys"
        ? `must hold no key but ${known}`
        : `must be an object with the keys ${known}`,
  });
}

function text(pattern: RegExp, rule: string): z.ZodString {
  return z.string({ error: rule }).regex(pattern, { error: rule });
}

function judgedText(judge: (text: string) => boolean, rule: string): z.ZodString {
  return z.string({ error: rule }).refine(judge, { error: rule });
}

function whole(minimum: number, maximum: number): z.ZodNumber {
  const error = `must be a whole number from ${minimum} to ${maximum}`;
  return z.number({ error }).int({ error }).min(minimum, { error }).max(maximum, { error });
}

function oneOf<const Names extends readonly [string, ...string[]]>(
  names: Names,
): z.ZodEnum<{ [Name in Names[number]]: Name }> {
  return z.enum(names, { error: `must be one of ${names.join(", ")}` });
}

const name = text(NAME, "must be small letters, digits and single hyphens, starting with a letter");
const hostName = text(HOST_NAME, "must be a host name of at least two labels, in small letters");
const path = text(PATH, "must be an absolute path of plain characters");
const ipv4 = z.ipv4({ error: "must be an IPv4 address" });
const port = whole(1, 65_535);
const zone = z.enum(ZONES, { error: `must be one of ${ZONES.join(", ")}` });
const file = z.string({ error: "must be the path of a file" }).min(1, {
  error: "must be the path of a file",
});

/** Where a secret is read from while the program runs. The secret itself is in no setting. */
const secretReference = z.union([z.strictObject({ file }), z.strictObject({ env: file })], {
  error: SECRET_RULE,
});

/** A machine that the program reaches over SSH. */
const ssh = keys({
  port: port.default(22),
  user: text(ROLE, "must be the name of a user").default("root"),
  /** The host's own public key; a host that shows another one is refused. */
  hostKey: text(HOST_KEY, "must be an ssh-ed25519 public key without a comment"),
  /** The operator's private key for this host. */
  privateKey: secretReference,
});

/** The PostgreSQL of a machine, as its administrator reaches it and as pods do. */
const postgres = keys({
  port: port.default(5432),
  adminUser: text(ROLE, "must be the name of a role").default("postgres"),
  adminPassword: secretReference,
  /** Certificate of the authority that signed the server's own, a PEM file. It is no secret. */
  caFile: file,
});

/** A cluster that exists and is adopted. */
const kubernetes = keys({
  kubeconfig: secretReference,
  /** Who makes the volumes that hold files, and in which folder of the machine. @default K3s's own */
  volumes: keys({
    provisioner: text(
      /^[a-z0-9.-]+\/[a-z0-9-]+$/,
      "must be the name of a provisioner, as in rancher.io/local-path",
    ).default("rancher.io/local-path"),
    folder: path.default("/var/lib/rancher/k3s/storage"),
  }).prefault({}),
  /**
   * Name of the machine's node in it. Volumes are then made at once.
   *
   * @default they are made when the first pod that mounts them is placed, a second later
   */
  nodeName: text(
    NODE_NAME,
    "must be the name of a node: small letters, digits, hyphens and dots",
  ).optional(),
  /** Port of its API server, at the machine's address. */
  apiPort: port.default(6443),
  /** Addresses of its pods. @default K3s's own choice */
  podRange: text(IPV4_RANGE, "must be a range of IPv4 addresses, as in 10.42.0.0/16").default(
    "10.42.0.0/16",
  ),
});

const machine = {
  zone,
  /** Country, by its two letters: what "EU · NL" on the security page says. */
  country: text(/^[A-Z]{2}$/, "must be a country's two capital letters"),
  /** Address of the machine: for SSH, for PostgreSQL, and for whoever calls its ingress. */
  address: ipv4,
};

/**
 * Folders of a machine that hold data. Each must lie on storage encrypted with AES-256, by dm-crypt or
 * fscrypt: a deploy has the machine prove it before anything is made there.
 */
function encryptedFolders(folders: readonly string[]): z.ZodDefault<z.ZodArray<z.ZodString>> {
  const error = "must be a list of folders";
  return z
    .array(path, { error })
    .min(1, { error: "must name at least one folder" })
    .default([...folders]);
}

/** How a location comes by the certificate for its tenants' hosts. */
const certificates = z.discriminatedUnion(
  "issuer",
  [keys({ issuer: z.literal("fleet") }), keys({ issuer: z.literal("acme"), resolver: name })],
  {
    error:
      "must be { issuer: fleet } for the fleet's own authority or { issuer: acme, resolver: <name> }",
  },
);

const backupStore = keys({
  zone,
  address: ipv4,
  /** How the program prepares the store; tenants' jobs use its port and host key too. */
  ssh,
  /** User that receives dumps and can do nothing else. */
  user: text(ROLE, "must be the name of a user").default("fluxbackup"),
  path: path.default("/var/lib/fluxbilling/backups"),
  /** Private key (PEM, PKCS #8, Ed25519) of the authority that certifies tenants' backup keys. */
  authority: secretReference,
  /**
   * Public halves of the backup keys that dumps are encrypted to. The private halves are kept where
   * neither a tenant nor a store is: whoever restores brings one along.
   */
  recipients: z
    .array(text(BACKUP_KEY, BACKUP_KEY_RULE), {
      error: "must be a list of public backup keys",
    })
    .min(1, { error: "must name at least one public backup key" }),
  /** The program that takes dumps in, built from `embedded/images/backup/cmd/receive`. */
  receiverFile: file,
});

/** A machine with a cluster and a PostgreSQL. */
const clusterMachine = {
  ...machine,
  ssh,
  encryptedFolders: encryptedFolders(CLUSTER_FOLDERS),
  kubernetes,
  postgres,
  certificates,
};

const location = keys({
  ...clusterMachine,
  /** Name of the backup store that holds the copies of this location's tenants. */
  backupStore: name,
  /** Addresses from which this location's pods are seen outside it. @default the machine's own */
  egressAddresses: z.array(ipv4, { error: "must be a list of IPv4 addresses" }).optional(),
  /** Tenants that fit; what placement reads. */
  capacityTenants: whole(1, 10_000),
});

const fleetSchema = keys({
  /** Name of the fleet, and the first part of each tenant stack's name. */
  name,
  /** Whether databases and volumes refuse to be deleted. Only a throw-away fleet says false. */
  protectData: z.boolean({ error: "must be true or false" }),
  /** Domain of the operator and customer panels. */
  panelDomain: hostName,
  /** Domain under which each tenant has its host; it shares no registrable domain with the panels. */
  tenantDomain: hostName,
  /** Id of SETTINGS_ENCRYPTION_KEY: a deploy with another key stops instead of replacing keys. */
  settingsKeyId: text(KEY_ID, "must be the 16 hexadecimal digits that name the root key"),
  /** Hosts of the registries that images may come from; the fleet's own, registry.<panelDomain>, is one. */
  imageRegistries: z
    .array(text(/^[a-z0-9.-]+(:[0-9]+)?$/, "must be the host of a registry"), {
      error: "must be a list of registry hosts",
    })
    .min(1, { error: "must name at least one registry" }),
  images: keys({
    tenantApp: image(),
    backup: image(),
    registry: image(),
    suspendedPage: image(),
  }),
  master: keys(clusterMachine),
  standby: keys({ ...machine, ssh, encryptedFolders: encryptedFolders(STANDBY_FOLDERS) }),
  backupStores: z.record(name, backupStore, { error: "must be an object of backup stores" }),
  locations: z.record(name, location, { error: "must be an object of locations" }),
});

function image(): z.ZodString {
  return z
    .string({ error: IMAGE_RULE })
    .refine((value) => parseImage(value) !== undefined, { error: IMAGE_RULE });
}

const generation = whole(1, 1_000);

/** An address of a scheme without anything in it that could be a secret, at the one port that leads out. */
function address(scheme: string, port: number, rule: string): z.ZodString {
  const form = new RegExp(
    `^${scheme}://(?<host>[^/:@?#\\s]+)(:${port})?(/[A-Za-z0-9._~%+-]+)*/?$`,
    "u",
  );
  return z
    .string({ error: rule })
    .max(500, { error: rule })
    .refine((value) => HOST_NAME.test(form.exec(value)?.groups?.["host"] ?? ""), { error: rule });
}

const https = address("https", 443, HTTPS_RULE);

const named = {
  /** Name of the provider, which callbacks and the files of its secret carry. */
  name: text(
    /^(?=.{1,40}$)[a-z][a-z0-9]*(-[a-z0-9]+)*$/,
    "must be at most 40 small letters, digits and single hyphens, starting with a letter",
  ),
};

/** What the provider has registered the tenant's application as. */
const client = { clientId: text(WORD, CLIENT_RULE), clientSecret: secretReference };

/** Who says who somebody is, for a tenant's application. */
const identityProvider = z.discriminatedUnion(
  "kind",
  [
    /** OpenID Connect: the issuer tells all its addresses by itself. */
    keys({ kind: z.literal("oidc"), ...named, issuer: https, ...client }),
    /** OAuth 2.0 without it, as GitHub has it. */
    keys({
      kind: z.literal("oauth2"),
      ...named,
      authorizeUrl: https,
      tokenUrl: https,
      ...client,
    }),
    keys({
      kind: z.literal("saml"),
      ...named,
      entityId: text(
        WORD,
        "must be the provider's entity id, at most 255 plain characters without a space",
      ),
      /** Where browsers are sent to sign in. */
      ssoUrl: https,
      /** Certificate of the key that signs the provider's answers, a PEM file. It is no secret. */
      certificateFile: file,
    }),
    keys({
      kind: z.literal("ldap"),
      ...named,
      url: address("ldaps", LDAPS_PORT, LDAPS_RULE),
      /** Who looks people up. */
      bindDn: text(DN, DN_RULE),
      bindPassword: secretReference,
      /** Where people are looked up. */
      baseDn: text(DN, DN_RULE),
    }),
  ],
  { error: "must be one of oidc, oauth2, saml, ldap" },
);

const identityProviders = z
  .array(identityProvider, { error: "must be a list of identity providers" })
  .check(({ value, issues }) => {
    for (const [index, { name: own }] of value.entries()) {
      if (value.findIndex((other) => other.name === own) < index) {
        const message = "must be the name of one provider only";
        issues.push({ code: "custom", path: [index, "name"], message, input: own });
      }
    }
  });

const SECOND_FACTOR_RULE = "must be a list of roles with operator among them";

/** Who gets into a tenant's application, how, and for how long. */
const identity = keys({
  /** Further ways in beside a password (claims P5, W1, X5). */
  providers: identityProviders.default([]),
  /** Whether people may register by themselves (claim W1). */
  registration: oneOf(["open", "closed"]).default("closed"),
  /** Roles that must show a second factor; operators always must (claim F14). */
  secondFactor: z
    .array(oneOf(["owner", "operator", "billing", "support", "auditor", "viewer"]), {
      error: SECOND_FACTOR_RULE,
    })
    .refine((roles) => roles.includes("operator"), { error: SECOND_FACTOR_RULE })
    .default(["operator"]),
  /** Days after which a session ends (claim W2). */
  sessionDays: whole(1, 90).default(14),
  /** Minutes that an access token is good for (claim X3). */
  accessTokenMinutes: whole(5, 1_440).default(60),
  /** Days that a refresh token is good for (claim X3). */
  refreshTokenDays: whole(1, 90).default(30),
});

/** The relay that takes a tenant's mail; the application must insist on STARTTLS (claim P15). */
const mail = keys({
  host: hostName,
  port: z
    .literal(MAIL_PORT, {
      error: `must be ${MAIL_PORT}, where mail is submitted over STARTTLS: no other port of mail leads out`,
    })
    .default(MAIL_PORT),
  user: text(WORD, MAIL_USER_RULE),
  password: secretReference,
  /** Address that mail comes from. */
  from: text(
    /^[A-Za-z0-9._+-]+@[a-z0-9-]+(\.[a-z0-9-]+)+$/,
    "must be an address of mail, as in billing@example.com",
  ),
});

const tenantSchema = keys({
  name: z.string({ error: TENANT_NAME_RULE }).refine(isTenantName, { error: TENANT_NAME_RULE }),
  location: name,
  plan: oneOf(PLAN_NAMES as readonly [PlanName, ...PlanName[]]).default(DEFAULT_PLAN),
  /** Zone that the contract binds the tenant to. */
  zone: zone.default(DEFAULT_ZONE),
  /** Contract that allows a zone other than the default. */
  contractRef: text(
    /^[A-Za-z0-9][A-Za-z0-9./-]{2,62}$/,
    "must be a contract's reference of 3 to 63 letters, digits, dots, slashes and hyphens",
  ).optional(),
  /** Version of the tenant's key that encrypts. Raise by one to rotate. */
  keyGeneration: generation.default(1),
  /** Oldest version of the key that can still decrypt. Raise it once nothing uses the older ones. */
  oldestKeyGeneration: generation.default(1),
  /** Raise by one to mint new passwords, session, token and webhook secrets. */
  secretGeneration: generation.default(1),
  /** Whether the tenant is shut: no pods, and a 402 with a page for whoever calls. Nothing is deleted. */
  suspended: z.boolean({ error: "must be true or false" }).default(false),
  /** Whether the application speaks MQTT: over TLS alone, at the tenant's own host (claim W12). */
  mqtt: z.boolean({ error: "must be true or false" }).default(false),
  /** Whether recorded requests can be replayed, by a job that reaches nothing (claim R6). */
  replay: z.boolean({ error: "must be true or false" }).default(false),
  identity: identity.prefault({}),
  /** @default the application sends no mail */
  mail: mail.optional(),
});

const artefact = {
  url: judgedText(isArtefactUrl, ARTEFACT_URL_RULE),
  sha256: text(/^[0-9a-f]{64}$/, "must be a SHA-256, 64 small hexadecimal digits"),
};

const hostSchema = keys({
  /** Location of the fleet whose host is prepared; all else about it is in the fleet's settings. */
  location: name,
  k3s: keys({
    version: z
      .string({ error: K3S_RELEASE_RULE })
      .refine(isK3sRelease, { error: K3S_RELEASE_RULE, abort: true })
      .refine(encryptsBySecretbox, { error: K3S_SECRETBOX_RULE }),
    ...artefact,
    /** @default K3s pulls its images */
    images: keys({
      ...artefact,
      url: judgedText(
        (url) => isArtefactUrl(url) && /\.tar(\.gz|\.zst)?$/.test(url),
        `${ARTEFACT_URL_RULE}, that ends in .tar, .tar.gz or .tar.zst`,
      ),
    }).optional(),
    /** Raise by one to have K3s's certificates renewed and its kubeconfig read anew: both are good for a year. */
    kubeconfigGeneration: generation.default(1),
  }),
  postgresql: keys({ version: judgedText(isPackageVersion, PACKAGE_VERSION_RULE) }),
});

/** Where a secret is read from: a file's path, relative to the project, or a variable's name. */
export type SecretReference = z.infer<typeof secretReference>;
/** How to reach a host over SSH. */
export type SshSettings = z.infer<typeof ssh>;
/** How to reach a PostgreSQL as its administrator. */
export type PostgresSettings = z.infer<typeof postgres>;
/** How to reach a cluster. */
export type KubernetesSettings = z.infer<typeof kubernetes>;
/** Where certificates for hosts come from. */
export type CertificateSettings = z.infer<typeof certificates>;
/** One place that holds dumps. */
export type BackupStoreSettings = z.infer<typeof backupStore>;
/** The machine with the control plane. */
export type MasterSettings = z.infer<typeof fleetSchema>["master"];
/** The machine that can take the master's place. */
export type StandbySettings = z.infer<typeof fleetSchema>["standby"];
/** A machine where tenants live. */
export type LocationSettings = z.infer<typeof location>;
/** Everything that is the same for all tenants. */
export type FleetSettings = z.infer<typeof fleetSchema>;
/** Where people come from that sign in to a tenant's application. */
export type IdentityProviderSettings = z.infer<typeof identityProvider>;
/** Everything that one tenant's stack says about it. */
export type TenantSettings = z.infer<typeof tenantSchema>;

/** Everything that the stack of one location's host says about it. */
export type HostSettings = z.infer<typeof hostSchema>;

/** A tenant that may live where it asks to: its location and store, both in its own zone. */
export interface Placement {
  readonly locationName: string;
  readonly location: LocationSettings;
  readonly storeName: string;
  readonly store: BackupStoreSettings;
  readonly zone: Zone;
}

/**
 * The settings of a fleet, every key checked.
 *
 * @param input The value of `fluxbilling:fleet`.
 * @param source Where it comes from, for errors: `Pulumi.prod.yaml`.
 * @throws Refusal `SETTING_INVALID`, one line per fault; `BACKUP_OUT_OF_ZONE` where a location's
 * copies would leave its zone.
 */
export function parseFleet(input: unknown, source: string): FleetSettings {
  const fleet = parse(fleetSchema, input, "fluxbilling:fleet", source);
  const faults = fleetFaults(fleet, source);
  if (faults.length > 0) {
    throw new Refusal("SETTING_INVALID", faults.join("\n"));
  }
  for (const [locationName, here] of Object.entries(fleet.locations)) {
    storeOf(fleet, locationName, here);
  }
  const { zone } = fleet.standby;
  if (!Object.values(fleet.backupStores).some((store) => store.zone === zone)) {
    throw new Refusal(
      "SETTING_INVALID",
      `Setting "fluxbilling:fleet.backupStores": one must lie in the standby's zone ${zone}, got none. Name a store of zone ${zone} in ${source}: by its authority the standby takes in copies.`,
    );
  }
  return fleet;
}

/**
 * The backup store of a location: one of its own zone.
 *
 * @throws Refusal `BACKUP_OUT_OF_ZONE`.
 */
export function storeOf(
  fleet: FleetSettings,
  locationName: string,
  { zone: here, backupStore: storeName }: LocationSettings,
): BackupStoreSettings {
  const store = fleet.backupStores[storeName];
  if (store?.zone !== here) {
    throw new Refusal(
      "BACKUP_OUT_OF_ZONE",
      `Location "${locationName}": its backup store must lie in zone ${here}, got "${storeName}" in zone ${store?.zone ?? "none"}. Name a store of zone ${here} in fluxbilling:fleet.locations.${locationName}.backupStore.`,
    );
  }
  return store;
}

/**
 * The settings of a tenant, every key checked.
 *
 * @param input The value of `fluxbilling:tenant`.
 * @param source Where it comes from, for errors: `Pulumi.prod.acme.yaml`.
 * @throws Refusal `SETTING_INVALID`, one line per fault; `KEY_GENERATION` where the oldest version
 * of the key is newer than the one that encrypts.
 */
export function parseTenant(input: unknown, source: string): TenantSettings {
  const tenant = parse(tenantSchema, input, "fluxbilling:tenant", source);
  if (tenant.oldestKeyGeneration > tenant.keyGeneration) {
    throw new Refusal(
      "KEY_GENERATION",
      `Tenant "${tenant.name}": oldestKeyGeneration must be at most keyGeneration (${tenant.keyGeneration}), got ${tenant.oldestKeyGeneration}. Lower fluxbilling:tenant.oldestKeyGeneration in ${source}.`,
    );
  }
  return tenant;
}

/**
 * The settings of the stack that prepares a location's host, every key checked.
 *
 * @param input The value of `fluxbilling:host`.
 * @param source Where it comes from, for errors: `Pulumi.prod.host.nl-2.yaml`.
 * @throws Refusal `SETTING_INVALID`, one line per fault.
 */
export function parseHost(input: unknown, source: string): HostSettings {
  return parse(hostSchema, input, "fluxbilling:host", source);
}

/** Addresses of services, as K3s chooses them by itself. */
const SERVICE_RANGE = "10.43.0.0/16";

/** The first address of a range and the one behind its last, as numbers. */
function boundsOf(range: string): readonly [number, number] {
  const [first = "", bits = ""] = range.split("/");
  const size = 2 ** (32 - Number(bits));
  const number = first.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
  const start = number - (number % size);
  return [start, start + size];
}

function overlap(one: string, other: string): boolean {
  const [[first, behind], [otherFirst, otherBehind]] = [boundsOf(one), boundsOf(other)];
  return first < otherBehind && otherFirst < behind;
}

/** The name of the stack that prepares a location's host. A tenant's holds one dot, so no two stacks share a name. */
export function hostStackName(fleet: string, locationName: string): string {
  return `${fleet}.host.${locationName}`;
}

/**
 * What a fleet's settings say of the location whose host is to be prepared.
 *
 * @throws Refusal `LOCATION_UNKNOWN`, or `SETTING_INVALID` where K3s could not be set up with its pods' addresses.
 */
export function hostLocation(fleet: FleetSettings, host: HostSettings): LocationSettings {
  const location = fleet.locations[host.location];
  if (location === undefined) {
    throw new Refusal(
      "LOCATION_UNKNOWN",
      `Host "${host.location}": location must be one of ${Object.keys(fleet.locations).join(", ")}, got "${host.location}". Set fluxbilling:host.location to one of them, or write the location into the fleet's settings first.`,
    );
  }
  const { podRange } = location.kubernetes;
  const fault =
    Number(podRange.split("/")[1]) > 24
      ? "must be /24 or wider on a host that is prepared, since K3s gives its node a /24 of it"
      : overlap(podRange, SERVICE_RANGE)
        ? `must lie apart from ${SERVICE_RANGE} on a host that is prepared, where K3s has its services`
        : undefined;
  if (fault !== undefined) {
    throw new Refusal(
      "SETTING_INVALID",
      `Setting "fluxbilling:fleet.locations.${host.location}.kubernetes.podRange": ${fault}, got "${podRange}". Correct it in the fleet's settings: a cluster keeps its range for life.`,
    );
  }
  return location;
}

/**
 * Where a tenant lives and where its copies lie: all in the one zone its contract names.
 *
 * @throws Refusal `LOCATION_UNKNOWN`, `ZONE_MISMATCH` or `CONTRACT_MISSING`.
 */
export function placeTenant(fleet: FleetSettings, tenant: TenantSettings): Placement {
  const location = fleet.locations[tenant.location];
  if (location === undefined) {
    throw new Refusal(
      "LOCATION_UNKNOWN",
      `Tenant "${tenant.name}": location must be one of ${Object.keys(fleet.locations).join(", ")}, got "${tenant.location}". Set fluxbilling:tenant.location to one of them, or add the location to the fleet first.`,
    );
  }
  if (location.zone !== tenant.zone) {
    const fitting = Object.entries(fleet.locations)
      .filter(([, candidate]) => candidate.zone === tenant.zone)
      .map(([candidate]) => candidate);
    throw new Refusal(
      "ZONE_MISMATCH",
      `Tenant "${tenant.name}": location must lie in zone ${tenant.zone}, got "${tenant.location}" in zone ${location.zone}. ${
        fitting.length > 0
          ? `Choose ${fitting.join(" or ")}.`
          : `The fleet has no location in zone ${tenant.zone}: add one first.`
      }`,
    );
  }
  if (needsContract(tenant.zone) && tenant.contractRef === undefined) {
    throw new Refusal(
      "CONTRACT_MISSING",
      `Tenant "${tenant.name}": zone ${tenant.zone} must come with a contract's reference, got none. Set fluxbilling:tenant.contractRef, or leave the zone at ${DEFAULT_ZONE}.`,
    );
  }
  const store = storeOf(fleet, tenant.location, location);
  return {
    locationName: tenant.location,
    location,
    storeName: location.backupStore,
    store,
    zone: tenant.zone,
  };
}

function fleetFaults(fleet: FleetSettings, source: string): string[] {
  const faults: string[] = [];
  const fault = (key: string, rule: string, got: string, wayOut: string): void => {
    faults.push(`Setting "fluxbilling:fleet.${key}": ${rule}, got ${got}. ${wayOut}.`);
  };
  for (const [locationName, { backupStore: storeName }] of Object.entries(fleet.locations)) {
    if (fleet.backupStores[storeName] === undefined) {
      fault(
        `locations.${locationName}.backupStore`,
        `must be one of ${Object.keys(fleet.backupStores).join(", ")}`,
        `"${storeName}"`,
        `Name a store that fluxbilling:fleet.backupStores in ${source} holds`,
      );
    }
  }
  for (const [owner, { encryptedFolders: folders, kubernetes: cluster }] of [
    ["master", fleet.master] as const,
    ...Object.entries(fleet.locations).map(([key, one]) => [`locations.${key}`, one] as const),
  ]) {
    if (!liesIn(cluster.volumes.folder, folders)) {
      fault(
        `${owner}.kubernetes.volumes.folder`,
        `must lie in one of encryptedFolders, ${folders.join(", ")}`,
        `"${cluster.volumes.folder}"`,
        `Name the folder that holds it in fluxbilling:fleet.${owner}.encryptedFolders in ${source}`,
      );
    }
  }
  for (const reserved of ["master", "standby"]) {
    if (reserved in fleet.locations) {
      fault(
        `locations.${reserved}`,
        "must not be called master or standby",
        `"${reserved}"`,
        `Rename the location in ${source}`,
      );
    }
  }
  if (fleet.standby.zone !== fleet.master.zone) {
    fault(
      "standby.zone",
      `must be the master's, ${fleet.master.zone}`,
      `"${fleet.standby.zone}"`,
      `Place the standby in the master's zone in ${source}: it holds a copy of the master's data`,
    );
  }
  const users = new Map<string, string>([[IMAGES_MIRROR.user, "the image registry's copy"]]);
  for (const [storeName, store] of Object.entries(fleet.backupStores)) {
    const isCopied = store.zone === fleet.standby.zone;
    const other = isCopied || store.user === IMAGES_MIRROR.user ? users.get(store.user) : undefined;
    if (other !== undefined) {
      fault(
        `backupStores.${storeName}.user`,
        `must not be the user of ${other}`,
        `"${store.user}"`,
        `Give each store of zone ${store.zone} a user of its own in ${source}: the standby holds a copy of each`,
      );
    }
    if (isCopied) {
      users.set(store.user, storeName);
    }
    const host = Object.entries({
      master: fleet.master,
      standby: fleet.standby,
      ...fleet.locations,
    }).find(([, { address }]) => address === store.address);
    if (host !== undefined && host[1].zone !== store.zone) {
      fault(
        `backupStores.${storeName}.zone`,
        `must be the zone of its machine ${host[0]}, ${host[1].zone}`,
        `"${store.zone}"`,
        `Correct the zone in ${source}, or place the store on a machine of zone ${store.zone}`,
      );
    }
  }
  const seen = new Map<string, string>();
  for (const [owner, address] of [
    ["master", fleet.master.address],
    ["standby", fleet.standby.address],
    ...Object.entries(fleet.locations).map(([key, { address }]) => [`locations.${key}`, address]),
  ] as [string, string][]) {
    const other = seen.get(address);
    if (other !== undefined) {
      fault(
        `${owner}.address`,
        `must not be the address of ${other}`,
        `"${address}"`,
        `Give each machine its own address in ${source}`,
      );
    }
    seen.set(address, owner);
  }
  if (registrableDomain(fleet.tenantDomain) === registrableDomain(fleet.panelDomain)) {
    fault(
      "tenantDomain",
      `must share no registrable domain with the panels' ${fleet.panelDomain}`,
      `"${fleet.tenantDomain}"`,
      `Give tenants a domain of their own in ${source}, so that no cookie crosses`,
    );
  }
  const ownRegistry = controlPlaneHost("registry", fleet.panelDomain);
  if (!fleet.imageRegistries.includes(ownRegistry)) {
    fault(
      "imageRegistries",
      `must name the fleet's own, ${ownRegistry}`,
      fleet.imageRegistries.join(", "),
      `Add it in ${source}`,
    );
  }
  for (const [key, reference] of Object.entries(fleet.images)) {
    const registry = parseImage(reference)?.registry ?? "none";
    if (!fleet.imageRegistries.includes(registry)) {
      fault(
        `images.${key}`,
        `must come from one of ${fleet.imageRegistries.join(", ")}`,
        `"${registry}"`,
        `Push the image to a registry of the list in ${source}, or add the registry`,
      );
    }
  }
  return faults;
}

/** The last two labels: right for the domains a fleet may use, which are not under public suffixes of two labels. */
function registrableDomain(domain: string): string {
  return domain.split(".").slice(-2).join(".");
}

function parse<Schema extends z.ZodType>(
  schema: Schema,
  input: unknown,
  root: string,
  source: string,
): z.infer<Schema> {
  const result = schema.safeParse(input);
  if (result.success) {
    return result.data;
  }
  const faults = result.error.issues.flatMap((issue) => describeIssue(issue, input, root, source));
  throw new Refusal("SETTING_INVALID", faults.join("\n"));
}

function describeIssue(
  issue: z.core.$ZodIssue,
  input: unknown,
  root: string,
  source: string,
): string[] {
  const at = [root, ...issue.path.map(String)].join(".");
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map(
      (key) =>
        `Setting "${at}": ${issue.message}, got ${JSON.stringify(key)}. Remove or rename the key in ${source}.`,
    );
  }
  if (issue.code === "invalid_key") {
    const rule = issue.issues[0]?.message ?? issue.message;
    const key = String(issue.path.at(-1));
    return [
      `Setting "${at}": its name ${rule}, got ${JSON.stringify(key)}. Rename it in ${source}.`,
    ];
  }
  const value = valueAt(input, issue.path);
  const got = HIDING_RULES.includes(issue.message) ? kindOf(value) : shown(value);
  return [`Setting "${at}": ${issue.message}, got ${got}. Correct it in ${source}.`];
}

function valueAt(input: unknown, steps: readonly PropertyKey[]): unknown {
  return steps.reduce<unknown>(
    (value, step) =>
      typeof value === "object" && value !== null
        ? (value as Record<PropertyKey, unknown>)[step]
        : undefined,
    input,
  );
}

/** Longer values are counted, not shown: a key pasted into the wrong place stays out of the log. */
const LONGEST_SHOWN = 100;

function shown(value: unknown): string {
  if (value === undefined) {
    return "none";
  }
  if (typeof value === "string" && value.length > LONGEST_SHOWN) {
    return `a string of ${value.length} characters`;
  }
  return typeof value === "object" && value !== null ? kindOf(value) : JSON.stringify(value);
}

/** The kind of a value: what an error may say where the value could be a secret. */
function kindOf(value: unknown): string {
  if (value === undefined || value === null) {
    return "none";
  }
  if (Array.isArray(value)) {
    return "a list";
  }
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}
