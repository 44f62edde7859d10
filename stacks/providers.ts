import * as k8s from "@pulumi/kubernetes";
import * as postgresql from "@pulumi/postgresql";
import * as pulumi from "@pulumi/pulumi";
import type { KubernetesSettings, PostgresSettings } from "../model/settings.ts";
import type { SecretSource } from "./secret-source.ts";

/** How a machine's cluster and PostgreSQL are reached. */
export interface MachineAccess {
  readonly address: string;
  readonly kubernetes: KubernetesSettings;
  readonly postgres: PostgresSettings;
}

/** The providers of one machine, for a component's `opts.providers`. */
export type MachineProviders = [k8s.Provider, postgresql.Provider];

/**
 * The providers of one machine, named after it: `<machine>-cluster` and `<machine>-server`. Nothing
 * in this program uses another provider of these kinds.
 *
 * @param machine Name of the machine in the settings.
 * @param setting Where its settings are, for errors: `fluxbilling:fleet.locations.nl-1`.
 * @throws Refusal `SECRET_MISSING`.
 */
export function machineProviders(
  machine: string,
  setting: string,
  access: MachineAccess,
  secrets: SecretSource,
): MachineProviders {
  const { kubernetes, postgres, address } = access;
  // Read here so that a missing file is a sentence about its setting, not a provider's complaint.
  secrets.readPublic(postgres.caFile, `${setting}.postgres.caFile`);
  return [
    new k8s.Provider(`${machine}-cluster`, {
      kubeconfig: pulumi.secret(
        secrets.read(kubernetes.kubeconfig, `${setting}.kubernetes.kubeconfig`),
      ),
      // Without it a changed kubeconfig can look like another cluster, and everything is replaced.
      clusterIdentifier: machine,
      enableServerSideApply: true,
      // A run that was killed may have made an object that the record does not know: the next run
      // takes it over instead of failing at "already exists".
      upsertExistingObjects: true,
      enablePatchForce: true,
    }),
    new postgresql.Provider(`${machine}-server`, {
      host: address,
      port: postgres.port,
      username: postgres.adminUser,
      password: pulumi.secret(
        secrets.read(postgres.adminPassword, `${setting}.postgres.adminPassword`),
      ),
      sslmode: "verify-full",
      sslrootcert: postgres.caFile,
      superuser: true,
      connectTimeout: 15,
    }),
  ];
}
