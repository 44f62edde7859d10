import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { Refusal } from "../../model/refusal.ts";
import type { RefusalCode } from "../../model/refusal.ts";
import {
  hostLocation,
  hostStackName,
  parseFleet,
  parseHost,
  parseTenant,
  placeTenant,
} from "../../model/settings.ts";
import {
  GOOD_IDENTITY,
  goodFleet,
  goodFleetInput,
  goodHostInput,
  goodTenantSettings,
} from "../support/good.ts";

const SOURCE = "Pulumi.prod.yaml";

/** A good fleet's settings with one value replaced; `undefined` removes the key. */
function fleetWith(path: string, value: unknown): Record<string, unknown> {
  return withValue(goodFleetInput(), path, value);
}

function withValue(good: object, path: string, value: unknown): Record<string, unknown> {
  // By way of JSON, so that no two places share an object.
  const settings = JSON.parse(JSON.stringify(good)) as Record<string, unknown>;
  const steps = path.split("/");
  const last = steps.pop() ?? "";
  let target = settings;
  for (const step of steps) {
    target = target[step] as Record<string, unknown>;
  }
  if (value === undefined) {
    Reflect.deleteProperty(target, last);
  } else {
    target[last] = value;
  }
  return settings;
}

function refusal(code: RefusalCode, ...lines: readonly string[]): Refusal {
  return new Refusal(code, lines.join("\n"));
}

