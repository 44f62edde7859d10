/**
 * The turn of a process that was started before anybody needed it: it has loaded all it is made of, and waits to be told
 * what to be. See `warm/pool.ts`.
 */

/** What a waiting process is told, by message. */
export interface Turn {
  /** As they would stand behind `node <script>`. */
  readonly arguments: readonly string[];
  readonly environment: { readonly [name: string]: string };
  readonly folder: string;
}

/** Set in the environment of a process that is to wait. */
export const WAITS_VARIABLE = "FLUX_WAITS";

/**
 * Waits for this process's turn and makes it what it is told to be: arguments, environment, folder. Returns at once in a
 * process that was started when it was needed. A process whose turn never comes ends with the one that would tell it.
 */
export async function turn(): Promise<void> {
  if (process.env[WAITS_VARIABLE] === undefined) return;
  const told = await new Promise<Turn>((resolve) => {
    process.once("message", resolve);
    process.once("disconnect", () => process.exit(0));
    process.send?.("waits");
  });
  process.removeAllListeners("disconnect");
  process.disconnect();
  for (const name of Object.keys(process.env)) {
    if (told.environment[name] === undefined) Reflect.deleteProperty(process.env, name);
  }
  Object.assign(process.env, told.environment);
  process.argv = [...process.argv.slice(0, 2), ...told.arguments];
  process.chdir(told.folder);
}
