/** Role without login or members that owns every tenant's database of one server. */
export const DATABASES_OWNER_ROLE = "fluxbilling_databases";
/** Database of the control plane on the master. */
export const CONTROL_PLANE_DATABASE = "fluxbilling_control_plane";
/** Database on the master that holds the state of all stacks. */
export const STATE_DATABASE = "fluxbilling_state";
/** Schema of a tenant's database that holds the application's tables. */
export const APP_SCHEMA = "app";
/** PostgreSQL's name for everyone. */
export const PUBLIC_ROLE = "public";
/** PostgreSQL's own role that reads every table of the databases its members may connect to. */
export const READ_ALL_ROLE = "pg_read_all_data";
/** Role without login that owns what lies in a database of the platform's own. */
export function ownerRoleOf(database: string): string {
  return `${database}_owner`;
}
/** Login of the program that uses a database of the platform's own. */
export function appRoleOf(database: string): string {
  return `${database}_app`;
}
/** Login with which a standby copies the master; the one role that may replicate. */
export const REPLICA_ROLE = "fluxbilling_replica";