describe("parseFleet", () => {
  it("takes the production fleet as it is in the repository", () => {
    const file = readFileSync(join(import.meta.dirname, "../../Pulumi.prod.yaml"), "utf8");
    const { config } = parse(file) as { config: Record<string, unknown> };
    const fleet = parseFleet(config["fluxbilling:fleet"], SOURCE);
    expect([fleet.name, fleet.protectData, Object.keys(fleet.locations)]).toEqual([
      "prod",
      true,
      ["nl-1", "fi-1"],
    ]);
  });

  it("fills in what production usually is", () => {
    const { postgres, kubernetes } = goodFleet().locations["nl-1"] ?? {};
    expect([postgres?.port, kubernetes?.volumes.folder, goodFleet().master.ssh.port]).toEqual([
      5432,
      "/var/lib/rancher/k3s/storage",
      22,
    ]);
  });

  it.each([
    [
      "locations/nl-1/zone",
      "mars",
      'Setting "fluxbilling:fleet.locations.nl-1.zone": must be one of eu, us, apac, got "mars". Correct it in Pulumi.prod.yaml.',
    ],
    [
      "locations/nl-1/address",
      "nl-1.test",
      'Setting "fluxbilling:fleet.locations.nl-1.address": must be an IPv4 address, got "nl-1.test". Correct it in Pulumi.prod.yaml.',
    ],
    [
      "locations/nl-1/postgres/port",
      0,
      'Setting "fluxbilling:fleet.locations.nl-1.postgres.port": must be a whole number from 1 to 65535, got 0. Correct it in Pulumi.prod.yaml.',
    ],
    [
      "master/ssh",
      undefined,
      'Setting "fluxbilling:fleet.master.ssh": must be an object with the keys port, user, hostKey, privateKey, got none. Correct it in Pulumi.prod.yaml.',
    ],
    [
      "colour",
      "blue",
      'Setting "fluxbilling:fleet": must hold no key but name, protectData, panelDomain, tenantDomain, settingsKeyId, imageRegistries, images, master, standby, backupStores, locations, got "colour". Remove or rename the key in Pulumi.prod.yaml.',
    ],
    [
      "images/backup",
      "registry.test/fluxbilling/backup:latest",
      'Setting "fluxbilling:fleet.images.backup": must be <registry>/<repository>@sha256:<64 hexadecimal digits>, without a tag, got "registry.test/fluxbilling/backup:latest". Correct it in Pulumi.prod.yaml.',
    ],
    [
      "imageRegistries",
      ["other.test", "registry.panels.test"],
      ["tenantApp", "backup", "registry", "suspendedPage"]
        .map(
          (key) =>
            `Setting "fluxbilling:fleet.images.${key}": must come from one of other.test, registry.panels.test, got "registry.test". Push the image to a registry of the list in Pulumi.prod.yaml, or add the registry.`,
        )
        .join("\n"),
    ],
    [
      "tenantDomain",
      "tenants.panels.test",
      'Setting "fluxbilling:fleet.tenantDomain": must share no registrable domain with the panels\' panels.test, got "tenants.panels.test". Give tenants a domain of their own in Pulumi.prod.yaml, so that no cookie crosses.',
    ],
    [
      "standby/address",
      "10.77.0.10",
      'Setting "fluxbilling:fleet.standby.address": must not be the address of master, got "10.77.0.10". Give each machine its own address in Pulumi.prod.yaml.',
    ],
    [
      "standby/zone",
      "us",
      'Setting "fluxbilling:fleet.standby.zone": must be the master\'s, eu, got "us". Place the standby in the master\'s zone in Pulumi.prod.yaml: it holds a copy of the master\'s data.',
    ],
    [
      "locations/nl-1/backupStore",
      "attic",
      'Setting "fluxbilling:fleet.locations.nl-1.backupStore": must be one of master, got "attic". Name a store that fluxbilling:fleet.backupStores in Pulumi.prod.yaml holds.',
    ],
    [
      "locations/nl-1/certificates",
      { issuer: "nobody" },
      'Setting "fluxbilling:fleet.locations.nl-1.certificates.issuer": must be { issuer: fleet } for the fleet\'s own authority or { issuer: acme, resolver: <name> }, got "nobody". Correct it in Pulumi.prod.yaml.',
    ],
    [
      "backupStores/master/zone",
      "us",
      'Setting "fluxbilling:fleet.backupStores.master.zone": must be the zone of its machine master, eu, got "us". Correct the zone in Pulumi.prod.yaml, or place the store on a machine of zone us.',
    ],
    [
      "backupStores/master/recipients",
      [],
      'Setting "fluxbilling:fleet.backupStores.master.recipients": must name at least one public backup key, got a list. Correct it in Pulumi.prod.yaml.',
    ],
    [
      "backupStores/master/recipients",
      ["AGE-SECRET-KEY-1"],
      'Setting "fluxbilling:fleet.backupStores.master.recipients.0": must be a public backup key, age1…, as age-keygen prints it, got a string. Correct it in Pulumi.prod.yaml.',
    ],
    [
      "master/kubernetes/podRange",
      "everywhere",
      'Setting "fluxbilling:fleet.master.kubernetes.podRange": must be a range of IPv4 addresses, as in 10.42.0.0/16, got "everywhere". Correct it in Pulumi.prod.yaml.',
    ],
    [
      "master/kubernetes/nodeName",
      "Node 1",
      'Setting "fluxbilling:fleet.master.kubernetes.nodeName": must be the name of a node: small letters, digits, hyphens and dots, got "Node 1". Correct it in Pulumi.prod.yaml.',
    ],
    [
      "imageRegistries",
      ["registry.test"],
      'Setting "fluxbilling:fleet.imageRegistries": must name the fleet\'s own, registry.panels.test, got registry.test. Add it in Pulumi.prod.yaml.',
    ],
    [
      "settingsKeyId",
      1234,
      'Setting "fluxbilling:fleet.settingsKeyId": must be the 16 hexadecimal digits that name the root key, got 1234. Correct it in Pulumi.prod.yaml.',
    ],
  ])("refuses %s %j", (path, value, message) => {
    expect(() => parseFleet(fleetWith(path, value), SOURCE)).toThrow(
      refusal("SETTING_INVALID", message),
    );
  });

  it("refuses a location called as a machine with another part", () => {
    const locations = goodFleetInput()["locations"] as Record<string, object>;
    const fleet = fleetWith("locations", {
      ...locations,
      standby: { ...locations["nl-1"], address: "10.77.0.40" },
    });
    expect(() => parseFleet(fleet, SOURCE)).toThrow(
      refusal(
        "SETTING_INVALID",
        'Setting "fluxbilling:fleet.locations.standby": must not be called master or standby, got "standby". Rename the location in Pulumi.prod.yaml.',
      ),
    );
  });

  it("refuses a badly named location by its name", () => {
    const locations = goodFleetInput()["locations"] as Record<string, object>;
    const fleet = fleetWith("locations", { NL: locations["nl-1"] });
    expect(() => parseFleet(fleet, SOURCE)).toThrow(
      refusal(
        "SETTING_INVALID",
        'Setting "fluxbilling:fleet.locations.NL": its name must be small letters, digits and single hyphens, starting with a letter, got "NL". Rename it in Pulumi.prod.yaml.',
      ),
    );
  });

  it("refuses a location whose copies would leave its zone", () => {
    const stores = goodFleetInput()["backupStores"] as Record<string, object>;
    const fleet = fleetWith("backupStores", {
      master: { ...stores["master"], zone: "us", address: "10.77.0.99" },
    });
    expect(() => parseFleet(fleet, SOURCE)).toThrow(
      refusal(
        "BACKUP_OUT_OF_ZONE",
        'Location "nl-1": its backup store must lie in zone eu, got "master" in zone us. Name a store of zone eu in fluxbilling:fleet.locations.nl-1.backupStore.',
      ),
    );
  });

  it("refuses two stores with one user in the zone of the standby, which copies both", () => {
    const stores = goodFleetInput()["backupStores"] as Record<string, object>;
    const fleet = fleetWith("backupStores", {
      ...stores,
      second: { ...stores["master"], address: "10.77.0.99" },
    });
    expect(() => parseFleet(fleet, SOURCE)).toThrow(
      refusal(
        "SETTING_INVALID",
        'Setting "fluxbilling:fleet.backupStores.second.user": must not be the user of master, got "fluxbackup". Give each store of zone eu a user of its own in Pulumi.prod.yaml: the standby holds a copy of each.',
      ),
    );
  });

  it("refuses a fleet without a store in the standby's zone", () => {
    const input = goodFleetInput();
    const locations = input["locations"] as Record<string, object>;
    const stores = input["backupStores"] as Record<string, object>;
    const elsewhere = { zone: "us" };
    const fleet = {
      ...input,
      locations: Object.fromEntries(
        Object.entries(locations).map(([name, location]) => [name, { ...location, ...elsewhere }]),
      ),
      backupStores: { master: { ...stores["master"], ...elsewhere, address: "10.77.0.99" } },
    };
    expect(() => parseFleet(fleet, SOURCE)).toThrow(
      refusal(
        "SETTING_INVALID",
        'Setting "fluxbilling:fleet.backupStores": one must lie in the standby\'s zone eu, got none. Name a store of zone eu in Pulumi.prod.yaml: by its authority the standby takes in copies.',
      ),
    );
  });

  it("refuses a store whose user brings the image registry's copy to the standby", () => {
    expect(() => parseFleet(fleetWith("backupStores/master/user", "fluximages"), SOURCE)).toThrow(
      refusal(
        "SETTING_INVALID",
        'Setting "fluxbilling:fleet.backupStores.master.user": must not be the user of the image registry\'s copy, got "fluximages". Give each store of zone eu a user of its own in Pulumi.prod.yaml: the standby holds a copy of each.',
      ),
    );
  });

  it("never repeats a secret that stands where a reference must", () => {
    const fleet = fleetWith("locations/nl-1/postgres/adminPassword", "hunter2");
    expect(() => parseFleet(fleet, SOURCE)).toThrow(
      refusal(
        "SETTING_INVALID",
        'Setting "fluxbilling:fleet.locations.nl-1.postgres.adminPassword": must be a reference to a secret, { file: <path> } or { env: <VARIABLE> }, never the secret itself, got a string. Correct it in Pulumi.prod.yaml.',
      ),
    );
  });

  it("counts a long value instead of showing it", () => {
    const fleet = fleetWith("master/ssh/hostKey", "k".repeat(400));
    expect(() => parseFleet(fleet, SOURCE)).toThrow(
      refusal(
        "SETTING_INVALID",
        'Setting "fluxbilling:fleet.master.ssh.hostKey": must be an ssh-ed25519 public key without a comment, got a string of 400 characters. Correct it in Pulumi.prod.yaml.',
      ),
    );
  });

  it.each([[undefined], [null], ["fleet"], [[]]])("refuses %j in place of settings", (input) => {
    expect(() => parseFleet(input, SOURCE)).toThrow(Refusal);
  });
});

