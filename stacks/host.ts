import * as pulumi from "@pulumi/pulumi";
import { PreparedHost } from "../components/prepared-host.ts";
import { clusterFolders } from "../model/encrypted-storage.ts";
import { PLANS } from "../model/plan.ts";
import type { Artefact } from "../model/prepared-host.ts";
import { Refusal } from "../model/refusal.ts";
import type { FleetSettings, HostSettings, LocationSettings } from "../model/settings.ts";
import { hostConnection } from "./host-connection.ts";
import type { SecretSource } from "./secret-source.ts";

/** What the stack of a host tells: what the fleet's settings then name. */
export interface HostOutputs {
  /** Of K3s's administrator; a secret. */
  readonly kubeconfig: pulumi.Output<string>;
  /** Certificate of the authority of its PostgreSQL, PEM. */
  readonly postgresCa: pulumi.Output<string>;
  /** By what each folder with data is encrypted, as the host has told. */
  readonly encryptedFolders: pulumi.Output<Readonly<Record<string, string>>>;
}

/** Connections beside the tenants' applications: an administrator's, the backups', PostgreSQL's own. */
const FURTHER_CONNECTIONS = 100;
/** Each takes some kilobytes whether it is used or not. More at a time than this one server does not hold anyway. */
const MOST_CONNECTIONS = 10_000;

/**
 * One location's host, prepared before the fleet's `up` that adopts it.
 *
 * Everything that the fleet's settings say of the location is read there, so that nothing is said twice.
 *
 * @throws Refusal `SECRET_MISSING` or `SETTING_INVALID`, before anything is registered.
 */
export function deployHost(
  fleet: FleetSettings,
  { location: locationName, k3s, postgresql }: HostSettings,
  { address, ssh, encryptedFolders, kubernetes, postgres, capacityTenants }: LocationSettings,
  secrets: SecretSource,
): HostOutputs {
  const setting = `fluxbilling:fleet.locations.${locationName}`;
  const adminPassword = secrets.read(postgres.adminPassword, `${setting}.postgres.adminPassword`);
  if (!/^[\x20-\x7e]+$/.test(adminPassword)) {
    throw new Refusal(
      "SETTING_INVALID",
      `Setting "${setting}.postgres.adminPassword": its secret must be of printable ASCII characters, got another. Make one with \`openssl rand -base64 24\`.`,
    );
  }
  const host = new PreparedHost(locationName, {
    locationName,
    connection: hostConnection(address, ssh, `${setting}.ssh`, secrets),
    plan: {
      address,
      folders: clusterFolders(encryptedFolders),
      k3s: {
        version: k3s.version,
        kubeconfigGeneration: k3s.kubeconfigGeneration,
        ...artefact(k3s),
        ...(k3s.images === undefined ? {} : { images: artefact(k3s.images) }),
      },
      cluster: {
        apiPort: kubernetes.apiPort,
        podRange: kubernetes.podRange,
        volumesFolder: kubernetes.volumes.folder,
      },
      postgresql: {
        version: postgresql.version,
        port: postgres.port,
        adminUser: postgres.adminUser,
        maxConnections: maxConnections(capacityTenants),
      },
    },
    adminPassword: pulumi.secret(adminPassword),
    protectData: fleet.protectData,
  });
  return {
    kubeconfig: host.kubeconfig,
    postgresCa: host.postgresCa,
    encryptedFolders: host.storage.ciphers,
  };
}

/** Room for every tenant's application, were each of the largest plan. */
function maxConnections(tenants: number): number {
  const most = Math.max(...Object.values(PLANS).map((plan) => plan.databaseConnections));
  return Math.min(tenants * most + FURTHER_CONNECTIONS, MOST_CONNECTIONS);
}

function artefact({ url, sha256 }: { readonly url: string; readonly sha256: string }): Artefact {
  return { url, digest: `sha256:${sha256}` };
}
