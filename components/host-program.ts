import { readFileSync } from "node:fs";
import { join } from "node:path";
import { HOST_PROGRAMS } from "../model/prepared-host.ts";
import { remoteScript } from "./remote-script.ts";

/** Where a program of {@link installHostProgram} lies on its host. */
export function hostProgramPath(name: HostProgram): string {
  return `${HOST_PROGRAMS}/${name}`;
}

/** The shell programs of `components/host`. */
export type HostProgram = "fence" | "k3s" | "postgresql" | "standby";

/**
 * Shell lines that install one of our programs on a host.
 *
 * @param settings Variables that the program finds set: plain characters only, no secret.
 */
export function installHostProgram(
  name: HostProgram,
  settings: Readonly<Record<string, string | number>> = {},
): string {
  const [firstLine = "", ...rest] = textOf(`${name}.sh`)
    .replace(/^# include (\S+)$/gm, (_line, part: string) => textOf(part))
    .split("\n");
  const path = hostProgramPath(name);
  return remoteScript(
    `install -d -m 0755 -o root -g root ${HOST_PROGRAMS}`,
    `cat > ${path}.new <<'end of program'`,
    firstLine,
    ...Object.entries(settings).map(([key, value]) => `${key}=${value}`),
    ...rest,
    "end of program",
    `chmod 0755 ${path}.new`,
    `mv -f ${path}.new ${path}`,
  );
}

function textOf(file: string): string {
  return readFileSync(join(import.meta.dirname, "host", file), "utf8").trimEnd();
}
