import type { TenantName } from "./tenant-name.ts";

/** Where a backup store keeps the program that takes dumps in. */
export const RECEIVER_PATH = "/usr/local/lib/fluxbilling/receive";

/**
 * The one command that a tenant's backup key runs on the store, whatever it asks for.
 *
 * @param root Folder of all dumps: an absolute path of plain characters.
 */
export function receiveCommand(root: string, tenant: TenantName): string {
  return `${RECEIVER_PATH} -root ${root} -tenant ${tenant}`;
}
