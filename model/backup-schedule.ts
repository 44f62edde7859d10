import { createHash } from "node:crypto";
import type { TenantName } from "./tenant-name.ts";

/** First minute of the night's window, in minutes after midnight UTC. */
export const BACKUP_WINDOW_START_MINUTE = 0;
/** Length of the window in minutes. */
export const BACKUP_WINDOW_MINUTES = 360;

/**
 * When a tenant is backed up: once a day, at a minute of the night that its name alone decides, so
 * that tenants spread and a re-created one keeps its time. In cron's words, UTC.
 */
export function backupSchedule(tenant: TenantName): string {
  const hash = createHash("sha256").update(tenant).digest().readUInt32BE(0);
  const minute = BACKUP_WINDOW_START_MINUTE + (hash % BACKUP_WINDOW_MINUTES);
  return `${minute % 60} ${Math.floor(minute / 60)} * * *`;
}
