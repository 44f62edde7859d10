import type { TenantName } from "./tenant-name.ts";

/** Where a backup store keeps the program that takes dumps in. */
export const RECEIVER_PATH = "/usr/local/lib/fluxbilling/receive";

/**
 * The one command that a tenant's backup key runs on the store, whatever it asks for.
 *
 * @param root Folder of all dumps: an absolute path of plain characters.
 * @param keepDays How long the store keeps each dump.
 */
export function receiveCommand(root: string, tenant: TenantName, keepDays: number): string {
  return `${RECEIVER_PATH} -root ${root} -keep-days ${keepDays} -tenant ${tenant}`;
}

/**
 * The one command that a mirror's key runs on a host: read the source of dumps, add dumps to their target,
 * or add images.
 *
 * @param root Folder of all dumps or images: an absolute path of plain characters.
 */
export function mirrorCommand(root: string, side: "source" | "target" | "images"): string {
  return `${RECEIVER_PATH} -root ${root} -mirror ${side}`;
}

/** Folder of the standby that holds the copy of a store. */
export function mirrorPath(storeName: string): string {
  return `/var/lib/fluxbilling/mirror/${storeName}`;
}

/** Where the standby keeps the copy of the image registry, and who brings it. */
export const IMAGES_MIRROR = {
  user: "fluximages",
  path: "/var/lib/fluxbilling/registry",
} as const;

/** What a public backup key looks like: an age recipient, to which dumps are encrypted. */
export const BACKUP_KEY = /^age1[02-9ac-hj-np-z]{58}$/;
