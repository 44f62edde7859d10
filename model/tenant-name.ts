import { Refusal } from "./refusal.ts";

declare const tenantNameBrand: unique symbol;

/** The name of a tenant, parsed by {@link tenantName}: a DNS label that needs no cutting anywhere. */
export type TenantName = string & { readonly [tenantNameBrand]: true };

/** The longest tenant name: with it, each derived name fits its own limit without being cut. */
export const TENANT_NAME_MAX_LENGTH = 40;

/** What a tenant name must be, as errors say it. */
export const TENANT_NAME_RULE = `must be 2 to ${TENANT_NAME_MAX_LENGTH} small letters, digits and single hyphens, start with a letter and end with a letter or digit`;

const PATTERN = /^[a-z][a-z0-9]*(-[a-z0-9]+)*$/;

/** Whether a text is a tenant name. */
export function isTenantName(text: unknown): text is TenantName {
  return (
    typeof text === "string" &&
    text.length >= 2 &&
    text.length <= TENANT_NAME_MAX_LENGTH &&
    PATTERN.test(text)
  );
}

/**
 * The tenant name that a text spells.
 *
 * @throws Refusal `TENANT_NAME` when it spells none.
 */
export function tenantName(text: string): TenantName {
  if (!isTenantName(text)) {
    throw new Refusal(
      "TENANT_NAME",
      `Tenant ${JSON.stringify(text)}: the name ${TENANT_NAME_RULE}, got ${text.length} characters. Choose another name.`,
    );
  }
  return text;
}

/**
 * Every name that a tenant has outside the program.
 *
 * Injective over all tenants and over the four kinds of role: a tenant name holds no underscore, so
 * the prefix up to the first underscore tells the kind and the rest tells the tenant.
 */
export interface TenantNames {
  /** Kubernetes namespace. */
  readonly namespace: string;
  /** PostgreSQL database, and the group role of the same name that `samerole` asks for. */
  readonly database: string;
  /** Role without login that owns the tenant's schema and tables. */
  readonly ownerRole: string;
  /** Login of the application. */
  readonly appRole: string;
  /** Login of the backup job. */
  readonly backupRole: string;
}

/** The names of one tenant in Kubernetes and PostgreSQL. */
export function tenantNames(tenant: TenantName): TenantNames {
  const identifier = tenant.replaceAll("-", "_");
  return {
    namespace: `tenant-${tenant}`,
    database: `tenant_${identifier}`,
    ownerRole: `owner_${identifier}`,
    appRole: `app_${identifier}`,
    backupRole: `backup_${identifier}`,
  };
}

/** The name of the stack that holds one tenant of one fleet: `<fleet>.<tenant>`. */
export function tenantStackName(fleet: string, tenant: TenantName): string {
  return `${fleet}.${tenant}`;
}
