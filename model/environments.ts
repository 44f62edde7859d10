import { Refusal } from "./refusal.ts";
import type { FleetSettings } from "./settings.ts";

/** A fleet of another environment, and the file that holds its settings. */
export interface OtherFleet {
  readonly source: string;
  readonly fleet: FleetSettings;
}

/**
 * Refuses a fleet that has a key or a host in common with another environment: whoever may read the
 * one's secrets could open the other's data. Two files may hold settings of one and the same fleet.
 *
 * @throws Refusal `ENVIRONMENT_SHARED`, naming the setting and both fleets.
 */
export function refuseSharedKeys(fleet: FleetSettings, others: readonly OtherFleet[]): void {
  const ours = ownKeys(fleet);
  for (const other of others) {
    if (other.fleet.name === fleet.name) continue;
    const theirs = new Set(ownKeys(other.fleet).map(([, key]) => key));
    const shared = ours.find(([, key]) => theirs.has(key));
    if (shared === undefined) continue;
    const [setting, key] = shared;
    throw new Refusal(
      "ENVIRONMENT_SHARED",
      `Fleet "${fleet.name}": ${setting} must be this environment's own, got "${key}", which fleet "${other.fleet.name}" in ${other.source} has too. Make a key of its own for the one of the two that is newer.`,
    );
  }
}

/** What no two environments may share, all of it public: the root key's id, backup keys, hosts' keys. */
function ownKeys(fleet: FleetSettings): readonly (readonly [setting: string, key: string])[] {
  return [
    ["settingsKeyId", fleet.settingsKeyId],
    ["master.ssh.hostKey", fleet.master.ssh.hostKey],
    ["standby.ssh.hostKey", fleet.standby.ssh.hostKey],
    ...Object.entries(fleet.backupStores).flatMap(([name, store]) => [
      [`backupStores.${name}.ssh.hostKey`, store.ssh.hostKey] as const,
      ...store.recipients.map(
        (recipient) => [`backupStores.${name}.recipients`, recipient] as const,
      ),
    ]),
  ];
}
