import * as k8s from "@pulumi/kubernetes";
import * as postgresql from "@pulumi/postgresql";
import * as pulumi from "@pulumi/pulumi";
import * as random from "@pulumi/random";
import {
  CONTROL_PLANE_APP_ROLE,
  CONTROL_PLANE_DATABASE,
  CONTROL_PLANE_OWNER_ROLE,
  DATABASES_OWNER_ROLE,
  PUBLIC_ROLE,
} from "../model/database.ts";
import { CONTROL_PLANE_NAMESPACE, LOCATION_LABEL, ZONE_LABEL } from "../model/labels.ts";
import { POD_SECURITY_LABELS } from "../model/pod.ts";
import { scramSalt, scramVerifier } from "../model/scram.ts";
import type { CertificateSettings } from "../model/settings.ts";
import type { Zone } from "../model/zone.ts";
import { ClusterEdge } from "./cluster-edge.ts";
import { ControlPlaneIngress } from "./control-plane-ingress.ts";
import { DatabaseServer } from "./database-server.ts";
import type { FleetAuthority } from "./fleet-authority.ts";
import { Registry } from "./registry.ts";
import { SystemNetwork } from "./system-network.ts";

/** What the master needs to know. */
export interface MasterArgs {
  readonly zone: Zone;
  /** Two letters. */
  readonly country: string;
  /** Address of the machine, and the port of its API server. */
  readonly machineAddress: string;
  readonly apiPort: number;
  /** Domain of the operator and customer panels. */
  readonly panelDomain: string;
  /** How the panels' hosts come by their certificate. */
  readonly certificates: CertificateSettings;
  /** The image registry's own image, by digest. */
  readonly registryImage: string;
  /** Class of the volume that holds images. */
  readonly storageClass: string;
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

/**
 * The control plane's home: a namespace that is shut both ways, a database of its own, the image registry,
 * and the way in to registry and panels.
 *
 * Give it the master's providers with `opts.providers`. Holds: what {@link ClusterEdge},
 * {@link SystemNetwork} and {@link DatabaseServer} hold; the control plane's password exists in clear in one Secret of its
 * namespace and nowhere else.
 */
export class Master extends pulumi.ComponentResource {
  /** The control plane's namespace. */
  public readonly namespace: k8s.core.v1.Namespace;
  /** Labels of everything on the master. */
  public readonly labels: Readonly<Record<string, string>>;

  constructor(name: string, args: MasterArgs, opts?: pulumi.ComponentResourceOptions) {
    super(
      "fluxbilling:fleet:Master",
      name,
      {
        zone: args.zone,
        country: args.country,
        protectData: args.protectData,
        imageRegistries: args.imageRegistries,
      },
      opts,
    );
    const child = { parent: this };
    const labels = { [LOCATION_LABEL]: "master", [ZONE_LABEL]: args.zone };
    this.labels = labels;
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
        storageClass: args.storageClass,
        protectData: args.protectData,
      },
      child,
    );
    const password = new random.RandomPassword(
      `${name}-password`,
      { length: 32, special: false },
      child,
    );
    this.#database(name, args, server, password);
    new k8s.core.v1.Secret(
      `${name}-database-secret`,
      {
        metadata: { name: "database-app-1", namespace: CONTROL_PLANE_NAMESPACE, labels },
        immutable: true,
        stringData: { password: password.result, "ca.crt": args.databaseCaCertificate },
      },
      // Deleted by itself: immutable, it must be gone before its password is.
      { ...child, dependsOn: [namespace] },
    );
    this.registerOutputs({ namespace: CONTROL_PLANE_NAMESPACE });
  }

  #database(
    name: string,
    args: MasterArgs,
    server: DatabaseServer,
    password: random.RandomPassword,
  ): void {
    const child = { parent: this };
    const role = (
      kind: string,
      inputs: postgresql.RoleArgs,
      dependsOn: pulumi.Resource[],
    ): postgresql.Role => new postgresql.Role(`${name}-${kind}`, inputs, { ...child, dependsOn });
    const group = role("group", { name: CONTROL_PLANE_DATABASE, login: false }, []);
    const owner = role("owner", { name: CONTROL_PLANE_OWNER_ROLE, login: false }, []);
    const app = role(
      "app",
      {
        name: CONTROL_PLANE_APP_ROLE,
        login: true,
        inherit: false,
        roles: [CONTROL_PLANE_DATABASE, CONTROL_PLANE_OWNER_ROLE],
        password: pulumi.secret(
          password.result.apply((text) => scramVerifier(text, scramSalt(CONTROL_PLANE_APP_ROLE))),
        ),
        connectionLimit: CONTROL_PLANE_CONNECTIONS,
      },
      [group, owner],
    );
    const database = new postgresql.Database(
      `${name}-database`,
      {
        name: CONTROL_PLANE_DATABASE,
        owner: DATABASES_OWNER_ROLE,
        template: "template0",
        encoding: "UTF8",
        lcCollate: "C.UTF-8",
        lcCtype: "C.UTF-8",
        connectionLimit: CONTROL_PLANE_CONNECTIONS,
      },
      {
        ...child,
        dependsOn: [server, group, owner, app],
        // Every tenant's placement and history: only an operation that says so may delete it.
        protect: args.protectData,
      },
    );
    // What lies in the database goes with it.
    const inside = { ...child, deletedWith: database };
    const shut = new postgresql.Grant(
      `${name}-no-public`,
      {
        database: CONTROL_PLANE_DATABASE,
        role: PUBLIC_ROLE,
        objectType: "database",
        privileges: [],
      },
      { ...inside, dependsOn: [database] },
    );
    new postgresql.Grant(
      `${name}-no-public-schema`,
      {
        database: CONTROL_PLANE_DATABASE,
        role: PUBLIC_ROLE,
        schema: "public",
        objectType: "schema",
        privileges: [],
      },
      { ...inside, dependsOn: [shut] },
    );
    const connect = new postgresql.Grant(
      `${name}-app-connect`,
      {
        database: CONTROL_PLANE_DATABASE,
        role: CONTROL_PLANE_APP_ROLE,
        objectType: "database",
        privileges: ["CONNECT"],
      },
      { ...inside, dependsOn: [shut] },
    );
    new postgresql.Schema(
      `${name}-schema`,
      { name: "control_plane", database: CONTROL_PLANE_DATABASE, owner: CONTROL_PLANE_OWNER_ROLE },
      { ...inside, dependsOn: [connect] },
    );
  }
}
