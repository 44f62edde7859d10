/**
 * What the official providers that wrap a Terraform provider have in common.
 *
 * The official random, tls and postgresql plugins answer in one shape: defaults and secrets put into checked
 * inputs, computed values unknown at preview, bookkeeping (`__defaults`, `__meta`, `__pulumi_raw_state_delta`)
 * in inputs and state, and diffs that follow from the schema alone. A `BridgedProvider` gives that shape to a
 * table of resources; what is left to a resource are its properties and what create, read, update and delete do.
 *
 * There are two families of Terraform providers, and the shapes differ a little (`flavour`):
 *
 * | | "sdk" (postgresql) | "framework" (random, tls) |
 * |---|---|---|
 * | defaults | those that are not zero are put into checked inputs and named in `__defaults` | only in planned outputs |
 * | a value that is not set | `null` in outputs | absent from outputs |
 * | diff | with detailed diff and stable names | names of changed properties only |
 * | a secret that is unknown | a secret | plain unknown |
 */
import type {
  CallContext,
  CheckFailure,
  CheckRequest,
  CheckResponse,
  ConfigureRequest,
  ConfigureResponse,
  CreateRequest,
  CreateResponse,
  DeleteRequest,
  DiffKind,
  DiffRequest,
  DiffResponse,
  Properties,
  ReadRequest,
  ReadResponse,
  ResourceProvider,
  UpdateRequest,
  UpdateResponse,
  Value,
} from "./provider.ts";
import { uniqueName } from "./unique-name.ts";
import {
  UNKNOWN,
  containsUnknown,
  deepEqual,
  isObject,
  isUnknown,
  secret,
  unwrapSecrets,
} from "./values.ts";

/** A value now or later: what need not wait need not be asynchronous. */
type Awaitable<T> = T | Promise<T>;

/** One property of a resource, or one field of an object inside a property. */
export interface BridgedProperty {
  /**
   * `object` is an object with `fields`; `block` is one too, but a list of at most one in Terraform, which only
   * the raw state shows. A list or set with `fields` holds objects, without it scalars. A map holds strings.
   */
  readonly kind: "string" | "bool" | "number" | "list" | "set" | "map" | "object" | "block";
  /**
   * `optional+computed`: may be given, else the provider decides: unknown when created, kept afterwards.
   * `computed`: never an input.
   */
  readonly use: "required" | "optional" | "optional+computed" | "computed";
  /** What an absent optional property means. */
  readonly default?: Value;
  /** A change of it replaces the resource. */
  readonly forceNew?: boolean;
  /** Secret as an input and as an output. */
  readonly secret?: boolean;
  readonly fields?: BridgedProperties;
  /** Terraform's name, where it is not the property's own name in snake case. */
  readonly terraformName?: string;
  /**
   * A name that is made up when none is given: the resource's own name, the separator and random hexadecimal
   * digits. A given name is one of a kind, so a replacement that keeps it deletes before it creates.
   */
  readonly autoName?: {
    readonly separator: string;
    /** Number of random digits. */
    readonly randomLength: number;
    /** Longest name, in characters. */
    readonly maxLength: number;
  };
  /**
   * Only flavour "framework": a computed value is unknown again when anything is updated in place. Computed
   * values are otherwise kept.
   */
  readonly unknownOnUpdate?: boolean;
}
export interface BridgedProperties {
  readonly [name: string]: BridgedProperty;
}

/**
 * What a resource does once its inputs are checked and its values planned. All values are plain: no secrets, no
 * markers, no bookkeeping; a property without a value is absent.
 */
