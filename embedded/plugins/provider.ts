/**
 * What a provider plugin answers, in the protocol's own words.
 *
 * Requests and responses are the protocol's messages as plain objects: the same field names, and property
 * bags as plain JSON values in which unknowns, secrets, assets and output values are the wire's own markers
 * (`values.ts` reads and makes them). A recorded call can therefore be handed to a provider as it is.
 */

/** A JSON value, as a protobuf `Struct` carries it. */
export type Value = null | boolean | number | string | Value[] | { [key: string]: Value };
export type Properties = { [key: string]: Value };

export interface CheckRequest {
  readonly urn: string;
  readonly type: string;
  readonly name: string;
  /** The last run's checked inputs; absent when the resource is new. */
  readonly olds?: Properties;
  readonly news: Properties;
  /** 32 bytes in base64, the same in preview and update: names chosen from it do not change in between. */
  readonly randomSeed?: string;
  readonly autonaming?: { readonly proposedName?: string; readonly mode?: string };
}
export interface CheckFailure {
  readonly property: string;
  readonly reason: string;
}
export interface CheckResponse {
  readonly inputs?: Properties;
  readonly failures?: readonly CheckFailure[];
}

export interface ConfigureRequest {
  readonly urn?: string;
  readonly name?: string;
  readonly variables?: { readonly [key: string]: string };
  readonly args?: Properties;
}
export interface ConfigureResponse {
  readonly acceptSecrets?: boolean;
  readonly supportsPreview?: boolean;
  readonly acceptResources?: boolean;
  readonly acceptOutputs?: boolean;
  readonly supportsAutonamingConfiguration?: boolean;
}

export interface DiffRequest {
  readonly id: string;
  readonly urn: string;
  readonly type: string;
  readonly name: string;
  /** The recorded outputs. */
  readonly olds: Properties;
  readonly oldInputs?: Properties;
  readonly news: Properties;
  readonly ignoreChanges?: readonly string[];
}
export type DiffKind =
  "ADD" | "ADD_REPLACE" | "DELETE" | "DELETE_REPLACE" | "UPDATE" | "UPDATE_REPLACE";
export interface DiffResponse {
  readonly changes: "DIFF_UNKNOWN" | "DIFF_NONE" | "DIFF_SOME";
  readonly replaces?: readonly string[];
  readonly stables?: readonly string[];
  readonly deleteBeforeReplace?: boolean;
  readonly diffs?: readonly string[];
  readonly detailedDiff?: {
    readonly [path: string]: { readonly kind?: DiffKind; readonly inputDiff?: boolean };
  };
  readonly hasDetailedDiff?: boolean;
}

export interface CreateRequest {
  readonly urn: string;
  readonly type: string;
  readonly name: string;
  readonly properties: Properties;
  readonly timeout?: number;
  readonly preview?: boolean;
}
export interface CreateResponse {
  readonly id?: string;
  readonly properties: Properties;
}

export interface ReadRequest {
  readonly id: string;
  readonly urn: string;
  readonly type: string;
  readonly name: string;
  readonly properties?: Properties;
  readonly inputs?: Properties;
}
export interface ReadResponse {
  /** Absent or empty: the resource is gone. */
  readonly id?: string;
  readonly properties?: Properties;
  readonly inputs?: Properties;
}

export interface UpdateRequest {
  readonly id: string;
  readonly urn: string;
  readonly type: string;
  readonly name: string;
  readonly olds: Properties;
  readonly oldInputs?: Properties;
  readonly news: Properties;
  readonly timeout?: number;
  readonly ignoreChanges?: readonly string[];
  readonly preview?: boolean;
}
export interface UpdateResponse {
  readonly properties: Properties;
}

export interface DeleteRequest {
  readonly id: string;
  readonly urn: string;
  readonly type: string;
  readonly name: string;
  readonly properties: Properties;
  readonly oldInputs?: Properties;
  readonly timeout?: number;
}

export interface InvokeRequest {
  readonly tok: string;
  readonly args: Properties;
  readonly preview?: boolean;
}
export interface InvokeResponse {
  readonly return?: Properties;
  readonly failures?: readonly CheckFailure[];
}

/** What a call may say while it runs. */
export interface CallContext {
  /** Ends when the engine cancels: a call that waits must give up then. */
  readonly signal: AbortSignal;
  /** A line under the resource in the engine's display; `status` lines are replaced by the next. */
  log(severity: "debug" | "info" | "warning" | "error", message: string, urn?: string): void;
  status(message: string, urn?: string): void;
}

/**
 * A create or update that made the object and then failed (a wait that ended badly): the engine records what is
 * there, so nothing is orphaned, and the run fails with the reasons.
 */
export class InitializationFailure extends Error {
  readonly id: string;
  readonly properties: Properties;
  readonly inputs: Properties;
  readonly reasons: readonly string[];
  constructor(id: string, properties: Properties, inputs: Properties, reasons: readonly string[]) {
    super(reasons.join("; "));
    this.id = id;
    this.properties = properties;
    this.inputs = inputs;
    this.reasons = reasons;
  }
}

/** Thrown for a call that the official plugin does not answer either: the engine falls back to its own way. */
export class Unimplemented extends Error {
  constructor(method: string) {
    super(`${method} is not implemented`);
  }
}

/** A provider plugin. A thrown error becomes the call's error with the same message. */
export interface ResourceProvider {
  readonly name: string;
  /** Without a leading v. */
  readonly version: string;
  checkConfig(request: CheckRequest): Promise<CheckResponse>;
  diffConfig(request: DiffRequest): Promise<DiffResponse>;
  configure(request: ConfigureRequest, context: CallContext): Promise<ConfigureResponse>;
  check(request: CheckRequest, context: CallContext): Promise<CheckResponse>;
  diff(request: DiffRequest, context: CallContext): Promise<DiffResponse>;
  create(request: CreateRequest, context: CallContext): Promise<CreateResponse>;
  read(request: ReadRequest, context: CallContext): Promise<ReadResponse>;
  update(request: UpdateRequest, context: CallContext): Promise<UpdateResponse>;
  delete(request: DeleteRequest, context: CallContext): Promise<void>;
  invoke?(request: InvokeRequest, context: CallContext): Promise<InvokeResponse>;
  /** Lets go of connections. */
  close?(): Promise<void>;
}
