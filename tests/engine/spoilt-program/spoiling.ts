/** Stands in a spoiling's `set` for an Output that is not known at preview. */
export const SMUGGLED = "\u0000smuggled";

/** One resource that is spoilt on its way to the engine. */
export interface Spoiling {
  readonly type: string;
  readonly name: string;
  /** Its inputs, of the stack its outputs: path, dots parting the steps and `\.` a dot, and value; null removes it. */
  readonly set?: Readonly<Record<string, unknown>>;
  /** Name of its provider instead. */
  readonly provider?: string;
  readonly protect?: boolean;
  readonly ignoreChanges?: readonly string[];
  /** Name of the program's provider that it is made like; for a provider that the program does not have. */
  readonly like?: string;
  /** Whether it never gets there. */
  readonly remove?: boolean;
  /** The inputs of a resource that is added. */
  readonly add?: unknown;
}
