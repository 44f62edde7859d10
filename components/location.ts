import * as pulumi from "@pulumi/pulumi";
import { LOCATION_LABEL, ZONE_LABEL } from "../model/labels.ts";
import type { Zone } from "../model/zone.ts";
import { ClusterEdge } from "./cluster-edge.ts";
import { DatabaseServer } from "./database-server.ts";
import { EncryptedStorage } from "./encrypted-storage.ts";
import type { EncryptedStorageArgs } from "./encrypted-storage.ts";
import { SuspendedPage } from "./suspended-page.ts";
import { SystemNetwork } from "./system-network.ts";
import type { FleetAuthority } from "./fleet-authority.ts";

/** What a location needs to know. */
export interface LocationArgs {
  /** The location's name in the settings. */
  readonly locationName: string;
  readonly zone: Zone;
  /** Two letters. */
  readonly country: string;
  /** The machine's storage, volumes among it. */
  readonly storage: Required<Omit<EncryptedStorageArgs, "labels" | "askAgainFor">>;
  /** Address of the machine, and the port of its API server. */
  readonly machineAddress: string;
  readonly apiPort: number;
  /** Domain of the tenants' hosts. */
  readonly tenantDomain: string;
  /** Who signs their certificate; `undefined` where the ingress gets it by ACME. */
  readonly authority: FleetAuthority | undefined;
  /** Name and zone of the store that holds this location's copies. */
  readonly backupStore: string;
  readonly backupStoreZone: Zone;
  /** Tenants that fit. */
  readonly capacityTenants: number;
  /** Image of the page for suspended tenants, by digest. */
  readonly suspendedPageImage: string;
}

/**
 * A cluster and a PostgreSQL that exist, made fit for tenants.
 *
 * Give it the location's providers with `opts.providers`. Holds: what {@link EncryptedStorage},
 * {@link ClusterEdge}, {@link SystemNetwork}, {@link SuspendedPage} and {@link DatabaseServer} hold; its copies stay in
 * its zone.
 */
export class Location extends pulumi.ComponentResource {
  readonly storage: EncryptedStorage;

  constructor(name: string, args: LocationArgs, opts?: pulumi.ComponentResourceOptions) {
    super(
      "fluxbilling:fleet:Location",
      name,
      {
        location: args.locationName,
        zone: args.zone,
        country: args.country,
        address: args.machineAddress,
        backupStore: args.backupStore,
        backupStoreZone: args.backupStoreZone,
        capacityTenants: args.capacityTenants,
      },
      opts,
    );
    const labels = { [LOCATION_LABEL]: args.locationName, [ZONE_LABEL]: args.zone };
    this.storage = new EncryptedStorage(
      `${name}-storage`,
      { ...args.storage, labels },
      { parent: this },
    );
    const child = { parent: this, dependsOn: [this.storage] };
    new ClusterEdge(
      `${name}-edge`,
      { domain: args.tenantDomain, authority: args.authority, labels },
      child,
    );
    new SystemNetwork(
      `${name}-system`,
      {
        machineAddress: args.machineAddress,
        apiPort: args.apiPort,
        serves: "tenants",
        usesAcme: args.authority === undefined,
        labels,
      },
      child,
    );
    new SuspendedPage(`${name}-page`, { labels, image: args.suspendedPageImage }, child);
    new DatabaseServer(`${name}-server`, child);
    this.registerOutputs({});
  }
}
