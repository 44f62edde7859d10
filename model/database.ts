/** Role without login or members that owns every tenant's database of one server. */
export const DATABASES_OWNER_ROLE = "fluxbilling_databases";
/** Database of the control plane on the master. */
export const CONTROL_PLANE_DATABASE = "fluxbilling_control_plane";
/** Schema of a tenant's database that holds the application's tables. */
export const APP_SCHEMA = "app";
/** PostgreSQL's name for everyone. */
export const PUBLIC_ROLE = "public";
/** PostgreSQL's own role that reads every table of the databases its members may connect to. */
export const READ_ALL_ROLE = "pg_read_all_data";
/** Role without login that owns the control plane's tables. */
export const CONTROL_PLANE_OWNER_ROLE = "fluxbilling_control_plane_owner";
/** Login of the control plane. */
export const CONTROL_PLANE_APP_ROLE = "fluxbilling_control_plane_app";
/** Login with which a standby copies the master; the one role that may replicate. */
export const REPLICA_ROLE = "fluxbilling_replica";
