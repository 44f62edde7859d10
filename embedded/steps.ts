import { PlatformError } from "./platform-error.ts";

const HEARTBEAT_MS = 10_000;

/** Tells what a long step is at, shown with the next sign of life. */
export type Progress = (text: string) => void;

/**
 * Shows work as steps with their times: a line when a step ends, a line every ten seconds while it runs.
 *
 * Lines only, no cursor movement: the same in a terminal, in a CI log and in a file.
 */
export class Steps {
  readonly #write: (line: string) => void;
  readonly #startedAt = performance.now();

  constructor(write: (line: string) => void = (line) => process.stdout.write(`${line}\n`)) {
    this.#write = write;
  }

  /**
   * Runs one step and shows it. A failure is shown with the step's name and thrown on.
   *
   * @param title what the step makes, as a noun phrase
   */
  async run<T>(title: string, body: (progress: Progress) => Promise<T>): Promise<T> {
    const startedAt = performance.now();
    let at = "";
    const heartbeat = setInterval(() => {
      this.#write(`  …  ${title}${at === "" ? "" : `: ${at}`}  (${seconds(startedAt)})`);
    }, HEARTBEAT_MS);
    try {
      const result = await body((text) => {
        at = text;
      });
      const note = at === "" ? "" : `  ${at}`;
      this.#write(`  ok ${title.padEnd(44)} ${seconds(startedAt).padStart(8)}${note}`);
      return result;
    } catch (error) {
      this.#write(`  !! ${title.padEnd(44)} ${seconds(startedAt).padStart(8)}  failed`);
      throw error;
    } finally {
      clearInterval(heartbeat);
    }
  }

  /** Seconds since the first step, for the closing line. */
  elapsed(): string {
    return seconds(this.#startedAt);
  }
}

/** What a failed run says: the sentence and the log for the user's own errors, the stack for ours. */
export function describeFailure(error: unknown): string {
  if (error instanceof PlatformError) {
    return error.logFile === undefined ? error.message : `${error.message}\nLog: ${error.logFile}`;
  }
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

function seconds(since: number): string {
  const elapsed = (performance.now() - since) / 1000;
  return elapsed < 100
    ? `${elapsed.toFixed(1)} s`
    : `${Math.floor(elapsed / 60)} min ${Math.round(elapsed % 60)} s`;
}
