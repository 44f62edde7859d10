/**
 * Replays what the official plugins were asked and answered against an embedded one.
 *
 * The recordings lie in `official/`; its README says what was recorded and what was left out.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type {
  CallContext,
  Properties,
  ResourceProvider,
  Value,
} from "../../../embedded/plugins/provider.ts";
import { Unimplemented } from "../../../embedded/plugins/provider.ts";
import {
  containsUnknown,
  isObject,
  isSecret,
  isUnknown,
  unwrapSecrets,
} from "../../../embedded/plugins/values.ts";

/** The recorded runs, in the order in which they happened. */
export const STEPS = [
  "01-preview-create",
  "02-create",
  "03-preview-same",
  "04-preview-update",
  "05-update",
  "06-preview-replace",
  "07-replace",
  "08-refresh",
  "09-destroy",
] as const;
export type Step = (typeof STEPS)[number];

export type Method =
  | "CheckConfig"
  | "DiffConfig"
  | "Configure"
  | "Check"
  | "Diff"
  | "Create"
  | "Read"
  | "Update"
  | "Delete";

/** One recorded call of a provider. */
export interface Call {
  readonly step: Step;
  readonly method: Method;
  readonly provider: string;
  /** The resource's type token and name; a provider's own for the configuration calls. */
  readonly type: string;
  readonly name: string;
  readonly request: Properties;
  /** Without the protocol's zero values (false, 0, "", empty lists), as the recording has them. */
  readonly response: Properties;
  /** The error that the call ended with, without gRPC's prefix. */
  readonly error?: { readonly unimplemented: boolean; readonly message: string };
}

/** A place where an answer may differ from the recorded one. */
export interface Allowance {
  /** Where in the answer: keys and indexes joined by dots, `*` for any one of them: "properties.result". */
  readonly at: string;
  /** Why it may differ. */
  readonly reason: string;
  /** Only in these calls. @default all */
  readonly methods?: readonly Method[];
  /** Only for types whose token ends so. @default all */
  readonly type?: string;
  /** Only in these runs. @default all */
  readonly steps?: readonly Step[];
  /** Also its type, its secrecy, whether it is known and whether it is there at all may differ. @default false */
  readonly anything?: boolean;
}

/**
 * The recorded calls of one provider, in the order in which they were answered.
 *
 * @param provider its name: "kubernetes", "postgresql", "random", "tls" or "command"
 * @param steps only these runs; all by default
 */
export function recordedCalls(provider: string, ...steps: Step[]): Call[] {
  return (steps.length === 0 ? STEPS : steps).flatMap((step) => {
    const file = join(import.meta.dirname, "official", `${step}.jsonl`);
    const lines = readFileSync(file, "utf8")
      .split("\n")
      .filter((line) => line !== "");
    return lines
      .map((line) => JSON.parse(line) as Recorded)
      .filter((recorded) => recorded.provider === provider)
      .map((recorded) => {
        const { method, request, response, error } = recorded;
        const prefix = /^rpc error: code = (\w+) desc = /.exec(error ?? "");
        return {
          step,
          method,
          provider,
          type: text(request, "type"),
          name: text(request, "name"),
          request,
          response: response ?? {},
          ...(error === undefined
            ? {}
            : {
                error: {
                  unimplemented: prefix?.[1] === "Unimplemented",
                  message: error.slice(prefix?.[0].length ?? 0),
                },
              }),
        };
      });
  });
}

function text(properties: Properties, name: string): string {
  const value = properties[name];
  return typeof value === "string" ? value : "";
}

interface Recorded {
  readonly provider: string;
  readonly method: Method;
  readonly request: Properties;
  readonly response?: Properties;
  readonly error?: string;
}

/** A context for calls that no engine made; its lines go to `lines`, when given. */
export function testContext(lines: string[] = []): CallContext {
  return {
    signal: new AbortController().signal,
    log: (severity, message) => lines.push(`${severity}: ${message}`),
    status: (message) => lines.push(`status: ${message}`),
  };
}

/** Hands a recorded request to a provider and returns its answer, or its error's message, as the recording has it. */
export async function ask(
  provider: ResourceProvider,
  call: Call,
): Promise<Pick<Call, "response" | "error">> {
  try {
    return { response: normalized(await answer(provider, call)) };
  } catch (error) {
    return {
      response: {},
      error: {
        unimplemented: error instanceof Unimplemented,
        message: error instanceof Error ? error.message : String(error),
      },
    };
  }
}

async function answer(provider: ResourceProvider, call: Call): Promise<unknown> {
  const context = testContext();
  const request = structuredClone(call.request) as never;
  switch (call.method) {
    case "CheckConfig":
      return provider.checkConfig(request);
    case "DiffConfig":
      return provider.diffConfig(request);
    case "Configure":
      return provider.configure(request, context);
    case "Check":
      return provider.check(request, context);
    case "Diff":
      return provider.diff(request, context);
    case "Create":
      return provider.create(request, context);
    case "Read":
      return provider.read(request, context);
    case "Update":
      return provider.update(request, context);
    case "Delete":
      return provider.delete(request, context);
  }
}

