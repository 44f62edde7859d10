/** The embedded stand-in for the official postgresql plugin. */
import { BridgedProvider } from "../bridged.ts";
import { assertEmbeddedEndpoint } from "../endpoint.ts";
import type { CheckFailure, Properties, Value } from "../provider.ts";
import { isObject, isUnknown } from "../values.ts";
import { databaseResource } from "./database.ts";
import { defaultPrivilegesResource } from "./default-privileges.ts";
import { extensionResource } from "./extension.ts";
import { grantRoleResource } from "./grant-role.ts";
import { grantResource } from "./grant.ts";
import { roleResource } from "./role.ts";
import { schemaResource } from "./schema.ts";
import { Server } from "./server.ts";
import type { ServerSettings, SslMode } from "./server.ts";

/** The release of the official plugin whose answers this one gives. */
const VERSION = "3.18.0";

const SSL_MODES: readonly SslMode[] = ["disable", "require", "verify-ca", "verify-full"];
const DEFAULT_PORT = 5432;
const DEFAULT_CONNECT_TIMEOUT_SECONDS = 180;

/** Ways to sign in at a cloud: an embedded machine is in none. */
const NOT_EMBEDDED = [
  "awsRdsIamAuth",
  "awsRdsIamProfile",
  "awsRdsIamProviderRoleArn",
  "awsRdsIamRegion",
  "azureIdentityAuth",
  "azureTenantId",
  "gcpIamImpersonateServiceAccount",
] as const;

function text(settings: Properties, name: string, variable?: string): string {
  const value = settings[name];
  if (typeof value === "string" && value !== "") return value;
  return (variable === undefined ? undefined : process.env[variable]) ?? "";
}

/** A number, which the program's SDK sends as text. */
function number(settings: Properties, name: string, otherwise: number, variable?: string): number {
  const given = text(settings, name, variable);
  return given === "" ? otherwise : Number(given);
}

function check(settings: Properties): readonly CheckFailure[] {
  const failures: CheckFailure[] = [];
  const fail = (property: string, reason: string) => failures.push({ property, reason });
  for (const property of NOT_EMBEDDED) {
    const value = settings[property] ?? "false";
    if (value !== "false") {
      fail(property, `${property} is not in the embedded plugin. Use username and password.`);
    }
  }
  const scheme = text(settings, "scheme");
  if (scheme !== "" && scheme !== "postgres" && !isUnknown(scheme)) {
    fail("scheme", `expected scheme to be postgres with the embedded plugin, got ${scheme}`);
  }
  for (const property of ["sslmode", "sslMode"]) {
    const mode = text(settings, property);
    if (mode !== "" && !isUnknown(mode) && !(SSL_MODES as readonly string[]).includes(mode)) {
      fail(property, `expected ${property} to be one of ${SSL_MODES.join(", ")}, got ${mode}`);
    }
  }
  for (const property of ["port", "connectTimeout", "maxConnections"]) {
    const value = text(settings, property);
    if (value !== "" && !isUnknown(value) && !/^\d+$/.test(value)) {
      fail(property, `expected ${property} to be a whole number from 0 on, got ${value}`);
    }
  }
  return failures;
}

function clientCertificate(settings: Properties): ServerSettings["clientCertificate"] {
  const given = text(settings, "clientcert");
  if (given === "") return undefined;
  const parsed = JSON.parse(given) as Value;
  const { cert, key, sslinline } = isObject(parsed) ? parsed : {};
  if (typeof cert !== "string" || typeof key !== "string" || sslinline !== true) {
    throw new Error(
      `Provider "postgresql": clientcert must hold cert and key as PEM with sslinline true, got something else. ` +
        `Read the files in the program.`,
    );
  }
  return { certificate: cert, key };
}

function serverSettings(settings: Properties): ServerSettings {
  const user = text(settings, "username", "PGUSER") || "postgres";
  const rootCertificate = text(settings, "sslrootcert", "PGSSLROOTCERT");
  const sslMode =
    text(settings, "sslmode") || text(settings, "sslMode") || text({}, "sslmode", "PGSSLMODE");
  return {
    host: text(settings, "host", "PGHOST"),
    port: number(settings, "port", DEFAULT_PORT, "PGPORT"),
    user,
    databaseUser: text(settings, "databaseUsername") || user,
    password: text(settings, "password", "PGPASSWORD"),
    database: text(settings, "database") || "postgres",
    sslMode: SSL_MODES.find((mode) => mode === sslMode) ?? "require",
    rootCertificate: rootCertificate === "" ? undefined : rootCertificate,
    clientCertificate: clientCertificate(settings),
    superuser: text(settings, "superuser") !== "false",
    maxConnections: number(settings, "maxConnections", 0),
    connectTimeoutSeconds: number(
      settings,
      "connectTimeout",
      DEFAULT_CONNECT_TIMEOUT_SECONDS,
      "PGCONNECT_TIMEOUT",
    ),
  };
}

/** The provider plugin `postgresql`. */
export function postgresqlProvider(): BridgedProvider {
  let server: Server | undefined;
  const getServer = (): Server => {
    if (server !== undefined) return server;
    throw new Error(
      'Provider "postgresql": its settings must be known before it is used, got none. ' +
        "Give host, username and password as values that do not wait for another resource.",
    );
  };
  return new BridgedProvider({
    name: "postgresql",
    version: VERSION,
    flavour: "sdk",
    secretSettings: ["password"],
    checkSettings: check,
    async configure(settings) {
      await server?.close();
      server = undefined;
      // At a first preview the server itself may still be to be made.
      if (Object.values(settings).some((value) => isUnknown(value))) return;
      const known = serverSettings(settings);
      await assertEmbeddedEndpoint("postgresql", known.host);
      server = new Server(known);
    },
    async close() {
      await server?.close();
    },
    resources: {
      "postgresql:index/role:Role": roleResource(getServer),
      "postgresql:index/database:Database": databaseResource(getServer),
      "postgresql:index/schema:Schema": schemaResource(getServer),
      "postgresql:index/extension:Extension": extensionResource(getServer),
      "postgresql:index/grant:Grant": grantResource(getServer),
      "postgresql:index/grantRole:GrantRole": grantRoleResource(getServer),
      "postgresql:index/defaultPrivileges:DefaultPrivileges": defaultPrivilegesResource(getServer),
    },
  });
}
