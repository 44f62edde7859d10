import pg from "pg";
import { PUBLIC_ROLE } from "../model/database.ts";
import type { Subject } from "../policies/rule.ts";

/** How a review reaches a PostgreSQL. */
export interface ServerAccess {
  /** Name of the machine, which is the location's or `master`. */
  readonly machine: string;
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  /** Certificate of the authority that signed the server's, PEM. */
  readonly ca: string;
}

/** Type of the subject with a server's own settings and rules of who may come in. */
export const SERVER_TYPE = "live:postgresql:Server";

/** What is in one server, by whom it belongs to: a database's name, or `""` for the whole server. */
export type ServerSubjects = ReadonlyMap<string, readonly Subject[]>;

/** Roles that PostgreSQL or the machine itself brings. */
const OWN_ROLES = /^(pg_.*|postgres|kine)$/;
const SHIPPED = ["postgres", "template0", "template1", "kine"];

interface AclEntry {
  readonly grantee: string;
  readonly privilege: string;
  readonly grantable: boolean;
}

/**
 * Everything of a server that a review looks at, as it is now. Read over TLS with the name checked, in
 * read-only transactions; no row of a tenant is read.
 */
export async function liveServer(access: ServerAccess): Promise<ServerSubjects> {
  const rows = <Row extends pg.QueryResultRow>(
    sql: string,
    database = "postgres",
    values: readonly unknown[] = [],
  ): Promise<readonly Row[]> => query(access, database, sql, values);
  const subject = (type: string, name: string, props: object): Subject => ({
    type,
    name,
    urn: `PostgreSQL of ${access.machine}, ${type.split(":").at(-1) ?? type} ${name}`,
    props,
    provider: { name: `${access.machine}-server` },
    opts: { protect: false, ignoreChanges: [] },
  });

  const settings = await rows<{ name: string; setting: string }>(
    `select name, setting from pg_settings
     where name in ('ssl', 'ssl_min_protocol_version', 'password_encryption', 'data_directory')`,
  );
  const hba = await rows<object>(
    `select line_number, type, database, user_name, address, netmask, auth_method, options
     from pg_hba_file_rules where error is null order by line_number`,
  );
  const roles = await rows<{
    name: string;
    login: boolean;
    superuser: boolean;
    createDatabase: boolean;
    createRole: boolean;
    replication: boolean;
    bypassRowLevelSecurity: boolean;
    connectionLimit: number;
    roles: string[];
    config: string[] | null;
  }>(
    `select r.rolname as name, r.rolcanlogin as login, r.rolsuper as superuser, r.rolcreatedb as "createDatabase",
       r.rolcreaterole as "createRole", r.rolreplication as replication,
       r.rolbypassrls as "bypassRowLevelSecurity", r.rolconnlimit as "connectionLimit",
       array(select g.rolname::text from pg_auth_members m join pg_roles g on g.oid = m.roleid
             where m.member = r.oid order by 1) as roles,
       r.rolconfig as config
     from pg_roles r order by 1`,
  );
  const databases = await rows<{
    name: string;
    owner: string;
    connectionLimit: number;
    acl: AclEntry[];
  }>(
    `select d.datname as name, o.rolname as owner, d.datconnlimit as "connectionLimit",
       ${aclOf("coalesce(d.datacl, acldefault('d', d.datdba))")} as acl
     from pg_database d join pg_roles o on o.oid = d.datdba order by 1`,
  );

  const found = new Map<string, Subject[]>();
  const add = (owner: string, ...subjects: readonly Subject[]): void => {
    found.set(owner, [...(found.get(owner) ?? []), ...subjects]);
  };
  add(
    "",
    subject(SERVER_TYPE, access.machine, {
      settings: Object.fromEntries(settings.map(({ name, setting }) => [name, setting])),
      hba,
    }),
  );
  const named = new Set(databases.map(({ name }) => name));
  for (const { config, ...role } of roles) {
    if (OWN_ROLES.test(role.name) || (role.superuser && role.name === access.user)) {
      continue;
    }
    const props = {
      ...role,
      statementTimeout: milliseconds(config, "statement_timeout"),
      idleInTransactionSessionTimeout: milliseconds(config, "idle_in_transaction_session_timeout"),
    };
    add(ownerOfRole(role, named), subject("postgresql:index/role:Role", role.name, props));
  }
  for (const { name, owner, connectionLimit, acl } of databases) {
    const grants = grantsOf(acl, owner).map(([role, privileges, withGrantOption]) =>
      subject("postgresql:index/grant:Grant", `${role} on database ${name}`, {
        ...{ database: name, role, objectType: "database", privileges, withGrantOption },
      }),
    );
    if (SHIPPED.includes(name)) {
      // The machine's own datastore is no business of the fleet's, and nobody connects to template0.
      add("", ...(["kine", "template0"].includes(name) ? [] : grants));
      continue;
    }
    add(
      name,
      subject("postgresql:index/database:Database", name, { name, owner, connectionLimit }),
      ...grants,
      ...(await schemasOf(name, rows, subject)),
    );
  }
  return found;
}

