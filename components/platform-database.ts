import * as k8s from "@pulumi/kubernetes";
import * as postgresql from "@pulumi/postgresql";
import type * as pulumi from "@pulumi/pulumi";
import * as random from "@pulumi/random";
import { appRoleOf, ownerRoleOf, PUBLIC_ROLE } from "../model/database.ts";
import { CONTROL_PLANE_NAMESPACE } from "../model/labels.ts";
import { NEW_DATABASE, verifierOf } from "./database-parts.ts";

/** What a database of the platform's own needs to know. */
export interface PlatformDatabaseArgs {
  /** Its name; the roles' names follow from it. */
  readonly database: string;
  /** The one schema in it. */
  readonly schema: string;
  readonly connectionLimit: number;
  /**
   * Whether its login may make tables as it is: a program that brings its own does. Otherwise its
   * migrations take the owner's role for it.
   */
  readonly ownsByItself: boolean;
  /** Secret of the control plane's namespace with the login's password. */
  readonly secretName: string;
  readonly namespace: k8s.core.v1.Namespace;
  readonly labels: Readonly<Record<string, string>>;
  /** The server it lies on. */
  readonly server: pulumi.Resource;
  /** Certificate of the authority that signed the server's, PEM. */
  readonly databaseCaCertificate: string;
  /** Whether it refuses to be deleted. */
  readonly protectData: boolean;
}

/**
 * Adds a database of the platform's own to the master: one schema, an owner without login, one login.
 *
 * Holds: nobody else connects; the server knows the login's SCRAM verifier, and the password exists in
 * clear in one Secret of the control plane's namespace.
 */
export function addPlatformDatabase(
  master: pulumi.ComponentResource,
  name: string,
  args: PlatformDatabaseArgs,
): void {
  const { database, connectionLimit } = args;
  const child = { parent: master };
  const [ownerRole, appRole] = [ownerRoleOf(database), appRoleOf(database)];
  const password = new random.RandomPassword(
    `${name}-password`,
    { length: 32, special: false },
    child,
  );
  const group = new postgresql.Role(`${name}-group`, { name: database, login: false }, child);
  const owner = new postgresql.Role(`${name}-owner`, { name: ownerRole, login: false }, child);
  const app = new postgresql.Role(
    `${name}-app`,
    {
      name: appRole,
      login: true,
      inherit: args.ownsByItself,
      roles: [database, ownerRole],
      password: verifierOf(password.result, appRole),
      connectionLimit,
      ...(args.ownsByItself ? { searchPaths: [args.schema] } : {}),
    },
    { ...child, dependsOn: [group, owner] },
  );
  const made = new postgresql.Database(
    `${name}-database`,
    {
      name: database,
      ...NEW_DATABASE,
      connectionLimit,
    },
    {
      ...child,
      dependsOn: [args.server, group, owner, app],
      // What the platform knows of its tenants: only an operation that says so may delete it.
      protect: args.protectData,
    },
  );
  // What lies in the database goes with it.
  const inside = { ...child, deletedWith: made };
  const shut = new postgresql.Grant(
    `${name}-no-public`,
    { database, role: PUBLIC_ROLE, objectType: "database", privileges: [] },
    { ...inside, dependsOn: [made] },
  );
  new postgresql.Grant(
    `${name}-no-public-schema`,
    { database, role: PUBLIC_ROLE, schema: "public", objectType: "schema", privileges: [] },
    { ...inside, dependsOn: [shut] },
  );
  const connect = new postgresql.Grant(
    `${name}-app-connect`,
    { database, role: appRole, objectType: "database", privileges: ["CONNECT"] },
    { ...inside, dependsOn: [shut] },
  );
  new postgresql.Schema(
    `${name}-schema`,
    { name: args.schema, database, owner: ownerRole },
    { ...inside, dependsOn: [connect] },
  );
  new k8s.core.v1.Secret(
    `${name}-database-secret`,
    {
      metadata: { name: args.secretName, namespace: CONTROL_PLANE_NAMESPACE, labels: args.labels },
      immutable: true,
      stringData: { password: password.result, "ca.crt": args.databaseCaCertificate },
    },
    // Deleted by itself: immutable, it must be gone before its password is.
    { ...child, dependsOn: [args.namespace] },
  );
}
