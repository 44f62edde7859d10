import * as k8s from "@pulumi/kubernetes";
import * as postgresql from "@pulumi/postgresql";
import * as pulumi from "@pulumi/pulumi";
import { APP_SCHEMA, PUBLIC_ROLE, READ_ALL_ROLE } from "../model/database.ts";
import { BACKUP_CONNECTIONS, PLANS } from "../model/plan.ts";
import type { PlanName } from "../model/plan.ts";
import { tenantNames } from "../model/tenant-name.ts";
import type { TenantName } from "../model/tenant-name.ts";
import { NEW_DATABASE, verifierOf } from "./database-parts.ts";
import type { TenantSecrets } from "./tenant-secrets.ts";

/** What a tenant's database needs to know. */
export interface TenantDatabaseArgs {
  readonly tenant: TenantName;
  /** Sets connections and timeouts. */
  readonly plan: PlanName;
  /** Namespace that receives the two Secrets with passwords. */
  readonly namespace: k8s.core.v1.Namespace;
  /** Labels of every object in the namespace. */
  readonly labels: Readonly<Record<string, string>>;
  /** Certificate of the authority that signed the server's, PEM. */
  readonly caCertificate: string;
  readonly secrets: TenantSecrets;
  /** Raise by one to mint new passwords. */
  readonly secretGeneration: number;
  /** Whether the database refuses to be deleted. */
  readonly protectData: boolean;
}

/**
 * A database that only its own tenant's roles can enter.
 *
 * Holds: nobody but the platform owns the database, so a tenant cannot grant itself or others in;
 * the application's role is a member of the group that `samerole` asks for and may take on the
 * tables' owner, without inheriting from it; the backup role reads everything here and nothing
 * elsewhere; the server learns passwords as SCRAM verifiers only.
 */
export class TenantDatabase extends pulumi.ComponentResource {
  /** Name of the Secret with the application's `password` and the server's `ca.crt`. */
  public readonly appSecretName: string;
  /** Name of the Secret with the backup role's `password` and the server's `ca.crt`. */
  public readonly backupSecretName: string;
  /**
   * What must be there before a pod of the application starts: the Secret that it mounts, and a database that is shut.
   * The pod may then start while the rest is made, since its role is let in last.
   */
  public readonly beforeApp: readonly pulumi.Resource[];