/** The schemas of a database, who may use them, and what is granted on what will be made in them. */
async function schemasOf(
  database: string,
  rows: <Row extends pg.QueryResultRow>(sql: string, database: string) => Promise<readonly Row[]>,
  subject: (type: string, name: string, props: object) => Subject,
): Promise<readonly Subject[]> {
  const schemas = await rows<{ name: string; owner: string; acl: AclEntry[] }>(
    `select n.nspname as name, o.rolname as owner,
       ${aclOf("coalesce(n.nspacl, acldefault('n', n.nspowner))")} as acl
     from pg_namespace n join pg_roles o on o.oid = n.nspowner
     where n.nspname !~ '^pg_' and n.nspname <> 'information_schema' order by 1`,
    database,
  );
  const defaults = await rows<{
    owner: string;
    schema: string | null;
    objectType: string;
    acl: AclEntry[];
  }>(
    `select o.rolname as owner, n.nspname as schema,
       case d.defaclobjtype when 'r' then 'table' when 'S' then 'sequence' when 'f' then 'function'
         when 'T' then 'type' else 'schema' end as "objectType",
       ${aclOf("d.defaclacl")} as acl
     from pg_default_acl d join pg_roles o on o.oid = d.defaclrole
     left join pg_namespace n on n.oid = d.defaclnamespace order by 1, 2, 3`,
    database,
  );
  return [
    ...schemas.flatMap(({ name, owner, acl }) => [
      // The schema public belongs to whoever owns the database.
      ...(name === "public"
        ? []
        : [
            subject("postgresql:index/schema:Schema", `${database}.${name}`, {
              name,
              database,
              owner,
            }),
          ]),
      ...grantsOf(acl, owner).map(([role, privileges, withGrantOption]) =>
        subject("postgresql:index/grant:Grant", `${role} on schema ${database}.${name}`, {
          ...{ database, role, schema: name, objectType: "schema", privileges, withGrantOption },
        }),
      ),
    ]),
    ...defaults.flatMap(({ owner, schema, objectType, acl }) =>
      grantsOf(acl, owner)
        .filter(([, privileges]) => privileges.length > 0)
        .map(([role, privileges, withGrantOption]) =>
          subject(
            "postgresql:index/defaultPrivileges:DefaultPrivileges",
            `${role} on each ${objectType} of ${database}.${schema ?? "*"}`,
            { database, role, owner, schema, objectType, privileges, withGrantOption },
          ),
        ),
    ),
  ];
}

/** Whom a role belongs to: the database of its name or of a group that it is in, or the whole server. */
function ownerOfRole(
  { name, roles }: { readonly name: string; readonly roles: readonly string[] },
  databases: ReadonlySet<string>,
): string {
  const groups = [name, ...roles].filter((role) => databases.has(role));
  const own = /^(?:owner|app|backup)_(?<tenant>.+)$/.exec(name)?.groups?.["tenant"];
  const [group = own === undefined ? "" : `tenant_${own}`] = groups;
  return databases.has(group) && group.startsWith("tenant_") ? group : "";
}

/** An access list as rows that say who may what. */
function aclOf(expression: string): string {
  return `(select coalesce(json_agg(json_build_object(
      'grantee', coalesce(g.rolname, '${PUBLIC_ROLE}'), 'privilege', a.privilege_type, 'grantable', a.is_grantable)
      order by 1), '[]'::json)
    from aclexplode(${expression}) a left join pg_roles g on g.oid = a.grantee)`;
}

/** What each role but the owner may; PUBLIC is always told, if it is by nothing. */
function grantsOf(
  acl: readonly AclEntry[],
  owner: string,
): readonly (readonly [role: string, privileges: readonly string[], withGrantOption: boolean])[] {
  const by = Map.groupBy(
    acl.filter(({ grantee }) => grantee !== owner),
    ({ grantee }) => grantee,
  );
  if (!by.has(PUBLIC_ROLE)) {
    by.set(PUBLIC_ROLE, []);
  }
  return [...by].map(([role, entries]) => [
    role,
    entries.map(({ privilege }) => privilege).toSorted(),
    entries.some(({ grantable }) => grantable),
  ]);
}

/** A setting of a role in milliseconds; PostgreSQL keeps it as it was written. */
function milliseconds(config: readonly string[] | null, setting: string): number | undefined {
  const text = (config ?? []).find((entry) => entry.startsWith(`${setting}=`))?.split("=")[1];
  const groups = /^(?<number>\d+)(?<unit>ms|s|min)?$/.exec(text ?? "")?.groups;
  const factor = { ms: 1, s: 1_000, min: 60_000 }[groups?.["unit"] ?? "ms"] ?? 1;
  return groups === undefined ? undefined : Number(groups["number"]) * factor;
}

async function query<Row extends pg.QueryResultRow>(
  access: ServerAccess,
  database: string,
  sql: string,
  values: readonly unknown[],
): Promise<readonly Row[]> {
  const client = new pg.Client({
    host: access.host,
    port: access.port,
    user: access.user,
    password: access.password,
    database,
    ssl: { ca: access.ca, minVersion: "TLSv1.3" },
    options: "-c default_transaction_read_only=on",
  });
  await client.connect();
  try {
    return (await client.query<Row>(sql, [...values])).rows;
  } finally {
    await client.end();
  }
}
