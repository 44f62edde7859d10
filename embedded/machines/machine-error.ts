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
