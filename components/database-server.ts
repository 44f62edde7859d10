import * as postgresql from "@pulumi/postgresql";
import * as pulumi from "@pulumi/pulumi";
import { DATABASES_OWNER_ROLE, PUBLIC_ROLE } from "../model/database.ts";

/** Databases that come with every server and that nobody but administrators needs. */
const SHIPPED_DATABASES = ["postgres", "template1"] as const;

/**
 * What holds for one whole PostgreSQL server that tenants share.
 *
 * Holds: nobody connects to a database without a grant of his own, the shipped ones included; the
 * tenants' databases have an owner that nobody can log in as or take on. TLS 1.3, SCRAM and the
 * `samerole` rule are the server's own configuration.
 */
export class DatabaseServer extends pulumi.ComponentResource {
  constructor(name: string, opts?: pulumi.ComponentResourceOptions) {
    super("fluxbilling:fleet:DatabaseServer", name, {}, opts);
    const child = { parent: this };
    new postgresql.Role(
      `${name}-databases-owner`,
      { name: DATABASES_OWNER_ROLE, login: false },
      child,
    );
    // One after the other: grants lock the role they are about, here the same one.
    let before: pulumi.Resource[] = [];
    for (const database of SHIPPED_DATABASES) {
      before = [
        new postgresql.Grant(
          `${name}-no-public-${database}`,
          { database, role: PUBLIC_ROLE, objectType: "database", privileges: [] },
          { ...child, dependsOn: before },
        ),
      ];
    }
    this.registerOutputs({});
  }
}