/** The protocol's zero values are left out of a message; inside property bags they are values like any other. */
function normalized(response: unknown): Properties {
  const message: Properties = {};
  for (const [key, value] of Object.entries((response ?? {}) as { [key: string]: Value })) {
    const zero =
      value === undefined ||
      value === false ||
      value === "" ||
      value === "DIFF_UNKNOWN" ||
      (Array.isArray(value) && value.length === 0);
    if (zero) continue;
    message[key] = key === "detailedDiff" ? withoutZeroKinds(value as Properties) : value;
  }
  return message;
}

function withoutZeroKinds(detailedDiff: Properties): Properties {
  return Object.fromEntries(
    Object.entries(detailedDiff).map(([path, diff]) => [
      path,
      isObject(diff)
        ? Object.fromEntries(
            Object.entries(diff).filter(([, value]) => value !== "ADD" && value !== false),
          )
        : diff,
    ]),
  );
}

/** Where an answer differs from the recorded one. */
export interface Difference {
  readonly path: string;
  readonly expected: Value | undefined;
  readonly actual: Value | undefined;
}

/**
 * Every place where an answer differs from the recorded one and no allowance covers it.
 *
 * @param used takes the allowances that were needed
 */
export function compare(
  call: Call,
  actual: Pick<Call, "response" | "error">,
  allowances: readonly Allowance[] = [],
  used: Set<Allowance> = new Set(),
): Difference[] {
  const applicable = allowances.filter(
    ({ methods, type, steps }) =>
      (methods === undefined || methods.includes(call.method)) &&
      (type === undefined || call.type.endsWith(type)) &&
      (steps === undefined || steps.includes(call.step)),
  );
  const sides = [call, actual].map(({ response, error }) =>
    error === undefined ? response : { error: { ...error } },
  );
  return differences([], sides[0], sides[1]).flatMap(({ keys, expected, actual: got }) => {
    for (let length = keys.length; length > 0; length -= 1) {
      const place = keys.slice(0, length);
      const allowance = applicable.find(
        ({ at, anything }) =>
          matches(at, place) &&
          (anything === true || (length === keys.length && sameKind(expected, got))),
      );
      if (allowance !== undefined) {
        used.add(allowance);
        return [];
      }
    }
    return [{ path: keys.join("."), expected, actual: got }];
  });
}

interface Place {
  readonly keys: readonly string[];
  readonly expected: Value | undefined;
  readonly actual: Value | undefined;
}

function differences(
  keys: readonly string[],
  expected: Value | undefined,
  actual: Value | undefined,
): Place[] {
  if (Array.isArray(expected) && Array.isArray(actual)) {
    return Array.from({ length: Math.max(expected.length, actual.length) }, (_, i) =>
      differences([...keys, String(i)], expected[i], actual[i]),
    ).flat();
  }
  const bothSecret = isSecret(expected) && isSecret(actual);
  if (bothSecret && isObject(expected) && isObject(actual)) {
    return differences(keys, expected["value"], actual["value"]);
  }
  if (isObject(expected) && isObject(actual) && !isSecret(expected) && !isSecret(actual)) {
    const names = [...new Set([...Object.keys(expected), ...Object.keys(actual)])];
    return names.flatMap((name) => differences([...keys, name], expected[name], actual[name]));
  }
  return Object.is(expected, actual) ? [] : [{ keys, expected, actual }];
}

/** Equal in all but the value: the same type, both secret or neither, both known or neither. */
function sameKind(expected: Value | undefined, actual: Value | undefined): boolean {
  if (expected === undefined || actual === undefined) return false;
  const kinds = [expected, actual].map((value) => {
    const plain = unwrapSecrets(value);
    const type = plain === null ? "null" : Array.isArray(plain) ? "list" : typeof plain;
    return `${type} ${isSecret(value)} ${isUnknown(value)} ${containsUnknown(value)}`;
  });
  return kinds[0] === kinds[1];
}

function matches(pattern: string, keys: readonly string[]): boolean {
  const parts = pattern.split(".");
  // A key may itself hold dots (annotations do): compare joined, and part by part where a star stands.
  if (pattern === keys.join(".")) return true;
  return parts.length === keys.length && parts.every((part, i) => part === "*" || part === keys[i]);
}

/**
 * Hands every recorded request to the provider, in order, and returns one line for each difference from the
 * recorded answer, and one for each allowance that nothing needed. An empty list is a replay without a difference.
 */
export async function replay(
  provider: ResourceProvider,
  calls: readonly Call[],
  allowances: readonly Allowance[] = [],
): Promise<string[]> {
  const lines: string[] = [];
  const used = new Set<Allowance>();
  for (const call of calls) {
    const actual = await ask(provider, call);
    for (const { path, expected, actual: got } of compare(call, actual, allowances, used)) {
      lines.push(
        `${call.step} ${call.method} ${call.type}::${call.name} ${path}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(got)}`,
      );
    }
  }
  for (const allowance of allowances) {
    if (!used.has(allowance)) {
      lines.push(`allowance "${allowance.at}" (${allowance.reason}) was not needed`);
    }
  }
  return lines;
}
