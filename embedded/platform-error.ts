/**
 * Something that the person at the keyboard can mend: a missing package, a full disk, a port in use.
 *
 * The message is one sentence with subject, rule, value and way out; it is shown as it is, without a stack.
 */
export class PlatformError extends Error {
  /** The file that holds the whole story, where there is one. */
  readonly logFile: string | undefined;

  constructor(
    message: string,
    options: { readonly logFile?: string; readonly cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.logFile = options.logFile;
  }
}
