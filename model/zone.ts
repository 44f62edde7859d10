/** The residency zones: a tenant's data, its location and its backups lie in one of them. */
export const ZONES = ["eu", "us", "apac"] as const;

/** One of {@link ZONES}. */
export type Zone = (typeof ZONES)[number];

/** The zone of a tenant that names none. */
export const DEFAULT_ZONE: Zone = "eu";

/** Whether a text names a residency zone. */
export function isZone(text: unknown): text is Zone {
  return ZONES.some((zone) => zone === text);
}

/** Whether a tenant may live in a zone only with a contract that says so: every zone but the EU. */
export function needsContract(zone: Zone): boolean {
  return zone !== DEFAULT_ZONE;
}