describe("parseTenant", () => {
  it("fills in the cheapest plan, the default zone and the first generations", () => {
    expect(parseTenant({ name: "acme", location: "nl-1" }, SOURCE)).toEqual({
      name: "acme",
      location: "nl-1",
      plan: "lite",
      zone: "eu",
      keyGeneration: 1,
      oldestKeyGeneration: 1,
      secretGeneration: 1,
      suspended: false,
      mqtt: false,
      replay: false,
      identity: {
        providers: [],
        registration: "closed",
        secondFactor: ["operator"],
        sessionDays: 14,
        accessTokenMinutes: 60,
        refreshTokenDays: 30,
      },
    });
  });

  it("takes identity providers of every kind, and a relay at the port for submission", () => {
    const { identity, mail } = parseTenant(
      { name: "acme", location: "nl-1", ...GOOD_IDENTITY },
      SOURCE,
    );
    expect({ identity, mail }).toEqual({
      identity: GOOD_IDENTITY.identity,
      mail: { ...GOOD_IDENTITY.mail, port: 587 },
    });
  });

  const HTTPS =
    "must be an https address of a host by its name, on port 443, without a user or a query, as in https://login.example.com/oauth";
  const LDAPS =
    "must be an ldaps address of a host by its name, on port 636, as in ldaps://directory.example.com";
  const SECRET =
    "must be a reference to a secret, { file: <path> } or { env: <VARIABLE> }, never the secret itself";

  it.each<readonly [path: string, value: unknown, says: string]>([
    ["identity/providers", {}, "must be a list of identity providers, got an object"],
    [
      "identity/providers/0/kind",
      "openid",
      'must be one of oidc, oauth2, saml, ldap, got "openid"',
    ],
    ["identity/providers/1/name", "work", 'must be the name of one provider only, got "work"'],
    [
      "identity/providers/0/name",
      "Work!",
      'must be at most 40 small letters, digits and single hyphens, starting with a letter, got "Work!"',
    ],
    ...[
      "http://login.example.com",
      "https://acme:hunter2@login.example.com",
      "https://login.example.com:8443",
      "https://login.example.com/?secret=hunter2",
      "https://10.0.0.1/",
      "https://login",
    ].map((value) => ["identity/providers/0/issuer", value, `${HTTPS}, got a string`] as const),
    ["identity/providers/1/tokenUrl", undefined, `${HTTPS}, got none`],
    ...["ldap://directory.example.com", "ldaps://directory.example.com:389"].map(
      (value) => ["identity/providers/3/url", value, `${LDAPS}, got a string`] as const,
    ),
    ["identity/providers/0/clientSecret", "hunter2", `${SECRET}, got a string`],
    ["identity/providers/3/bindPassword", "hunter2", `${SECRET}, got a string`],
    [
      "identity/providers/0/clientId",
      "two words",
      "must be what the provider calls its client, at most 255 plain characters without a space, got a string",
    ],
    [
      "identity/providers/3/bindDn",
      "hunter2",
      "must be a distinguished name, as in cn=reader,dc=example,dc=com, got a string",
    ],
    ["identity/registration", "maybe", 'must be one of open, closed, got "maybe"'],
    [
      "identity/secondFactor",
      ["viewer"],
      "must be a list of roles with operator among them, got a list",
    ],
    [
      "identity/secondFactor/1",
      "opertor",
      'must be one of owner, operator, billing, support, auditor, viewer, got "opertor"',
    ],
    ["identity/sessionDays", 0, "must be a whole number from 1 to 90, got 0"],
    ["identity/accessTokenMinutes", 1441, "must be a whole number from 5 to 1440, got 1441"],
    ["identity/refreshTokenDays", 1.5, "must be a whole number from 1 to 90, got 1.5"],
    [
      "mail/port",
      25,
      "must be 587, where mail is submitted over STARTTLS: no other port of mail leads out, got 25",
    ],
    [
      "mail/host",
      "10.0.0.1",
      'must be a host name of at least two labels, in small letters, got "10.0.0.1"',
    ],
    ["mail/password", "hunter2", `${SECRET}, got a string`],
    [
      "mail/user",
      "",
      "must be the name that the relay knows, at most 255 plain characters without a space, got a string",
    ],
    ["mail/from", "Acme", 'must be an address of mail, as in billing@example.com, got "Acme"'],
  ])("refuses %s %j", (path, value, says) => {
    const tenant = withValue({ name: "acme", location: "nl-1", ...GOOD_IDENTITY }, path, value);
    const key = path.replaceAll("/", ".");
    expect(() => parseTenant(tenant, SOURCE)).toThrow(
      refusal(
        "SETTING_INVALID",
        `Setting "fluxbilling:tenant.${key}": ${says}. Correct it in Pulumi.prod.yaml.`,
      ),
    );
  });

  it("refuses a key that a provider of the kind has not", () => {
    const path = "identity/providers/3/clientId";
    const tenant = withValue({ name: "acme", location: "nl-1", ...GOOD_IDENTITY }, path, "acme");
    expect(() => parseTenant(tenant, SOURCE)).toThrow(
      refusal(
        "SETTING_INVALID",
        'Setting "fluxbilling:tenant.identity.providers.3": must hold no key but kind, name, url, bindDn, bindPassword, baseDn, got "clientId". Remove or rename the key in Pulumi.prod.yaml.',
      ),
    );
  });

  it.each([
    [
      { name: "Acme Inc." },
      'Setting "fluxbilling:tenant.name": must be 2 to 40 small letters, digits and single hyphens, start with a letter and end with a letter or digit, got "Acme Inc.". Correct it in Pulumi.prod.yaml.',
    ],
    [
      { plan: "free" },
      'Setting "fluxbilling:tenant.plan": must be one of lite, standard, business, got "free". Correct it in Pulumi.prod.yaml.',
    ],
    [
      { suspended: "yes" },
      'Setting "fluxbilling:tenant.suspended": must be true or false, got "yes". Correct it in Pulumi.prod.yaml.',
    ],
    [
      { mqtt: 1883 },
      'Setting "fluxbilling:tenant.mqtt": must be true or false, got 1883. Correct it in Pulumi.prod.yaml.',
    ],
    [
      { replay: "daily" },
      'Setting "fluxbilling:tenant.replay": must be true or false, got "daily". Correct it in Pulumi.prod.yaml.',
    ],
  ])("refuses %j", (settings, message) => {
    expect(() => parseTenant({ name: "acme", location: "nl-1", ...settings }, SOURCE)).toThrow(
      refusal("SETTING_INVALID", message),
    );
  });

  it("refuses an oldest key that is newer than the one that encrypts", () => {
    const settings = { name: "acme", location: "nl-1", oldestKeyGeneration: 3, keyGeneration: 2 };
    expect(() => parseTenant(settings, SOURCE)).toThrow(
      refusal(
        "KEY_GENERATION",
        'Tenant "acme": oldestKeyGeneration must be at most keyGeneration (2), got 3. Lower fluxbilling:tenant.oldestKeyGeneration in Pulumi.prod.yaml.',
      ),
    );
  });
});

