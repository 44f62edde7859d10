/** Label of a namespace and of what lies in it: the residency zone. */
export const ZONE_LABEL = "fluxbilling.dev/zone";
/** Label: the location, by its name in the fleet settings. */
export const LOCATION_LABEL = "fluxbilling.dev/location";
/** Label: the tenant, by its name. Only what belongs to one tenant carries it. */
export const TENANT_LABEL = "fluxbilling.dev/tenant";
/** Label: the tenant's plan. */
export const PLAN_LABEL = "fluxbilling.dev/plan";
/** Label: the backup store that holds a tenant's copies. */
export const BACKUP_STORE_LABEL = "fluxbilling.dev/backup-store";
/** Annotation: the contract that allows a zone other than the default. */
export const CONTRACT_ANNOTATION = "fluxbilling.dev/contract";
/** Annotation: the kinds of the tenant's identity providers, by comma; none where it has none. */
export const IDENTITY_ANNOTATION = "fluxbilling.dev/identity";
/** Annotation, `true`: the tenant's application is reached over MQTT. None where it is not. */
export const MQTT_ANNOTATION = "fluxbilling.dev/mqtt";
/** Annotation, `true`: the tenant replays what it has recorded. None where it does not. */
export const REPLAY_ANNOTATION = "fluxbilling.dev/replay";
/** Label of pods and policies: what a pod is for, as `app` or `backup`. */
export const COMPONENT_LABEL = "app.kubernetes.io/component";

/** Prefix of every tenant's namespace. */
export const TENANT_NAMESPACE_PREFIX = "tenant-";
/** Namespace of the control plane on the master. */
export const CONTROL_PLANE_NAMESPACE = "fluxbilling-control-plane";
/** Namespace of each location in which what all its tenants' hosts share runs: the page for suspended ones. */
export const EDGE_NAMESPACE = "fluxbilling-edge";
/** Namespace of a cluster's own services: ingress and DNS run there. */
export const SYSTEM_NAMESPACE = "kube-system";
