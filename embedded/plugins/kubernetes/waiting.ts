/** Waiting for objects: until they are ready, and until they are gone. */
import { setTimeout as delay } from "node:timers/promises";
import type { CallContext, Properties } from "../provider.ts";
import type { ApiServer, ResourceKind } from "./api-server.ts";
import { ApiError, Unreachable } from "./api-server.ts";
import { objects, pick, pickText, text } from "./pick.ts";
import type { Readiness } from "./readiness.ts";
import {
  NotReady,
  isTrue,
  nameOf,
  namespaceOf,
  notYet,
  reasonsFor,
  ruleFor,
  said,
} from "./readiness.ts";

/** What a user's annotations ask to wait for. */
export interface WaitOptions {
  /** In seconds; undefined: the kind's own limit. */
  readonly timeoutSeconds: number | undefined;
  /** The annotation `pulumi.com/waitFor`, when given: it replaces the kind's own rule. */
  readonly waitFor: string | undefined;
}

/**
 * Waits until an object is ready and returns it as it then is; kinds without a rule are ready at once.
 *
 * @throws NotReady when it failed, time ran out or the run was cancelled.
 */
export async function untilReady(
  api: ApiServer,
  kind: ResourceKind,
  object: Properties,
  options: WaitOptions,
  context: CallContext,
): Promise<Properties> {
  const rule = ruleFor(object, options.waitFor);
  if (rule === undefined) return object;
  const seconds = options.timeoutSeconds ?? rule.timeoutSeconds;
  const timeout = AbortSignal.timeout(seconds * 1000);
  let current = object;
  let told = "";
  let readiness: Readiness = notYet("");
  const stop = new AbortController();
  const signal = AbortSignal.any([timeout, context.signal, stop.signal]);
  try {
    for await (const next of states(api, kind, object, signal, rule.polls === true)) {
      if (next === undefined) {
        throw new NotReady(
          `Resource '${nameOf(object)}' was deleted while it was waited for`,
          current,
          [],
        );
      }
      current = next;
      readiness = await rule.check(current, api);
      if (readiness.ready) {
        if (told !== "") context.status("");
        return current;
      }
      if (readiness.failed === true) {
        throw new NotReady(
          `Resource '${nameOf(current)}' was created but failed to initialize`,
          current,
          await reasonsFor(api, current, readiness.message),
        );
      }
      if (readiness.message !== told) {
        told = readiness.message;
        context.status(told);
      }
    }
  } catch (error) {
    if (error instanceof NotReady || !signal.aborted) throw error;
  } finally {
    stop.abort();
  }
  throw new NotReady(
    context.signal.aborted
      ? `Resource operation was cancelled for '${nameOf(current)}'`
      : `'${nameOf(current)}' timed out waiting to be Ready after ${seconds} s`,
    current,
    await reasonsFor(api, current, readiness.message),
  );
}

/**
 * Waits until an object is gone. `object` is the deletion's answer.
 *
 * @throws Error when it still exists at the deadline, with what holds it.
 */
export async function untilGone(
  api: ApiServer,
  kind: ResourceKind,
  object: Properties,
  timeoutSeconds: number,
  context: CallContext,
): Promise<void> {
  const timeout = AbortSignal.timeout(timeoutSeconds * 1000);
  const stop = new AbortController();
  const signal = AbortSignal.any([timeout, context.signal, stop.signal]);
  const uid = pick(object, "metadata", "uid");
  let current = object;
  try {
    for await (const next of states(api, kind, object, signal, false)) {
      // Another object of that name means that this one is gone.
      if (next === undefined || pick(next, "metadata", "uid") !== uid) return;
      if (next !== object) {
        context.status(`${kind.kind} '${nameOf(object)}' still exists${phaseOf(next)}`);
      }
      current = next;
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    stop.abort();
  }
  const name = nameOf(object);
  if (context.signal.aborted) throw new Error(`Resource operation was cancelled for '${name}'`);
  const finalizers = pick(current, "metadata", "finalizers");
  const held =
    Array.isArray(finalizers) && finalizers.length > 0 ? finalizers.map(text).join(", ") : "none";
  const remaining = objects(pick(current, "status", "conditions"))
    .filter(isTrue)
    .map((entry) => ` ${said(entry, "")}`)
    .join("");
  throw new Error(
    `${kind.kind} "${name}": it must be gone within ${timeoutSeconds} s of its deletion, got finalizers ${held}.${remaining} Remove what holds it, or raise customTimeouts.delete.`,
  );
}

function phaseOf(object: Properties): string {
  const phase = pick(object, "status", "phase");
  return typeof phase === "string" ? ` (${phase})` : "";
}

const POLL_MS = { first: 50, most: 500 } as const;

/** An object's states as they come, the given one first; undefined once it is gone. */
async function* states(
  api: ApiServer,
  kind: ResourceKind,
  object: Properties,
  signal: AbortSignal,
  polls: boolean,
): AsyncGenerator<Properties | undefined> {
  const namespace = kind.namespaced ? namespaceOf(object) : "";
  const name = nameOf(object);
  const path = api.path(kind, namespace, name);
  let current = object;
  yield current;
  if (polls) {
    for (let wait: number = POLL_MS.first; ; wait = Math.min(wait * 1.5, POLL_MS.most)) {
      await delay(wait, undefined, { signal });
      const next = await present(api, path, signal);
      yield next;
      if (next === undefined) return;
    }
  }
  for (;;) {
    try {
      const query = {
        fieldSelector: `metadata.name=${name}`,
        resourceVersion: pickText(current, "metadata", "resourceVersion"),
        timeoutSeconds: "300",
      };
      for await (const event of api.watch(api.path(kind, namespace), query, signal)) {
        if (event.type === "DELETED") {
          yield undefined;
          return;
        }
        if (event.type === "BOOKMARK") continue;
        current = event.object;
        yield current;
      }
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof Unreachable) && !(error instanceof ApiError)) throw error;
    }
    // The watch ended: see what has happened since, then go on from there.
    signal.throwIfAborted();
    await delay(POLL_MS.first, undefined, { signal });
    const next = await present(api, path, signal);
    yield next;
    if (next === undefined) return;
    current = next;
  }
}

async function present(
  api: ApiServer,
  path: string,
  signal: AbortSignal,
): Promise<Properties | undefined> {
  try {
    return await api.request("GET", path, { signal });
  } catch (error) {
    if (error instanceof ApiError && error.code === 404) return undefined;
    throw error;
  }
}