export interface BridgedResource {
  readonly properties: BridgedProperties;
  /** Terraform's schema version; shown in the state from 1 on. */
  readonly schemaVersion?: number;
  /** False where the Terraform resource has no `id` attribute: the state then has no `id` property. @default true */
  readonly idProperty?: boolean;
  /** The official provider deletes before it creates whenever this is replaced. */
  readonly deleteBeforeReplace?: boolean;
  /** What the schema cannot say about inputs. Unknown values stand as `UNKNOWN`. */
  checkInputs?(inputs: Properties): Awaitable<readonly CheckFailure[]>;
  /**
   * Changes the plan before it is compared or shown: computed values that are known early, renewals.
   *
   * @param plan the plan; the inputs it was made from; and the state before it, absent when the resource is created
   * @returns the new plan, and properties that force a replacement although they may be equal
   */
  modifyPlan?(plan: {
    readonly planned: Properties;
    readonly news: Properties;
    readonly prior: Properties | undefined;
  }): Awaitable<{ readonly planned: Properties; readonly replaces?: readonly string[] }>;
  create(
    planned: Properties,
    context: CallContext,
  ): Awaitable<{ readonly id: string; readonly state: Properties }>;
  /**
   * The present state, or undefined when the resource is gone. Without it the recorded state is taken as true
   * and an import is refused.
   *
   * @param prior the recorded state; empty when the resource is imported
   */
  read?(id: string, prior: Properties, context: CallContext): Awaitable<Properties | undefined>;
  /** Without it, an update only records the plan. */
  update?(
    id: string,
    prior: Properties,
    planned: Properties,
    context: CallContext,
  ): Awaitable<Properties>;
  /** Without it, nothing outside the state is to be removed. */
  delete?(id: string, prior: Properties, context: CallContext): Awaitable<void>;
}

export interface BridgedProviderOptions {
  readonly name: string;
  /** Without a leading v. */
  readonly version: string;
  readonly flavour: "sdk" | "framework";
  /** By type token, for example "random:index/randomPassword:RandomPassword". */
  readonly resources: { readonly [token: string]: BridgedResource };
  /** Names of provider settings that are secret. */
  readonly secretSettings?: readonly string[];
  /** Reports settings that cannot be used. Unknown values stand as `UNKNOWN`. */
  checkSettings?(settings: Properties): Awaitable<readonly CheckFailure[]>;
  /** Takes the settings, as plain values: they are strings, as a configuration file has them. */
  configure?(settings: Properties, context: CallContext): Awaitable<void>;
  /** Lets go of connections. */
  close?(): Promise<void>;
}

const DEFAULTS_KEY = "__defaults";
const META_KEY = "__meta";
const RAW_STATE_DELTA_KEY = "__pulumi_raw_state_delta";

/** A provider plugin made of a table of resources; see the head of this file. */
export class BridgedProvider implements ResourceProvider {
  readonly name: string;
  readonly version: string;
  readonly #options: BridgedProviderOptions;
  readonly #sdk: boolean;

  constructor(options: BridgedProviderOptions) {
    this.name = options.name;
    this.version = options.version;
    this.#options = options;
    this.#sdk = options.flavour === "sdk";
  }