  constructor(name: string, args: TenantDatabaseArgs, opts?: pulumi.ComponentResourceOptions) {
    super("fluxbilling:tenant:TenantDatabase", name, {}, opts);
    const child = { parent: this };
    const plan = PLANS[args.plan];
    const { namespace, database, ownerRole, appRole, backupRole } = tenantNames(args.tenant);

    const appPassword = args.secrets.of("database-app", args.secretGeneration);
    const backupPassword = args.secrets.of("database-backup", args.secretGeneration);

    const group = new postgresql.Role(`${name}-group`, { name: database, login: false }, child);
    const owner = new postgresql.Role(`${name}-owner`, { name: ownerRole, login: false }, child);
    const app = new postgresql.Role(
      `${name}-app`,
      {
        name: appRole,
        login: true,
        // Without inheritance the owner's rights come only by SET ROLE, which migrations do.
        inherit: false,
        // Memberships stand here and not in a GrantRole: any update of the Role revokes others.
        roles: [database, ownerRole],
        password: verifierOf(appPassword, appRole),
        connectionLimit: plan.databaseConnections,
        statementTimeout: plan.statementTimeoutMs,
        idleInTransactionSessionTimeout: plan.idleTransactionTimeoutMs,
        searchPaths: [APP_SCHEMA],
      },
      { ...child, dependsOn: [group, owner] },
    );
    const backup = new postgresql.Role(
      `${name}-backup`,
      {
        name: backupRole,
        login: true,
        roles: [database, READ_ALL_ROLE],
        // pg_dump stops at a table with row security unless its role is above it.
        bypassRowLevelSecurity: true,
        password: verifierOf(backupPassword, backupRole),
        connectionLimit: BACKUP_CONNECTIONS,
      },
      { ...child, dependsOn: [group] },
    );

    const tenantDatabase = new postgresql.Database(
      `${name}-database`,
      {
        name: database,
        ...NEW_DATABASE,
        connectionLimit: plan.databaseConnections + BACKUP_CONNECTIONS,
      },
      {
        ...child,
        // Roles go last when a tenant is deleted: a role that owns tables cannot be dropped.
        dependsOn: [group, owner, app, backup],
        // The tenant's rows: only an operation that says so may delete them.
        protect: args.protectData,
      },
    );
    // What lies in the database goes with it: a schema with tables in it cannot be dropped by itself.
    const inside = { ...child, deletedWith: tenantDatabase };
    // One after the other where they write the same row: two grants at once on one database can fail
    // with "tuple concurrently updated".
    const shut = new postgresql.Grant(
      `${name}-no-public`,
      { database, role: PUBLIC_ROLE, objectType: "database", privileges: [] },
      { ...inside, dependsOn: [tenantDatabase] },
    );
    const backupConnect = new postgresql.Grant(
      `${name}-backup-connect`,
      { database, role: backupRole, objectType: "database", privileges: ["CONNECT"] },
      { ...inside, dependsOn: [shut] },
    );
    new postgresql.Grant(
      `${name}-no-public-schema`,
      { database, role: PUBLIC_ROLE, schema: "public", objectType: "schema", privileges: [] },
      { ...inside, dependsOn: [tenantDatabase] },
    );
    const schema = new postgresql.Schema(
      `${name}-schema`,
      { name: APP_SCHEMA, database, owner: ownerRole },
      { ...inside, dependsOn: [tenantDatabase] },
    );
    const usage = new postgresql.Grant(
      `${name}-app-usage`,
      { database, role: appRole, schema: APP_SCHEMA, objectType: "schema", privileges: ["USAGE"] },
      { ...inside, dependsOn: [schema] },
    );
    const tables = new postgresql.DefaultPrivileges(
      `${name}-app-tables`,
      {
        database,
        role: appRole,
        owner: ownerRole,
        schema: APP_SCHEMA,
        objectType: "table",
        privileges: ["SELECT", "INSERT", "UPDATE", "DELETE"],
      },
      { ...inside, dependsOn: [usage] },
    );
    const sequences = new postgresql.DefaultPrivileges(
      `${name}-app-sequences`,
      {
        database,
        role: appRole,
        owner: ownerRole,
        schema: APP_SCHEMA,
        objectType: "sequence",
        privileges: ["SELECT", "USAGE"],
      },
      { ...inside, dependsOn: [tables] },
    );
    // Last: tables made before the default privileges are set would stay closed to the application for ever.
    new postgresql.Grant(
      `${name}-app-connect`,
      { database, role: appRole, objectType: "database", privileges: ["CONNECT"] },
      { ...inside, dependsOn: [backupConnect, sequences] },
    );

    // The generation is in the name, so that new passwords roll the pods that mount them.
    this.appSecretName = `database-app-seed-${args.secretGeneration}`;
    this.backupSecretName = `database-backup-seed-${args.secretGeneration}`;
    const secret = (
      role: string,
      secretName: string,
      password: pulumi.Output<string>,
    ): k8s.core.v1.Secret =>
      new k8s.core.v1.Secret(
        `${name}-${role}-secret`,
        {
          metadata: { name: secretName, namespace, labels: args.labels },
          immutable: true,
          stringData: { password, "ca.crt": args.caCertificate },
        },
        // Deleted by itself, unlike what lies beside it: immutable, it must be gone before its password is.
        { ...child, dependsOn: [args.namespace] },
      );
    const appSecret = secret("app", this.appSecretName, appPassword);
    secret("backup", this.backupSecretName, backupPassword);
    this.beforeApp = [appSecret, shut];
    this.registerOutputs({ database });
  }
}
