import { request } from "node:https";
import type { RequestOptions } from "node:https";
import { setTimeout as delay } from "node:timers/promises";
import { Watch } from "@kubernetes/client-node";
import type { KubeConfig } from "@kubernetes/client-node";

const LIST_TIMEOUT_MS = 10_000;
const FIRST_BACKOFF_MS = 200;
const LONGEST_BACKOFF_MS = 1_000;
/** A watch that lost an event without a word would otherwise be believed for ever. */
const RESYNC_INTERVAL_S = 300;
/** Keeps a server that closes every watch at once from being asked without pause. */
const SHORTEST_WATCH_MS = 500;

interface Listed {
  readonly metadata: {
    readonly namespace?: string;
    readonly name: string;
    readonly resourceVersion?: string;
  };
}

interface List<T> {
  readonly metadata: { readonly resourceVersion?: string };
  readonly items: readonly T[];
}

/**
 * A copy of one kind of Kubernetes object over the whole cluster, kept current by list and watch, in the API's own
 * JSON.
 *
 * The generated client is no help for the list: it renames `from` to `_from`, and its informer then mixes that with
 * the watch's plain JSON. When the API server is away the last copy stands, and is read anew on its return.
 */
export class ResourceMirror<T extends Listed> {
  readonly #config: KubeConfig;
  readonly #path: string;
  readonly #changed: () => void;
  readonly #log: (line: string) => void;
  #objects: Map<string, T> | undefined;

  /**
   * @param path the collection's path on the API server, such as `/api/v1/pods`
   * @param changed called after each change of the copy, and once it is first complete
   * @param log takes a line when the API server goes away and when it is back
   */
  constructor(config: KubeConfig, path: string, changed: () => void, log: (line: string) => void) {
    this.#config = config;
    this.#path = path;
    this.#changed = changed;
    this.#log = log;
  }

  /** The objects, or undefined until the API server has once been read. */
  get objects(): readonly T[] | undefined {
    return this.#objects === undefined ? undefined : [...this.#objects.values()];
  }

  /** Keeps the copy current until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    let backoffMs = FIRST_BACKOFF_MS;
    let away = false;
    while (!signal.aborted) {
      try {
        const resourceVersion = await this.#list(signal);
        if (away) this.#log(`${this.#path}: read again`);
        away = false;
        backoffMs = FIRST_BACKOFF_MS;
        await this.#follow(resourceVersion, signal);
      } catch (error) {
        if (signal.aborted) return;
        if (!away) this.#log(`${this.#path}: the last copy stands: ${reasonOf(error)}`);
        away = true;
        await delay(backoffMs, undefined, { signal }).catch(() => undefined);
        backoffMs = Math.min(backoffMs * 2, LONGEST_BACKOFF_MS);
      }
    }
  }

  async #list(signal: AbortSignal): Promise<string> {
    const server = this.#config.getCurrentCluster()?.server;
    if (server === undefined) {
      throw new Error("the kubeconfig must have a current context with a cluster, got none");
    }
    const options: RequestOptions = {
      signal: AbortSignal.any([signal, AbortSignal.timeout(LIST_TIMEOUT_MS)]),
      headers: {},
    };
    await this.#config.applyToHTTPSOptions(options);
    const text = await get(new URL(server + this.#path), options);
    const list = JSON.parse(text) as List<T>;
    this.#objects = new Map(list.items.map((item) => [keyOf(item), item]));
    this.#changed();
    return list.metadata.resourceVersion ?? "";
  }

  /** Applies events until the copy must be read anew: on any fault, and now and then without one. */
  async #follow(listedVersion: string, signal: AbortSignal): Promise<void> {
    const watch = new Watch(this.#config);
    const resyncAt = performance.now() + RESYNC_INTERVAL_S * 1_000;
    let resourceVersion = listedVersion;
    while (!signal.aborted && performance.now() < resyncAt) {
      const begunAt = performance.now();
      let over = false;
      const ended = Promise.withResolvers<Error | undefined>();
      const controller = await watch.watch(
        this.#path,
        { resourceVersion, allowWatchBookmarks: true, timeoutSeconds: RESYNC_INTERVAL_S },
        (phase: string, object: T) => {
          // Lines still in the pipe of an ended watch are older than what is read next.
          if (over) return;
          if (phase === "ERROR") {
            ended.resolve(new Error(`the watch ended: ${JSON.stringify(object)}`));
            return;
          }
          resourceVersion = object.metadata.resourceVersion ?? resourceVersion;
          if (phase !== "BOOKMARK") this.#apply(phase, object);
        },
        (error: unknown) => {
          // The client ends a watch that was silent for half a minute: nothing was lost.
          const fault = error instanceof Error && error.name !== "TimeoutError";
          ended.resolve(fault ? error : undefined);
        },
      );
      const abort = (): void => {
        controller.abort();
        ended.resolve(undefined);
      };
      if (signal.aborted) abort();
      signal.addEventListener("abort", abort, { once: true });
      const fault = await ended.promise;
      over = true;
      signal.removeEventListener("abort", abort);
      controller.abort();
      if (fault !== undefined) throw fault;
      const restMs = SHORTEST_WATCH_MS - (performance.now() - begunAt);
      if (restMs > 0) await delay(restMs, undefined, { signal });
    }
  }

  #apply(phase: string, object: T): void {
    if (phase === "DELETED") this.#objects?.delete(keyOf(object));
    else this.#objects?.set(keyOf(object), object);
    this.#changed();
  }
}

function keyOf(object: Listed): string {
  return `${object.metadata.namespace ?? ""}/${object.metadata.name}`;
}

function get(url: URL, options: RequestOptions): Promise<string> {
  return new Promise((resolve, reject) => {
    const call = request(url, options, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => {
        if (response.statusCode === 200) resolve(Buffer.concat(chunks).toString());
        else reject(new Error(`the API server answered ${response.statusCode}`));
      });
    });
    call.on("error", reject);
    call.end();
  });
}

/** The innermost cause says what happened; fetch itself only says that it failed. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause === undefined ? error.message || error.name : reasonOf(error.cause);
}