  async checkConfig(request: CheckRequest): Promise<CheckResponse> {
    const settings = unwrapSecrets(request.news);
    const failures = (await this.#options.checkSettings?.(settings)) ?? [];
    if (failures.length > 0) return { failures };
    const secrets = new Set(this.#options.secretSettings);
    return {
      inputs: Object.fromEntries(
        Object.entries(settings).map(([key, value]) => [
          key,
          secrets.has(key) ? secret(value) : value,
        ]),
      ),
    };
  }

  /** The engine then compares the settings itself: a changed one updates the provider, never replaces it. */
  diffConfig(): Promise<DiffResponse> {
    return Promise.resolve({ changes: "DIFF_UNKNOWN" });
  }

  async configure(request: ConfigureRequest, context: CallContext): Promise<ConfigureResponse> {
    await this.#options.configure?.(unwrapSecrets(request.args ?? {}), context);
    return {
      supportsPreview: true,
      ...(this.#sdk ? {} : { acceptResources: true }),
      supportsAutonamingConfiguration: true,
    };
  }

  async check(request: CheckRequest): Promise<CheckResponse> {
    const resource = this.#resource(request.type);
    const failures: CheckFailure[] = [];
    const names = autoNames(resource.properties, request);
    const inputs = this.#checkFields(
      resource.properties,
      { ...unwrapSecrets(request.news), ...names },
      "",
      failures,
    );
    const defaults = inputs[DEFAULTS_KEY];
    if (Array.isArray(defaults)) {
      inputs[DEFAULTS_KEY] = [...(defaults as string[]), ...Object.keys(names)].sort();
    }
    if (failures.length === 0) {
      failures.push(...((await resource.checkInputs?.(plain(inputs) as Properties)) ?? []));
    }
    if (failures.length > 0) return { failures };
    return { inputs: withSecrets(resource.properties, inputs) };
  }

  async diff(request: DiffRequest): Promise<DiffResponse> {
    const resource = this.#resource(request.type);
    const prior = stateOf(request.olds);
    const news = plain(unwrapSecrets(request.news)) as Properties;
    for (const name of request.ignoreChanges ?? []) {
      const before = prior[name];
      if (before === undefined) delete news[name];
      else news[name] = before;
    }
    const { planned, replaces: forced } = await this.#plan(resource, news, prior);

    const detailed = new Map<string, DiffKind>();
    const diffs = new Set<string>();
    const replaces = new Set<string>(forced);
    for (const [name, property] of Object.entries(resource.properties)) {
      if (property.use === "computed" && isUnknown(planned[name])) continue;
      // The official plugin counts a set's new elements as the program wrote them, not as the state sorts them.
      const after = property.kind === "set" ? (news[name] ?? planned[name]) : planned[name];
      const changes = diffValue(name, property, prior[name], after);
      if (changes.length === 0) continue;
      diffs.add(name);
      for (const change of changes) {
        if (change.replace) replaces.add(name);
        detailed.set(
          change.path,
          change.replace ? (`${change.kind}_REPLACE` as DiffKind) : change.kind,
        );
      }
    }
    for (const name of forced) diffs.add(name);

    const stables = this.#sdk ? forceNewNames(resource.properties) : [];
    return {
      changes: diffs.size > 0 ? "DIFF_SOME" : "DIFF_NONE",
      ...(replaces.size > 0 ? { replaces: [...replaces].sort() } : {}),
      ...(replaces.size > 0 &&
      (resource.deleteBeforeReplace === true || keepsName(resource, request))
        ? { deleteBeforeReplace: true }
        : {}),
      ...(stables.length > 0 ? { stables } : {}),
      ...(diffs.size > 0 ? { diffs: [...diffs].sort() } : {}),
      ...(this.#sdk && detailed.size > 0
        ? {
            detailedDiff: Object.fromEntries(
              // "ADD" is the protocol's zero value, which recorded answers leave out.
              [...detailed].map(([path, kind]) => [path, kind === "ADD" ? {} : { kind }]),
            ),
          }
        : {}),
      ...(this.#sdk ? { hasDetailedDiff: true } : {}),
    };
  }

  async create(request: CreateRequest, context: CallContext): Promise<CreateResponse> {
    const resource = this.#resource(request.type);
    const news = plain(unwrapSecrets(request.properties)) as Properties;
    const { planned } = await this.#plan(resource, news, undefined);
    if (request.preview === true) {
      return { properties: this.#outputs(resource, UNKNOWN, planned, "create") };
    }
    const { id, state } = await resource.create(known(planned), context);
    return { id, properties: this.#outputs(resource, id, state) };
  }

  async read(request: ReadRequest, context: CallContext): Promise<ReadResponse> {
    const resource = this.#resource(request.type);
    const prior = stateOf(request.properties ?? {});
    const imported = Object.keys(prior).length === 0;
    if (imported && resource.read === undefined) {
      throw new Error(
        `Resource "${request.name}": the embedded ${this.name} plugin cannot import a ${request.type}, got id "${request.id}". Let it be created, or import it with the official plugin.`,
      );
    }
    const state =
      resource.read === undefined ? prior : await resource.read(request.id, prior, context);
    if (state === undefined) return {};
    const outputs = this.#outputs(resource, request.id, state);
    const present = stateOf(outputs);
    const inputs = imported
      ? this.#inputsOfImport(resource.properties, present)
      : inputsOfRefresh(unwrapSecrets(request.inputs ?? {}), present);
    return {
      id: request.id,
      properties: outputs,
      inputs: withSecrets(resource.properties, inputs),
    };
  }

  async update(request: UpdateRequest, context: CallContext): Promise<UpdateResponse> {
    const resource = this.#resource(request.type);
    const prior = stateOf(request.olds);
    const news = plain(unwrapSecrets(request.news)) as Properties;
    const { planned } = await this.#plan(resource, news, prior);
    if (request.preview === true) {
      return { properties: this.#outputs(resource, request.id, planned, "update") };
    }
    const state =
      resource.update === undefined
        ? known(planned)
        : await resource.update(request.id, prior, known(planned), context);
    return { properties: this.#outputs(resource, request.id, state) };
  }

  async delete(request: DeleteRequest, context: CallContext): Promise<void> {
    const resource = this.#resource(request.type);
    await resource.delete?.(request.id, stateOf(request.properties), context);
  }

  async close(): Promise<void> {
    await this.#options.close?.();
  }

  #resource(token: string): BridgedResource {
    const resource = this.#options.resources[token];
    if (resource === undefined) {
      const types = Object.keys(this.#options.resources).join(", ");
      throw new Error(
        `Resource type "${token}": the embedded ${this.name} plugin must know it, got an unknown one. Use one of: ${types}.`,
      );
    }
    return resource;
  }

  /** Refuses what the schema does not know, brings scalars to their type and fills in defaults. */
  #checkFields(
    properties: BridgedProperties,
    news: Properties,
    path: string,
    failures: CheckFailure[],
  ): Properties {
    const inputs: Properties = {};
    const at = (name: string): string => (path === "" ? name : `${path}.${name}`);
    for (const [name, value] of Object.entries(news)) {
      if (name === DEFAULTS_KEY || value === null) continue;
      const property = properties[name];
      if (property === undefined || property.use === "computed") {
        failures.push({
          property: at(name),
          reason: `Invalid or unknown key. Examine values at '${at(name)}'.`,
        });
        continue;
      }
      inputs[name] = this.#checkValue(property, value, at(name), failures);
    }
    const defaults: string[] = [];
    for (const [name, property] of Object.entries(properties)) {
      if (name in inputs) continue;
      if (property.use === "required") {
        failures.push({ property: at(name), reason: `Missing required property '${at(name)}'` });
      } else if (this.#sdk && property.default !== undefined && !isZero(property.default)) {
        inputs[name] = property.default;
        defaults.push(name);
      }
    }
    if (this.#sdk) inputs[DEFAULTS_KEY] = defaults.sort();
    return inputs;
  }

  #checkValue(
    property: BridgedProperty,
    value: Value,
    path: string,
    failures: CheckFailure[],
  ): Value {
    if (isUnknown(value)) return value;
    const refuse = (expected: string): Value => {
      const got = Array.isArray(value) ? "list" : value === null ? "null" : typeof value;
      failures.push({
        property: path,
        reason: `Expected ${expected}, got ${got}. Examine values at '${path}'.`,
      });
      return value;
    };
    switch (property.kind) {
      case "string":
        if (typeof value === "string") return value;
        return typeof value === "number" || typeof value === "boolean"
          ? String(value)
          : refuse("a string");
      case "number":
        if (typeof value === "number") return value;
        return typeof value === "string" && value.trim() !== "" && Number.isFinite(Number(value))
          ? Number(value)
          : refuse("a number");
      case "bool":
        if (typeof value === "boolean") return value;
        return value === "true" || value === "false" ? value === "true" : refuse("a boolean");
      case "list":
      case "set": {
        if (!Array.isArray(value)) return refuse("a list");
        const fields = property.fields;
        return value.map((element, i) => {
          const place = `${path}[${i}]`;
          if (fields !== undefined && isObject(element)) {
            return this.#checkFields(fields, element, place, failures);
          }
          return this.#checkValue(
            { kind: fields === undefined ? "string" : "object", use: "required" },
            element,
            place,
            failures,
          );
        });
      }
      case "map":
        return isObject(value) ? value : refuse("a map");
      case "object":
      case "block":
        if (!isObject(value)) return refuse("an object");
        return this.#checkFields(property.fields ?? {}, value, path, failures);
    }
  }

  /** What the resource will be, as far as it is known: inputs, else defaults, else what was or what is unknown. */
  async #plan(
    resource: BridgedResource,
    news: Properties,
    prior: Properties | undefined,
  ): Promise<{ planned: Properties; replaces: readonly string[] }> {
    const planned: Properties = {};
    for (const [name, property] of Object.entries(resource.properties)) {
      const value = news[name] ?? null;
      if (value !== null && !(this.#sdk && isEmptyCollection(value))) {
        planned[name] = this.#normalized(property, value);
      } else if (property.default !== undefined) {
        planned[name] = property.default;
      } else if (property.use === "computed" || property.use === "optional+computed") {
        const before = prior?.[name];
        if (prior === undefined) planned[name] = UNKNOWN;
        else if (before !== undefined) planned[name] = before;
      }
    }
    const modified = await resource.modifyPlan?.({ planned, news, prior });
    const result = modified?.planned ?? planned;
    const changed =
      prior !== undefined &&
      Object.entries(resource.properties).some(
        ([name, property]) => diffValue(name, property, prior[name], result[name]).length > 0,
      );
    if (changed) {
      for (const [name, property] of Object.entries(resource.properties)) {
        if (property.unknownOnUpdate === true && news[name] === undefined) result[name] = UNKNOWN;
      }
    }
    return { planned: result, replaces: modified?.replaces ?? [] };
  }

  /** A set of strings is kept sorted, as Terraform keeps it. */
  #normalized(property: BridgedProperty, value: Value): Value {
    if (property.kind !== "set" || !Array.isArray(value)) return value;
    const texts = value.filter((element) => typeof element === "string");
    return texts.length === value.length ? [...new Set(texts)].sort() : value;
  }

  /** A state, or a plan of one, as the engine records it. */
  #outputs(
    resource: BridgedResource,
    id: string,
    state: Properties,
    preview?: "create" | "update",
  ): Properties {
    const outputs: Properties = {};
    for (const [name, property] of Object.entries(resource.properties)) {
      const value = state[name] ?? null;
      if (value === null && !this.#sdk) continue;
      outputs[name] =
        property.secret === true && (this.#sdk || !isUnknown(value)) ? secret(value) : value;
    }
    if (resource.idProperty !== false) outputs["id"] = id;
    if (preview !== undefined && (preview === "create" || containsUnknown(outputs))) return outputs;
    if ((resource.schemaVersion ?? 0) > 0) {
      outputs[META_KEY] = JSON.stringify({ schema_version: String(resource.schemaVersion) });
    }
    outputs[RAW_STATE_DELTA_KEY] = { obj: objectDelta(resource.properties, outputs) };
    return outputs;
  }

  /** The inputs that an imported resource would have been made with. */
  #inputsOfImport(properties: BridgedProperties, state: Properties): Properties {
    const inputs: Properties = {};
    for (const [name, property] of Object.entries(properties)) {
      const value = state[name] ?? null;
      if (value === null || property.use === "computed") continue;
      const usual =
        property.default === undefined ? isZero(value) : deepEqual(value, property.default);
      if (property.use !== "required" && usual) continue;
      inputs[name] = value;
    }
    if (this.#sdk) inputs[DEFAULTS_KEY] = [];
    return inputs;
  }
}

/**
 * Names for those properties that have none: the name of the last run, else one that the engine proposes, else
 * one made from the engine's seed.
 */
function autoNames(
  properties: BridgedProperties,
  request: CheckRequest,
): { [name: string]: string } {
  const names: { [name: string]: string } = {};
  for (const [property, { autoName }] of Object.entries(properties)) {
    if (autoName === undefined || (request.news[property] ?? null) !== null) continue;
    const before = request.olds?.[property];
    const { proposedName = "", mode } = request.autonaming ?? {};
    if (typeof before === "string" && isDefault(request.olds, property)) names[property] = before;
    else if (mode === "DISABLE") continue;
    else if (proposedName !== "") names[property] = proposedName;
    else {
      names[property] = uniqueName({
        randomSeed: request.randomSeed,
        prefix: request.name + autoName.separator,
        randomLength: autoName.randomLength,
        maxLength: autoName.maxLength,
      });
    }
  }
  return names;
}

function isDefault(inputs: Properties | undefined, name: string): boolean {
  const defaults = inputs?.[DEFAULTS_KEY];
  return Array.isArray(defaults) && defaults.includes(name);
}

/** Whether the program itself chose a name that must be free before the replacement can have it. */
function keepsName(resource: BridgedResource, { news, olds }: DiffRequest): boolean {
  return Object.entries(resource.properties).some(
    ([name, { autoName }]) =>
      autoName !== undefined && !isDefault(news, name) && deepEqual(news[name], olds[name]),
  );
}

/** A recorded state as plain values: without secrets, bookkeeping and properties that have no value. */
function stateOf(recorded: Properties): Properties {
  const state: Properties = {};
  for (const [name, value] of Object.entries(unwrapSecrets(recorded))) {
    if (name === META_KEY || name === RAW_STATE_DELTA_KEY || name === DEFAULTS_KEY) continue;
    if (value !== null) state[name] = plain(value);
  }
  return state;
}

/** Without `__defaults`, at any depth. */
function plain(value: Value): Value {
  if (Array.isArray(value)) return value.map(plain);
  if (!isObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key]) => key !== DEFAULTS_KEY)
      .map(([key, inner]) => [key, plain(inner)]),
  );
}

/** A plan for the real run: what the resource is to compute is absent from it. */
function known(planned: Properties): Properties {
  return Object.fromEntries(Object.entries(planned).filter(([, value]) => !isUnknown(value)));
}

function withSecrets(properties: BridgedProperties, inputs: Properties): Properties {
  return Object.fromEntries(
    Object.entries(inputs).map(([name, value]) => [
      name,
      properties[name]?.secret === true ? secret(value) : value,
    ]),
  );
}

function isEmptyCollection(value: Value): boolean {
  return Array.isArray(value)
    ? value.length === 0
    : isObject(value) && Object.keys(value).length === 0;
}

function isZero(value: Value): boolean {
  return (
    value === null || value === false || value === 0 || value === "" || isEmptyCollection(value)
  );
}

function isEmpty(value: Value | undefined): value is null | undefined {
  return value === undefined || value === null || isEmptyCollection(value);
}

function forceNewNames(properties: BridgedProperties): string[] {
  return Object.keys(properties)
    .filter((name) => properties[name]?.forceNew === true)
    .sort();
}

interface Change {
  readonly path: string;
  readonly kind: "ADD" | "DELETE" | "UPDATE";
  readonly replace: boolean;
}

/** Every difference between two plain values, at its innermost path; nothing, null and empty are the same. */
function diffValue(
  path: string,
  property: BridgedProperty,
  before: Value | undefined,
  after: Value | undefined,
): Change[] {
  const replace = property.forceNew === true;
  if (isEmpty(before)) return isEmpty(after) ? [] : [{ path, kind: "ADD", replace }];
  if (isEmpty(after)) return [{ path, kind: "DELETE", replace }];
  if (property.kind === "set" && Array.isArray(before) && Array.isArray(after)) {
    const gone = before.flatMap((element, i) => (includes(after, element) ? [] : [i]));
    const come = after.flatMap((element, i) => (includes(before, element) ? [] : [i]));
    return [...new Set([...gone, ...come])]
      .sort((a, b) => a - b)
      .map((i) => ({
        path: `${path}[${i}]`,
        kind: !gone.includes(i) ? "ADD" : come.includes(i) ? "UPDATE" : "DELETE",
        replace,
      }));
  }
  const element: BridgedProperty = { ...property, kind: property.fields ? "object" : "string" };
  if (Array.isArray(before) && Array.isArray(after)) {
    return Array.from({ length: Math.max(before.length, after.length) }, (_, i) =>
      diffElement(`${path}[${i}]`, element, before[i], after[i]),
    ).flat();
  }
  if (isObject(before) && isObject(after)) {
    const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort();
    return names.flatMap((name) => {
      const field = property.fields?.[name] ?? { kind: "string", use: "optional" };
      return diffElement(
        `${path}.${name}`,
        { ...field, forceNew: replace || field.forceNew === true },
        before[name],
        after[name],
      );
    });
  }
  return deepEqual(before, after) ? [] : [{ path, kind: "UPDATE", replace }];
}

function diffElement(
  path: string,
  property: BridgedProperty,
  before: Value | undefined,
  after: Value | undefined,
): Change[] {
  return diffValue(path, property, before, after ?? property.default);
}

function includes(list: readonly Value[], element: Value): boolean {
  return list.some((other) => deepEqual(other, element));
}

/**
 * The inputs after a refresh: those that there were, with the values that there are now. What was a default and
 * has changed is none any more; new elements of a list do not become inputs.
 */
function inputsOfRefresh(olds: Properties, state: Properties): Properties {
  const merged = mergeInput(olds, state) as Properties;
  const defaults = merged[DEFAULTS_KEY];
  if (Array.isArray(defaults) && defaults.length === 0) delete merged[DEFAULTS_KEY];
  return merged;
}

function mergeInput(input: Value, state: Value): Value {
  if (Array.isArray(input) && Array.isArray(state)) {
    return input.slice(0, state.length).map((element, i) => mergeInput(element, state[i] ?? null));
  }
  if (!isObject(input) || !isObject(state)) return state;
  const merged: Properties = {};
  for (const [name, value] of Object.entries(input)) {
    if (name !== DEFAULTS_KEY) merged[name] = mergeInput(value, state[name] ?? null);
  }
  const defaults = input[DEFAULTS_KEY];
  if (Array.isArray(defaults)) {
    merged[DEFAULTS_KEY] = defaults.filter(
      (name) => typeof name === "string" && deepEqual(merged[name], input[name]),
    );
  }
  return merged;
}

/** How Terraform's own state differs from the outputs, where it cannot be told from them. */
function objectDelta(properties: BridgedProperties, outputs: Properties): Properties {
  const deltas: Properties = {};
  const renamed: Properties = {};
  for (const [name, property] of Object.entries(properties)) {
    if (property.terraformName !== undefined) renamed[name] = property.terraformName;
    const delta = valueDelta(property, outputs[name]);
    if (delta !== undefined) deltas[name] = delta;
  }
  return {
    ...(Object.keys(deltas).length > 0 ? { ps: deltas } : {}),
    ...(Object.keys(renamed).length > 0 ? { renamed } : {}),
  };
}

function valueDelta(property: BridgedProperty, output: Value | undefined): Value | undefined {
  // A verbatim piece of raw state may hold anything, so the official bridge always marks it secret.
  if (output === undefined) return secret({ replace: { raw: null } });
  const value = unwrapSecrets(output);
  if (value === null) return property.kind === "block" ? { plu: { i: {} } } : undefined;
  const fields = property.fields;
  switch (property.kind) {
    case "map":
      return { map: {} };
    case "list":
    case "set": {
      if (!Array.isArray(value) || fields === undefined) return { arr: {} };
      const elements = value.map((element, i): [string, Value] => [
        String(i),
        { obj: objectDelta(fields, element as Properties) },
      ]);
      return { arr: elements.length === 0 ? {} : { el: Object.fromEntries(elements) } };
    }
    case "object":
      return { obj: objectDelta(fields ?? {}, value as Properties) };
    case "block":
      return { plu: { i: { obj: objectDelta(fields ?? {}, value as Properties) } } };
    case "string":
    case "bool":
    case "number":
      return undefined;
  }
}
