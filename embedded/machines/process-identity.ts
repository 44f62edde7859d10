import { readFileSync } from "node:fs";

/** A process named so that a reused process id is not mistaken for it. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks between boot and its start. */
  readonly startTicks: string;
}

/** Reads "pid ticks" as written by {@link formatIdentity} or by a machine's boot script. */
export function parseIdentity(text: string): ProcessIdentity | undefined {
  const match = /^(\d+) (\d+)\s*$/.exec(text);
  return match?.[1] === undefined || match[2] === undefined
    ? undefined
    : { pid: Number(match[1]), startTicks: match[2] };
}

/** The form in which identities are kept in files. */
export function formatIdentity(identity: ProcessIdentity): string {
  return `${String(identity.pid)} ${identity.startTicks}\n`;
}

/** The identity of a process that exists now; a zombie does not count. */
export function identityOf(pid: number): ProcessIdentity | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${String(pid)}/stat`, "utf8");
  } catch {
    return undefined;
  }
  // The command's name is in brackets and may hold spaces: count the fields behind it.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const startTicks = fields[19];
  return fields[0] === "Z" || startTicks === undefined ? undefined : { pid, startTicks };
}

/** Whether that very process still runs. */
export function isAlive(identity: ProcessIdentity): boolean {
  return identityOf(identity.pid)?.startTicks === identity.startTicks;
}
