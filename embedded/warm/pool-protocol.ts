/** A kind of process that waits. */
export interface WaitingKind {
  readonly kind: string;
  /** Arguments of Node. */
  readonly argv: readonly string[];
  readonly count: number;
  /** Files that it is made of: where one is another than when it was started, it is not the right one any more. */
  readonly files: readonly string[];
  /** What the arguments of whoever asks must begin with, and the process is not told. */
  readonly prefix: readonly string[];
}

/** Whoever asks for this kind is told, by the end of the connection, that all that should wait do. */
export const ALL = "all";

/** What a pool is told when it is started. */
export interface PoolSettings {
  readonly socket: string;
  readonly compileCache: string;
  readonly kinds: readonly WaitingKind[];
}
