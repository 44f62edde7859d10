import { createHash } from "node:crypto";
import type * as pulumi from "@pulumi/pulumi";
import { BackupStore } from "../components/backup-store.ts";
import type { EncryptedStorage } from "../components/encrypted-storage.ts";
import { FleetAuthority } from "../components/fleet-authority.ts";
import { Location } from "../components/location.ts";
import { Master } from "../components/master.ts";
import { RegistryMirror } from "../components/registry-mirror.ts";
import { Standby } from "../components/standby.ts";
import { StoreMirror } from "../components/store-mirror.ts";
import { storeOf } from "../model/settings.ts";
import type { FleetSettings } from "../model/settings.ts";
import { sshAuthority } from "../model/ssh-certificate.ts";
import { hostConnection } from "./host-connection.ts";
import { machineProviders } from "./providers.ts";
import type { SecretSource } from "./secret-source.ts";

/** What the fleet's stack tells: nothing secret. */
export interface FleetOutputs {
  /** Certificate of the fleet's own authority, PEM, where it has one. */
  readonly authorityCertificate?: pulumi.Output<string>;
  /** By what each folder with data is encrypted, as each machine has told. */
  readonly encryptedFolders: Readonly<
    Record<string, pulumi.Output<Readonly<Record<string, string>>>>
  >;
  readonly locations: Readonly<
    Record<
      string,
      {
        readonly zone: string;
        readonly country: string;
        readonly address: string;
        readonly capacityTenants: number;
      }
    >
  >;
}

/**
 * The fleet: master, standby, backup stores and locations, everything that is the same for all tenants.
 *
 * @throws Refusal `SECRET_MISSING` or `AUTHORITY_KEY`, before anything is registered.
 */