describe("placeTenant", () => {
  it("puts a tenant, its location and its store into one zone", () => {
    const { locationName, storeName, zone } = placeTenant(goodFleet(), goodTenantSettings());
    expect({ locationName, storeName, zone }).toEqual({
      locationName: "nl-1",
      storeName: "master",
      zone: "eu",
    });
  });

  it("refuses a location that the fleet has not", () => {
    expect(() => placeTenant(goodFleet(), goodTenantSettings({ location: "us-1" }))).toThrow(
      refusal(
        "LOCATION_UNKNOWN",
        'Tenant "acme": location must be one of nl-1, fi-1, got "us-1". Set fluxbilling:tenant.location to one of them, or add the location to the fleet first.',
      ),
    );
  });

  it("refuses a location outside the contracted zone", () => {
    const tenant = goodTenantSettings({ zone: "us", contractRef: "C-2026-1" });
    expect(() => placeTenant(goodFleet(), tenant)).toThrow(
      refusal(
        "ZONE_MISMATCH",
        'Tenant "acme": location must lie in zone us, got "nl-1" in zone eu. The fleet has no location in zone us: add one first.',
      ),
    );
  });

  it("refuses a zone outside the default one without a contract", () => {
    const input = structuredClone(goodFleetInput()) as Record<
      string,
      Record<string, Record<string, unknown>>
    >;
    // Master, standby and their store stay in zone eu: the other zone's store is on a machine of its own.
    const stores = input["backupStores"] ?? {};
    stores["apac"] = { ...stores["master"], zone: "apac", address: "10.77.0.99" };
    for (const location of Object.values(input["locations"] ?? {})) {
      Object.assign(location, { zone: "apac", backupStore: "apac" });
    }
    expect(() =>
      placeTenant(parseFleet(input, SOURCE), goodTenantSettings({ zone: "apac" })),
    ).toThrow(
      refusal(
        "CONTRACT_MISSING",
        'Tenant "acme": zone apac must come with a contract\'s reference, got none. Set fluxbilling:tenant.contractRef, or leave the zone at eu.',
      ),
    );
  });
});

