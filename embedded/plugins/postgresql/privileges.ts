/** What may be granted on which kind of object, and when two sets of privileges are the same. */

/** By `objectType` of the official plugin. */
export const ALLOWED_PRIVILEGES: { readonly [objectType: string]: readonly string[] } = {
  database: ["CREATE", "CONNECT", "TEMPORARY"],
  table: ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"],
  sequence: ["USAGE", "SELECT", "UPDATE"],
  schema: ["CREATE", "USAGE"],
  function: ["EXECUTE"],
  procedure: ["EXECUTE"],
  routine: ["EXECUTE"],
  type: ["USAGE"],
  foreign_data_wrapper: ["USAGE"],
  foreign_server: ["USAGE"],
  column: ["SELECT", "INSERT", "UPDATE", "REFERENCES"],
};

/**
 * Refuses privileges that the kind of object does not have. They go into statements as they are: no other text may.
 */
export function checkPrivileges(
  subject: string,
  objectType: string,
  privileges: readonly string[],
): void {
  const allowed = ["ALL", ...(ALLOWED_PRIVILEGES[objectType] ?? [])];
  const wrong = privileges.find((privilege) => !allowed.includes(privilege));
  if (wrong !== undefined) {
    throw new Error(
      `${subject}: a privilege on a ${objectType} must be one of ${allowed.join(", ")}, got ${wrong}. ` +
        `Write it in capitals, or choose another objectType.`,
    );
  }
}

/** Whether what is granted is what is wanted; ALL stands for every privilege of the kind. */
export function samePrivileges(
  objectType: string,
  granted: readonly string[],
  wanted: readonly string[],
): boolean {
  const same = (other: readonly string[]) =>
    [...new Set(other)].sort().join() === [...new Set(granted)].sort().join();
  return same(wanted) || (wanted.includes("ALL") && same(ALLOWED_PRIVILEGES[objectType] ?? []));
}
