/** One PostgreSQL server as the resources use it: few connections, short transactions, errors without SQL. */
import { readFile } from "node:fs/promises";
import { isIP } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { ConnectionOptions } from "node:tls";
import pg from "pg";
import { assertEmbeddedEndpoint } from "../endpoint.ts";

export type SslMode = "disable" | "require" | "verify-ca" | "verify-full";

/** The provider's settings, defaults filled in. */
export interface ServerSettings {
  /** An address, a name, or the folder of a unix socket. */
  readonly host: string;
  readonly port: number;
  readonly user: string;
  /** The user that statements run as, where a user name map makes it another. */
  readonly databaseUser: string;
  readonly password: string;
  /** Where everything happens that belongs to no database of its own. */
  readonly database: string;
  readonly sslMode: SslMode;
  /** Path of the authority's certificates, PEM. */
  readonly rootCertificate: string | undefined;
  readonly clientCertificate: { readonly certificate: string; readonly key: string } | undefined;
  /** Whether password hashes may be read. */
  readonly superuser: boolean;
  /** Over all databases; 0: as many as this plugin has use for. */
  readonly maxConnections: number;
  /** 0: waits forever. */
  readonly connectTimeoutSeconds: number;
}

export type Row = { readonly [column: string]: unknown };

/** One connection while it is lent. */
export interface Session {
  /** Rows of one statement with parameters. */
  rows(statement: string, parameters?: readonly unknown[]): Promise<readonly Row[]>;
  /** Runs statements in one round trip. They must not hold anything that is not quoted. */
  run(...statements: readonly string[]): Promise<void>;
}

/** More would only wait for each other: what is written is written under a lock. */
const MOST_CONNECTIONS = 4;
/** A connection that nothing used for so long is closed: an open one keeps its database from being dropped. */
const IDLE_MS = 1_000;
/** How soon the server gives up a statement whose client is gone: a database that is being made must not appear later. */
const CLIENT_CHECK_MS = 500;
const CLIENT_CHECK_VERSION = 140_000;
const MOST_ATTEMPTS = 8;
const FIRST_PAUSE_MS = 25;
/** All plugins that write one server's shared catalogs take this advisory lock: "embedded" as a number. */
const WRITE_LOCK = 0x656d6265;

/** SQLSTATEs of statements that were refused only because another one ran at that time. */
const PASSING: ReadonlySet<string> = new Set([
  "40001", // serialization failure
  "40P01", // deadlock
  "55006", // the template database is in use
  "53300", // too many connections
]);

function isPassing(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = "code" in error ? error.code : undefined;
  return (
    (typeof code === "string" && PASSING.has(code)) ||
    /tuple concurrently (updated|deleted)/.test(error.message)
  );
}

/** The SQLSTATE of a server's error. */
export function sqlState(error: unknown): string | undefined {
  return error instanceof pg.DatabaseError ? error.code : undefined;
}

export const quoteName: (name: string) => string = pg.escapeIdentifier;
export const quoteText: (text: string) => string = pg.escapeLiteral;

/** Names, quoted and joined. */
export function quoteNames(names: readonly string[]): string {
  return names.map(quoteName).join(", ");
}

interface Lent {
  readonly client: pg.Client;
  readonly database: string;
  timer?: NodeJS.Timeout;
  broken: boolean;
}

export class Server {
  readonly settings: ServerSettings;
  readonly #idle: Lent[] = [];
  readonly #waiting: (() => void)[] = [];
  #open = 0;
  #closed = false;
  #superuser: boolean | undefined;
  #tls: Promise<ConnectionOptions | false> | undefined;

  constructor(settings: ServerSettings) {
    this.settings = settings;
  }

  /** Lends a connection to the database. @default the provider's database */
  async session<T>(
    work: (session: Session) => Promise<T>,
    database: string = this.settings.database,
  ): Promise<T> {
    const lent = await this.#lend(database);
    const session: Session = {
      rows: async (statement, parameters = []) =>
        (await lent.client.query({ text: statement, values: [...parameters] })).rows as Row[],
      run: async (...statements) => {
        await lent.client.query(statements.join(";\n"));
      },
    };
    try {
      return await work(session);
    } finally {
      this.#giveBack(lent);
    }
  }

  /**
   * Runs the work in a transaction under a lock that every embedded plugin takes, and again when another client got
   * in between all the same.
   */
  async transaction<T>(
    work: (session: Session) => Promise<T>,
    database: string = this.settings.database,
  ): Promise<T> {
    return this.retried(() =>
      this.session(async (session) => {
        try {
          // A role's own timeout must not end the wait for the lock.
          await session.run(
            "BEGIN",
            "SET LOCAL statement_timeout = 0",
            `SELECT pg_advisory_xact_lock(${WRITE_LOCK})`,
          );
          const result = await work(session);
          await session.run("COMMIT");
          return result;
        } catch (error) {
          // On a lost connection the rollback fails too; what counts is why it was lost.
          await session.run("ROLLBACK").catch(() => {});
          throw error;
        }
      }, database),
    );
  }

