import { Tenant } from "../components/tenant.ts";
import type { FleetSettings, Placement, TenantSettings } from "../model/settings.ts";
import { sshAuthority } from "../model/ssh-certificate.ts";
import { tenantNames } from "../model/tenant-name.ts";
import { refuseMove } from "./placement-record.ts";
import { machineProviders } from "./providers.ts";
import type { SecretSource } from "./secret-source.ts";
import { readIdentity } from "./tenant-identity.ts";

/** What a tenant's stack tells: nothing secret. */
export interface TenantOutputs {
  readonly url: string;
  /** Address that the tenant's host must resolve to. */
  readonly ingressAddress: string;
  readonly namespace: string;
  readonly database: string;
  readonly location: string;
  readonly zone: string;
  readonly plan: string;
  readonly backupStore: string;
  /** In cron's words, UTC. */
  readonly backupSchedule: string;
  readonly suspended: boolean;
  /** What a customer's firewall must know: where to let calls out to, and where calls of the tenant come from (W14, W15). */
  readonly network: {
    readonly hosts: readonly string[];
    /** Single IPv4 addresses. They stay: the backup key is good from these only. */
    readonly outboundAddresses: readonly string[];
  };
}

/**
 * One tenant: what is deployed, locked and destroyed as one stack.
 *
 * @throws Refusal `SECRET_MISSING`, `SETTING_INVALID`, `ROOT_KEY`, `AUTHORITY_KEY` or
 * `LOCATION_FIXED`, before anything of the tenant is registered.
 */
export async function deployTenant(
  fleet: FleetSettings,
  settings: TenantSettings,
  placement: Placement,
  secrets: SecretSource,
): Promise<TenantOutputs> {
  const { locationName, location, storeName, store } = placement;
  const setting = `fluxbilling:fleet.locations.${locationName}`;
  const storeSetting = `fluxbilling:fleet.backupStores.${storeName}.authority`;
  const rootKey = secrets.rootKey(fleet);
  const authority = sshAuthority(secrets.read(store.authority, storeSetting), storeSetting);
  const databaseCaCertificate = secrets
    .readPublic(location.postgres.caFile, `${setting}.postgres.caFile`)
    .toString("utf8");
  const { identityProviders, credentials } = readIdentity(settings, secrets);
  const outboundAddresses = location.egressAddresses ?? [location.address];
  // Before the wait, so that the engine starts their plugins meanwhile; a provider makes nothing by itself.
  const providers = machineProviders(locationName, setting, location, secrets);
  await refuseMove(settings);

  const tenant = new Tenant(
    settings.name,
    {
      settings,
      locationName,
      locationZone: location.zone,
      storeName,
      storeZone: store.zone,
      store: {
        endpoint: { address: store.address, port: store.ssh.port },
        hostKey: store.ssh.hostKey,
        user: store.user,
        path: store.path,
        authority,
        recipients: store.recipients,
        sourceAddresses: outboundAddresses,
      },
      database: { address: location.address, port: location.postgres.port },
      databaseCaCertificate,
      nodeName: location.kubernetes.nodeName,
      podRange: location.kubernetes.podRange,
      certificates: location.certificates,
      tenantDomain: fleet.tenantDomain,
      images: fleet.images,
      imageRegistries: fleet.imageRegistries,
      identityProviders,
      credentials,
      rootKey,
      protectData: fleet.protectData,
    },
    { providers },
  );
  return {
    url: `https://${tenant.host}`,
    ingressAddress: location.address,
    namespace: tenant.namespaceName,
    database: tenantNames(settings.name).database,
    location: locationName,
    zone: settings.zone,
    plan: settings.plan,
    backupStore: storeName,
    backupSchedule: tenant.backupSchedule,
    suspended: settings.suspended,
    network: { hosts: [tenant.host], outboundAddresses },
  };
}