export function deployFleet(fleet: FleetSettings, secrets: SecretSource): FleetOutputs {
  const root = "fluxbilling:fleet";
  const stores = Object.entries(fleet.backupStores).map(([storeName, store]) => {
    const setting = `${root}.backupStores.${storeName}`;
    const receiver = secrets.readPublic(store.receiverFile, `${setting}.receiverFile`);
    return {
      storeName,
      store,
      connection: hostConnection(store.address, store.ssh, `${setting}.ssh`, secrets),
      authority: sshAuthority(
        secrets.read(store.authority, `${setting}.authority`),
        `${setting}.authority`,
      ),
      receiverSha256: createHash("sha256").update(receiver).digest("hex"),
    };
  });
  const masterSetting = `${root}.master`;
  const masterCaCertificate = secrets
    .readPublic(fleet.master.postgres.caFile, `${masterSetting}.postgres.caFile`)
    .toString("utf8");
  const masterConnection = hostConnection(
    fleet.master.address,
    fleet.master.ssh,
    `${masterSetting}.ssh`,
    secrets,
  );
  const standbyConnection = hostConnection(
    fleet.standby.address,
    fleet.standby.ssh,
    `${root}.standby.ssh`,
    secrets,
  );
  const masterProviders = machineProviders("master", masterSetting, fleet.master, secrets);
  const locations = Object.entries(fleet.locations).map(([locationName, location]) => ({
    locationName,
    location,
    store: storeOf(fleet, locationName, location),
    connection: hostConnection(
      location.address,
      location.ssh,
      `${root}.locations.${locationName}.ssh`,
      secrets,
    ),
    providers: machineProviders(
      locationName,
      `${root}.locations.${locationName}`,
      location,
      secrets,
    ),
  }));

  const usesAuthority = [fleet.master, ...Object.values(fleet.locations)].some(
    ({ certificates }) => certificates.issuer === "fleet",
  );
  const fleetAuthority = usesAuthority
    ? new FleetAuthority("authority", { fleetName: fleet.name })
    : undefined;
  const authorityFor = (issuer: string): FleetAuthority | undefined =>
    issuer === "fleet" ? fleetAuthority : undefined;

  const master = new Master(
    "master",
    {
      zone: fleet.master.zone,
      country: fleet.master.country,
      storage: {
        connection: masterConnection,
        folders: fleet.master.encryptedFolders,
        volumes: fleet.master.kubernetes.volumes,
      },
      machineAddress: fleet.master.address,
      apiPort: fleet.master.kubernetes.apiPort,
      nodeName: fleet.master.kubernetes.nodeName,
      panelDomain: fleet.panelDomain,
      certificates: fleet.master.certificates,
      registryImage: fleet.images.registry,
      authority: authorityFor(fleet.master.certificates.issuer),
      databaseCaCertificate: masterCaCertificate,
      protectData: fleet.protectData,
      imageRegistries: fleet.imageRegistries,
    },
    { providers: masterProviders },
  );
  const standby = new Standby(
    "standby",
    {
      zone: fleet.standby.zone,
      masterZone: fleet.master.zone,
      country: fleet.standby.country,
      address: fleet.standby.address,
      connection: standbyConnection,
      encryptedFolders: fleet.standby.encryptedFolders,
      masterConnection,
      masterAddress: fleet.master.address,
      masterPort: fleet.master.postgres.port,
      masterAdmin: fleet.master.postgres.adminUser,
      databaseCaCertificate: masterCaCertificate,
    },
    { providers: masterProviders },
  );
  const standbyEnd = {
    endpoint: { address: fleet.standby.address, port: fleet.standby.ssh.port },
    hostKey: fleet.standby.ssh.hostKey,
    sourceRanges: [`${fleet.master.address}/32`],
  };
  // One after the other: each brings the standby the same receiving program.
  let mirrors: pulumi.Resource[] = [];
  for (const { storeName, store, connection: reach, authority, receiverSha256 } of stores) {
    new BackupStore(`store-${storeName}`, {
      storeName,
      zone: store.zone,
      connection: reach,
      user: store.user,
      path: store.path,
      authorityPublicKey: authority.publicKey,
      receiverFile: store.receiverFile,
      receiverSha256,
    });
    // A store of another zone has no copy here: what it holds stays in its zone.
    if (store.zone === fleet.standby.zone) {
      const mirror = new StoreMirror(
        `mirror-${storeName}`,
        {
          storeName,
          zone: store.zone,
          standbyZone: fleet.standby.zone,
          namespace: master.namespace,
          labels: master.labels,
          image: fleet.images.backup,
          source: {
            endpoint: { address: store.address, port: store.ssh.port },
            hostKey: store.ssh.hostKey,
            // The master sees its own pods by their own addresses.
            sourceRanges: [`${fleet.master.address}/32`, fleet.master.kubernetes.podRange],
          },
          target: standbyEnd,
          targetConnection: standbyConnection,
          user: store.user,
          path: store.path,
          authority,
          receiverFile: store.receiverFile,
          receiverSha256,
        },
        { providers: masterProviders, dependsOn: mirrors },
      );
      mirrors = [mirror];
    }
  }
  // By a store's authority of its own zone, which the settings insist on: what it certifies for this user adds images.
  const store = stores.find((one) => one.store.zone === fleet.standby.zone);
  if (store !== undefined) {
    new RegistryMirror(
      "registry-mirror",
      {
        standbyZone: fleet.standby.zone,
        namespace: master.namespace,
        labels: master.labels,
        image: fleet.images.backup,
        target: standbyEnd,
        targetConnection: standbyConnection,
        authority: store.authority,
        receiverFile: store.store.receiverFile,
        receiverSha256: store.receiverSha256,
      },
      { providers: masterProviders, dependsOn: mirrors },
    );
  }
  const storage: Record<string, EncryptedStorage> = {
    master: master.storage,
    standby: standby.storage,
  };
  for (const { locationName, location, store, connection: reach, providers } of locations) {
    const { storage: proved } = new Location(
      locationName,
      {
        locationName,
        zone: location.zone,
        country: location.country,
        storage: {
          connection: reach,
          folders: location.encryptedFolders,
          volumes: location.kubernetes.volumes,
        },
        machineAddress: location.address,
        apiPort: location.kubernetes.apiPort,
        tenantDomain: fleet.tenantDomain,
        authority: authorityFor(location.certificates.issuer),
        backupStore: location.backupStore,
        backupStoreZone: store.zone,
        capacityTenants: location.capacityTenants,
        suspendedPageImage: fleet.images.suspendedPage,
      },
      { providers },
    );
    storage[locationName] = proved;
  }
  return {
    ...(fleetAuthority === undefined
      ? {}
      : { authorityCertificate: fleetAuthority.certificatePem }),
    encryptedFolders: Object.fromEntries(
      Object.entries(storage).map(([machine, { ciphers }]) => [machine, ciphers]),
    ),
    locations: Object.fromEntries(
      Object.entries(fleet.locations).map(
        ([locationName, { zone, country, address, capacityTenants }]) => [
          locationName,
          { zone, country, address, capacityTenants },
        ],
      ),
    ),
  };
}
