import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { CONTROL_PLANE_DATABASE, STATE_DATABASE } from "../model/database.ts";
import { CONTROL_PLANE_NAMESPACE, LOCATION_LABEL, ZONE_LABEL } from "../model/labels.ts";
import { POD_SECURITY_LABELS } from "../model/pod.ts";
import type { CertificateSettings } from "../model/settings.ts";
import type { Zone } from "../model/zone.ts";
import { ClusterEdge } from "./cluster-edge.ts";
import { ControlPlaneIngress } from "./control-plane-ingress.ts";
import { DatabaseServer } from "./database-server.ts";
import { EncryptedStorage } from "./encrypted-storage.ts";
import type { EncryptedStorageArgs } from "./encrypted-storage.ts";
import type { FleetAuthority } from "./fleet-authority.ts";
import { addPlatformDatabase } from "./platform-database.ts";
import { Registry } from "./registry.ts";
import { SystemNetwork } from "./system-network.ts";

/** What the master needs to know. */
export interface MasterArgs {
  readonly zone: Zone;
  /** Two letters. */
  readonly country: string;
  /** The machine's storage, volumes among it. */
  readonly storage: Required<Omit<EncryptedStorageArgs, "labels" | "askAgainFor">>;
  /** Address of the machine, and the port of its API server. */
  readonly machineAddress: string;
  readonly apiPort: number;
  /** Name of its node. @default the registry's volume waits for its first pod */
  readonly nodeName: string | undefined;
  /** Domain of the operator and customer panels. */
  readonly panelDomain: string;
  /** How the panels' hosts come by their certificate. */
  readonly certificates: CertificateSettings;
  /** The image registry's own image, by digest. */
  readonly registryImage: string;
  /** Who signs the panels' certificate; `undefined` where the ingress gets it by ACME. */
  readonly authority: FleetAuthority | undefined;
  /** Certificate of the authority that signed the PostgreSQL server's, PEM. */
  readonly databaseCaCertificate: string;
  /** Hosts of the registries that images may come from. */
  readonly imageRegistries: readonly string[];
  /** Whether the control plane's database and the images refuse to be deleted. */
  readonly protectData: boolean;
}

/** Connections of the control plane. */
const CONTROL_PLANE_CONNECTIONS = 40;
/** A few runs at once, each with a handful. */
const STATE_CONNECTIONS = 40;

/**
 * The control plane's home: a namespace that is shut both ways, databases of its own and of the stacks'
 * state, the image registry, and the way in to registry and panels.
 *
 * Give it the master's providers with `opts.providers`. Holds: what {@link EncryptedStorage},
 * {@link ClusterEdge}, {@link SystemNetwork} and {@link DatabaseServer} hold; each database's password exists in clear in
 * one Secret of its namespace and nowhere else.
 */
export class Master extends pulumi.ComponentResource {
  /** The control plane's namespace. */
  public readonly namespace: k8s.core.v1.Namespace;
  /** Labels of everything on the master. */
  public readonly labels: Readonly<Record<string, string>>;
  public readonly storage: EncryptedStorage;

  constructor(name: string, args: MasterArgs, opts?: pulumi.ComponentResourceOptions) {
    super(
      "fluxbilling:fleet:Master",
      name,
      {
        zone: args.zone,
        country: args.country,
        address: args.machineAddress,
        protectData: args.protectData,
        imageRegistries: args.imageRegistries,
      },
      opts,
    );
    const labels = { [LOCATION_LABEL]: "master", [ZONE_LABEL]: args.zone };
    this.labels = labels;
    this.storage = new EncryptedStorage(
      `${name}-storage`,
      { ...args.storage, labels },
      { parent: this },
    );
    const child = { parent: this, dependsOn: [this.storage] };
    new ClusterEdge(
      `${name}-edge`,
      { domain: args.panelDomain, authority: args.authority, labels },
      child,
    );
    new SystemNetwork(
      `${name}-system`,
      {
        machineAddress: args.machineAddress,
        apiPort: args.apiPort,
        serves: "control plane",
        usesAcme: args.authority === undefined,
        labels,
      },
      child,
    );
    const server = new DatabaseServer(`${name}-server`, child);

    const namespace = new k8s.core.v1.Namespace(
      `${name}-namespace`,
      {
        metadata: {
          name: CONTROL_PLANE_NAMESPACE,
          labels: { ...labels, ...POD_SECURITY_LABELS },
        },
      },
      child,
    );
    this.namespace = namespace;
    const placed = { ...child, dependsOn: [namespace], deletedWith: namespace };
    new k8s.networking.v1.NetworkPolicy(
      `${name}-default-deny`,
      {
        metadata: { name: "default-deny", namespace: CONTROL_PLANE_NAMESPACE, labels },
        spec: { podSelector: {}, policyTypes: ["Ingress", "Egress"] },
      },
      placed,
    );
    new ControlPlaneIngress(
      `${name}-ingress`,
      { namespace, labels, panelDomain: args.panelDomain, certificates: args.certificates },
      child,
    );
    new Registry(
      `${name}-registry`,
      {
        namespace,
        labels,
        image: args.registryImage,
        nodeName: args.nodeName,
        protectData: args.protectData,
      },
      child,
    );
    const database = {
      namespace,
      labels,
      server,
      databaseCaCertificate: args.databaseCaCertificate,
      protectData: args.protectData,
    };
    addPlatformDatabase(this, name, {
      ...database,
      database: CONTROL_PLANE_DATABASE,
      schema: "control_plane",
      connectionLimit: CONTROL_PLANE_CONNECTIONS,
      secretName: "database-app-1",
      ownsByItself: false,
    });
    // Where the standby has it within a second, like all else that a new master needs to know.
    addPlatformDatabase(this, `${name}-state`, {
      ...database,
      database: STATE_DATABASE,
      schema: "state",
      connectionLimit: STATE_CONNECTIONS,
      secretName: "database-state-1",
      ownsByItself: true,
    });
    this.registerOutputs({ namespace: CONTROL_PLANE_NAMESPACE });
  }
}
