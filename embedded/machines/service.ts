import { chmod, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

/** A program that a machine keeps running. */
export interface Service {
  readonly name: string;
  /** Shell lines; the last one must `exec` the program in the foreground. */
  readonly run: string;
  /** The signal that asks it to end. @default "SIGTERM" */
  readonly stopSignal?: "SIGTERM" | "SIGINT";
  /**
   * Milliseconds that it gets to end before it is ended by force. @default 1000, for whatever keeps
   * nothing that a sudden end could spoil
   */
  readonly stopWithinMs?: number;
}

/** Every service's log is kept in this many files of this many bytes. */
const LOG_FILES = 3;
const LOG_BYTES = 4_000_000;

/** The files of an s6 service directory, by their path below the folder of all services. */
export function serviceFiles(service: Service): Readonly<Record<string, string>> {
  const { name, run, stopSignal, stopWithinMs } = service;
  return {
    [`${name}/run`]: `#!/bin/bash\nexec 2>&1\nset -eu\n${run}\n`,
    [`${name}/timeout-kill`]: `${String(stopWithinMs ?? 1000)}\n`,
    ...(stopSignal === undefined ? {} : { [`${name}/down-signal`]: `${stopSignal}\n` }),
    [`${name}/log/run`]: `#!/bin/sh
exec s6-log n${String(LOG_FILES)} s${String(LOG_BYTES)} T /var/log/fluxbilling/${name}
`,
  };
}

/** Writes s6 service directories into a folder. */
export async function writeServices(folder: string, services: readonly Service[]): Promise<void> {
  for (const service of services) {
    await mkdir(join(folder, service.name, "log"), { recursive: true });
    for (const [path, text] of Object.entries(serviceFiles(service))) {
      await writeFile(join(folder, path), text);
      if (path.endsWith("run")) await chmod(join(folder, path), 0o755);
    }
  }
}