  /** Runs the work again as long as it fails for a reason that passes. */
  async retried<T>(work: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await work();
      } catch (error) {
        if (attempt >= MOST_ATTEMPTS || !isPassing(error)) throw error;
        await sleep(FIRST_PAUSE_MS * 2 ** (attempt - 1) * (0.5 + Math.random()));
      }
    }
  }

  /** Whether the connected user is above all rights; asked once. */
  async isSuperuser(session: Session): Promise<boolean> {
    if (this.#superuser === undefined) {
      const [row] = await session.rows(
        "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER",
      );
      this.#superuser = row?.["rolsuper"] === true;
    }
    return this.#superuser;
  }

  /**
   * Runs the work as a member of the roles: an administrator who is no superuser may only then change what is theirs.
   *
   * @param roles asked for only when they are needed.
   */
  async asMemberOf<T>(
    session: Session,
    roles: () => Promise<readonly string[]> | readonly string[],
    work: () => Promise<T>,
  ): Promise<T> {
    if (await this.isSuperuser(session)) return work();
    const rows = await session.rows(
      `SELECT rolname::text AS role FROM pg_catalog.pg_roles
       WHERE rolname = ANY($1) AND NOT rolsuper AND rolname <> CURRENT_USER AND NOT EXISTS (
         SELECT FROM pg_catalog.pg_auth_members
         WHERE roleid = pg_roles.oid AND pg_get_userbyid(member) = CURRENT_USER)`,
      [[...new Set(await roles())]],
    );
    const lacking = rows.map((row) => String(row["role"]));
    if (lacking.length === 0) return work();
    await session.run(`GRANT ${quoteNames(lacking)} TO CURRENT_USER`);
    const result = await work();
    await session.run(`REVOKE ${quoteNames(lacking)} FROM CURRENT_USER`);
    return result;
  }

  /** Closes this plugin's own idle connections to a database that is to be dropped, renamed or copied. */
  async leave(database: string): Promise<void> {
    const there = this.#idle.filter((lent) => lent.database === database);
    await Promise.all(there.map((lent) => this.#end(lent)));
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#idle].map((lent) => this.#end(lent)));
  }

  async #lend(database: string): Promise<Lent> {
    const most = Math.min(this.settings.maxConnections || MOST_CONNECTIONS, MOST_CONNECTIONS);
    for (;;) {
      const at = this.#idle.findLastIndex((lent) => lent.database === database);
      if (at >= 0) {
        const [lent] = this.#idle.splice(at, 1);
        if (lent !== undefined) {
          clearTimeout(lent.timer);
          return lent;
        }
      }
      if (this.#open < most) break;
      const [other] = this.#idle;
      // A connection that idles elsewhere makes room; else the next that is given back does.
      if (other !== undefined) await this.#end(other);
      else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    this.#open += 1;
    try {
      const client = await this.retried(() => this.#connect(database));
      const lent: Lent = { client, database, broken: false };
      const breaks = () => {
        lent.broken = true;
        if (this.#idle.includes(lent)) void this.#end(lent);
      };
      client.on("error", breaks);
      client.on("end", breaks);
      return lent;
    } catch (error) {
      this.#open -= 1;
      this.#waiting.shift()?.();
      throw error;
    }
  }

  #giveBack(lent: Lent): void {
    if (lent.broken || this.#closed) {
      void this.#end(lent);
      return;
    }
    lent.timer = setTimeout(() => void this.#end(lent), IDLE_MS).unref();
    this.#idle.push(lent);
    this.#waiting.shift()?.();
  }

  async #end(lent: Lent): Promise<void> {
    const at = this.#idle.indexOf(lent);
    if (at >= 0) this.#idle.splice(at, 1);
    clearTimeout(lent.timer);
    // A connection that is broken already cannot say goodbye.
    await lent.client.end().catch(() => {});
    this.#open -= 1;
    this.#waiting.shift()?.();
  }

  async #connect(database: string): Promise<pg.Client> {
    const { settings } = this;
    await assertEmbeddedEndpoint("postgresql", settings.host);
    this.#tls ??= tlsOptions(settings);
    const client = new pg.Client({
      host: settings.host,
      port: settings.port,
      user: settings.user,
      password: settings.password,
      database,
      ssl: await this.#tls,
      application_name: "embedded-pulumi-postgresql",
      connectionTimeoutMillis: settings.connectTimeoutSeconds * 1_000,
      keepAlive: true,
    });
    try {
      await client.connect();
      await client.query(
        `SELECT set_config('client_connection_check_interval', '${CLIENT_CHECK_MS}', false)
         WHERE current_setting('server_version_num')::int >= ${CLIENT_CHECK_VERSION}`,
      );
    } catch (error) {
      // Without a listener a late error of the socket would end the process.
      client.on("error", () => {});
      void client.end().catch(() => {});
      if (isPassing(error) || sqlState(error) === "3D000") throw error;
      const said = error instanceof Error ? error.message : String(error);
      throw new Error(
        `Server "${settings.user}@${settings.host}:${settings.port}": it must take a connection to database ` +
          `${database} with sslmode ${settings.sslMode}, got: ${said}. ` +
          `Check that it runs, the user, the password and the certificate.`,
        { cause: error },
      );
    }
    return client;
  }
}

async function tlsOptions(settings: ServerSettings): Promise<ConnectionOptions | false> {
  if (settings.sslMode === "disable" || settings.host.startsWith("/")) return false;
  const read = async (path: string, setting: string): Promise<string> =>
    readFile(path, "utf8").catch((error: unknown) => {
      throw new Error(
        `Provider "postgresql": ${setting} must be a file that can be read, got ${path} ` +
          `(${error instanceof Error ? error.message : String(error)}). Correct the path.`,
        { cause: error },
      );
    });
  const { rootCertificate, clientCertificate } = settings;
  return {
    // "require" encrypts only, unless an authority is named: then it is checked, as libpq does.
    rejectUnauthorized: settings.sslMode !== "require" || rootCertificate !== undefined,
    ...(settings.sslMode === "verify-full" ? {} : { checkServerIdentity: () => undefined }),
    // Node looks for an address among the certificate's names only when it is told one.
    ...(isIP(settings.host) === 0 ? {} : { host: settings.host }),
    ...(rootCertificate === undefined ? {} : { ca: await read(rootCertificate, "sslrootcert") }),
    ...(clientCertificate === undefined
      ? {}
      : { cert: clientCertificate.certificate, key: clientCertificate.key }),
  };
}