describe("parseHost", () => {
  const source = "Pulumi.prod.host.nl-2.yaml";

  it("takes a release by its checksum, without images where the host can pull them", () => {
    const host = parseHost(withValue(goodHostInput(), "k3s/images", undefined), source);
    expect([host.k3s.images, host.k3s.kubeconfigGeneration]).toEqual([undefined, 1]);
  });

  it.each([
    [
      "k3s/url",
      "http://mirror.test/k3s",
      'Setting "fluxbilling:host.k3s.url": must be an https address of a file, of plain characters, without a user or a query, got "http://mirror.test/k3s". Correct it in Pulumi.prod.host.nl-2.yaml.',
    ],
    [
      "k3s/url",
      "https://mirror.test/k3s;reboot",
      'Setting "fluxbilling:host.k3s.url": must be an https address of a file, of plain characters, without a user or a query, got "https://mirror.test/k3s;reboot". Correct it in Pulumi.prod.host.nl-2.yaml.',
    ],
    [
      "k3s/sha256",
      undefined,
      'Setting "fluxbilling:host.k3s.sha256": must be a SHA-256, 64 small hexadecimal digits, got none. Correct it in Pulumi.prod.host.nl-2.yaml.',
    ],
    [
      "k3s/version",
      "latest",
      'Setting "fluxbilling:host.k3s.version": must be a release of K3s, as in v1.33.5+k3s1, got "latest". Correct it in Pulumi.prod.host.nl-2.yaml.',
    ],
    [
      "k3s/version",
      "v1.32.9+k3s1",
      'Setting "fluxbilling:host.k3s.version": must be v1.33.0 or later: an earlier release may drop the setting by which Secrets are encrypted, got "v1.32.9+k3s1". Correct it in Pulumi.prod.host.nl-2.yaml.',
    ],
    [
      "k3s/images/url",
      "https://mirror.test/images.zip",
      'Setting "fluxbilling:host.k3s.images.url": must be an https address of a file, of plain characters, without a user or a query, that ends in .tar, .tar.gz or .tar.zst, got "https://mirror.test/images.zip". Correct it in Pulumi.prod.host.nl-2.yaml.',
    ],
    [
      "k3s/channel",
      "stable",
      'Setting "fluxbilling:host.k3s": must hold no key but version, url, sha256, images, kubeconfigGeneration, got "channel". Remove or rename the key in Pulumi.prod.host.nl-2.yaml.',
    ],
    [
      "postgresql/version",
      "15",
      'Setting "fluxbilling:host.postgresql.version": must be the exact version of Debian\'s package of PostgreSQL 15 or later, with Debian\'s own +deb<release>u<number>, as in 15.18-0+deb12u1, got "15". Correct it in Pulumi.prod.host.nl-2.yaml.',
    ],
    [
      "postgresql/version",
      "14.18-0+deb11u1",
      'Setting "fluxbilling:host.postgresql.version": must be the exact version of Debian\'s package of PostgreSQL 15 or later, with Debian\'s own +deb<release>u<number>, as in 15.18-0+deb12u1, got "14.18-0+deb11u1". Correct it in Pulumi.prod.host.nl-2.yaml.',
    ],
    [
      "postgresql/version",
      "15.18-1.pgdg120+1",
      'Setting "fluxbilling:host.postgresql.version": must be the exact version of Debian\'s package of PostgreSQL 15 or later, with Debian\'s own +deb<release>u<number>, as in 15.18-0+deb12u1, got "15.18-1.pgdg120+1". Correct it in Pulumi.prod.host.nl-2.yaml.',
    ],
  ])("refuses %s %s", (path, value, message) => {
    expect(() => parseHost(withValue(goodHostInput(), path, value), source)).toThrow(
      refusal("SETTING_INVALID", message),
    );
  });

  it.each([
    ["10.80.0.0/16", undefined],
    ["10.80.3.0/24", undefined],
    ["10.42.0.0/16", undefined],
    [
      "10.80.3.0/25",
      'must be /24 or wider on a host that is prepared, since K3s gives its node a /24 of it, got "10.80.3.0/25"',
    ],
    [
      "10.43.128.0/20",
      'must lie apart from 10.43.0.0/16 on a host that is prepared, where K3s has its services, got "10.43.128.0/20"',
    ],
    [
      "10.0.0.0/8",
      'must lie apart from 10.43.0.0/16 on a host that is prepared, where K3s has its services, got "10.0.0.0/8"',
    ],
    [
      "10.42.0.0/15",
      'must lie apart from 10.43.0.0/16 on a host that is prepared, where K3s has its services, got "10.42.0.0/15"',
    ],
  ])("takes pods' addresses in %s: %s", (podRange, fault) => {
    const path = "locations/nl-1/kubernetes/podRange";
    const fleet = parseFleet(withValue(goodFleetInput(), path, podRange), "the test");
    const location = (): unknown => hostLocation(fleet, parseHost(goodHostInput(), source));
    if (fault === undefined) {
      expect(location()).toMatchObject({ kubernetes: { podRange } });
    } else {
      expect(location).toThrow(
        refusal(
          "SETTING_INVALID",
          `Setting "fluxbilling:fleet.locations.nl-1.kubernetes.podRange": ${fault}. Correct it in the fleet's settings: a cluster keeps its range for life.`,
        ),
      );
    }
  });

  it("gives its stack a name that no tenant's stack has", () => {
    expect(hostStackName("prod", "nl-2")).toBe("prod.host.nl-2");
    expect(() => goodTenantSettings({ name: "host.nl-2" })).toThrow(/name": must be 2 to 40/);
  });
});
