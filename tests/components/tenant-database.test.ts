import { beforeAll, describe, expect, it } from "vitest";
import { scramSalt, scramVerifier } from "../../model/scram.ts";
import { deriveSecret } from "../../model/tenant-secret.ts";
import { at, inputsOf } from "../support/construct.ts";
import type { Registered } from "../support/construct.ts";
import { tenantResources } from "../support/good.ts";

const ROLE = "postgresql:index/role:Role";
const GRANT = "postgresql:index/grant:Grant";

const APP_PASSWORD = deriveSecret("password-of-acme-seed-1", "database-app");
const BACKUP_PASSWORD = deriveSecret("password-of-acme-seed-1", "database-backup");

describe("TenantDatabase", () => {
  let resources: readonly Registered[];
  beforeAll(async () => {
    resources = await tenantResources();
  });

  it("has a group for samerole, an owner of tables, and two logins with no more than they need", () => {
    expect(inputsOf(resources, ROLE)).toEqual({
      "acme-database-group": { name: "tenant_acme", login: false },
      "acme-database-owner": { name: "owner_acme", login: false },
      "acme-database-app": {
        name: "app_acme",
        login: true,
        inherit: false,
        roles: ["tenant_acme", "owner_acme"],
        password: scramVerifier(APP_PASSWORD, scramSalt("app_acme")),
        connectionLimit: 10,
        statementTimeout: 15_000,
        idleInTransactionSessionTimeout: 30_000,
        searchPaths: ["app"],
      },
      "acme-database-backup": {
        name: "backup_acme",
        login: true,
        roles: ["tenant_acme", "pg_read_all_data"],
        bypassRowLevelSecurity: true,
        password: scramVerifier(BACKUP_PASSWORD, scramSalt("backup_acme")),
        connectionLimit: 2,
      },
    });
  });

  it("has a database that the platform owns", () => {
    expect(inputsOf(resources, "postgresql:index/database:Database")).toEqual({
      "acme-database-database": {
        name: "tenant_acme",
        owner: "fluxbilling_databases",
        template: "template0",
        encoding: "UTF8",
        lcCollate: "C.UTF-8",
        lcCtype: "C.UTF-8",
        connectionLimit: 12,
      },
    });
  });

  it("lets its own two logins connect and nobody else", () => {
    expect(inputsOf(resources, GRANT)).toEqual({
      "acme-database-no-public": {
        database: "tenant_acme",
        role: "public",
        objectType: "database",
        privileges: [],
      },
      "acme-database-no-public-schema": {
        database: "tenant_acme",
        role: "public",
        objectType: "schema",
        schema: "public",
        privileges: [],
      },
      "acme-database-app-connect": {
        database: "tenant_acme",
        role: "app_acme",
        objectType: "database",
        privileges: ["CONNECT"],
      },
      "acme-database-backup-connect": {
        database: "tenant_acme",
        role: "backup_acme",
        objectType: "database",
        privileges: ["CONNECT"],
      },
      "acme-database-app-usage": {
        database: "tenant_acme",
        role: "app_acme",
        objectType: "schema",
        schema: "app",
        privileges: ["USAGE"],
      },
    });
  });

  it("gives the application rows and sequences of the owner's tables, not the tables", () => {
    const type = "postgresql:index/defaultPrivileges:DefaultPrivileges";
    const common = {
      database: "tenant_acme",
      schema: "app",
      owner: "owner_acme",
      role: "app_acme",
    };
    expect(inputsOf(resources, type)).toEqual({
      "acme-database-app-tables": {
        ...common,
        objectType: "table",
        privileges: ["SELECT", "INSERT", "UPDATE", "DELETE"],
      },
      "acme-database-app-sequences": {
        ...common,
        objectType: "sequence",
        privileges: ["SELECT", "USAGE"],
      },
    });
  });

  it("keeps the clear password in one immutable Secret of the namespace and nowhere else", () => {
    const clear = APP_PASSWORD;
    const holders = resources
      .filter(({ type }) => type.startsWith("kubernetes:") || type.startsWith("postgresql:"))
      .filter(({ inputs }) => JSON.stringify(inputs).includes(clear));
    expect(holders.map(({ inputs }) => inputs)).toEqual([
      {
        apiVersion: "v1",
        kind: "Secret",
        metadata: {
          name: "database-app-seed-1",
          namespace: "tenant-acme",
          labels: {
            "fluxbilling.dev/tenant": "acme",
            "fluxbilling.dev/zone": "eu",
            "fluxbilling.dev/location": "nl-1",
          },
        },
        immutable: true,
        stringData: { password: clear, "ca.crt": "public ca.crt" },
      },
    ]);
  });

  it("mints new passwords with a new generation, under new Secret names", async () => {
    const rotated = await tenantResources({ secretGeneration: 2 });
    const secrets = Object.values(inputsOf(rotated, "kubernetes:core/v1:Secret")).map((secret) =>
      at(secret, "metadata.name"),
    );
    expect(secrets.toSorted()).toEqual([
      "contract-seed-2",
      "database-app-seed-2",
      "database-backup-seed-2",
      "keys-1-1",
      "store-2",
    ]);
    expect(at(inputsOf(rotated, ROLE)["acme-database-app"], "password")).toBe(
      scramVerifier(deriveSecret("password-of-acme-seed-2", "database-app"), scramSalt("app_acme")),
    );
  });
});
