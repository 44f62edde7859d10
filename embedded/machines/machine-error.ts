import { PlatformError } from "../platform-error.ts";

/** What a {@link MachineError} knows beyond its sentence. */
export interface MachineErrorDetails {
  /** What was being done, in a few words: "start sshd". */
  readonly step: string;
  /** The command that failed, without secrets. */
  readonly command?: string;
  /** The file whose last lines explain the failure. */
  readonly logFile?: string;
  /** What the reader can do about it: one sentence. */
  readonly wayOut: string;
  readonly cause?: unknown;
}

/** A failure of the embedded machines that their user can act on. The message ends with the way out. */
export class MachineError extends PlatformError {
  readonly step: string;
  readonly command: string | undefined;
  readonly wayOut: string;

  constructor(finding: string, details: MachineErrorDetails) {
    super(`${finding} ${details.wayOut}`, {
      ...(details.logFile === undefined ? {} : { logFile: details.logFile }),
      ...(details.cause === undefined ? {} : { cause: details.cause }),
    });
    this.name = "MachineError";
    this.step = details.step;
    this.command = details.command;
    this.wayOut = details.wayOut;
  }
}

/** What an operating system's refusal means for the reader, by its code. */
const REFUSALS: Readonly<Record<string, readonly [finding: string, wayOut: string]>> = {
  EDQUOT: ["must have room, got an exhausted quota", "Free some space, then start again"],
  ENOSPC: ["must have room, got a full disk", "Free some space, then start again"],
  EROFS: ["must be writable, got a read-only file system", "Remount it writable, then start again"],
};

/** Turns an error that the operating system raised and the user can mend into a sentence. */
export function explained(error: unknown, step: string): unknown {
  const { code, path } = error as NodeJS.ErrnoException;
  const known = code === undefined ? undefined : REFUSALS[code];
  if (known === undefined || error instanceof PlatformError) return error;
  return new MachineError(`Disk of "${path ?? "the checkout"}": ${known[0]}.`, {
    step,
    wayOut: `${known[1]}.`,
    cause: error,
  });
}
