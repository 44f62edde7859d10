/** Requests to one Kubernetes API server: objects of any kind, found by discovery, and watches on them. */
import * as http from "node:http";
import * as https from "node:https";
import { setTimeout as delay } from "node:timers/promises";
import type { Properties, Value } from "../provider.ts";
import { isObject } from "../values.ts";
import type { ClusterAccess } from "./kubeconfig.ts";
import { objects, text } from "./pick.ts";

/** The official plugin's name where it does not say another: what a created object's fields are managed by. */
export const FIELD_MANAGER = "pulumi-kubernetes";
/** Longest wait for an answer other than a watch's, in milliseconds. */
const REQUEST_TIMEOUT_MS = 60_000;
/** How many requests go out at the same time; the rest queue for a connection. */
const MAX_CONNECTIONS = 32;
/** A kept connection is closed after this time without use, well before the server would do it. In milliseconds. */
const IDLE_TIMEOUT_MS = 30_000;
/** How often a request is repeated that the server asks to repeat later. */
const MAX_REPEATS = 10;

/** An answer that is not a success. The message is the API server's own. */
export class ApiError extends Error {
  readonly code: number;
  readonly reason: string;
  readonly status: Properties;
  constructor(code: number, status: Properties) {
    super(text(status["message"]) || `the server answered with status ${code}`);
    this.code = code;
    this.reason = text(status["reason"]);
    this.status = status;
  }
}

/** The API server could not be reached at all. */
export class Unreachable extends Error {}

/** The server knows no such kind; a definition may still come. */
export class UnknownKind extends Error {
  constructor(apiVersion: string, kind: string) {
    super(`no matches for kind "${kind}" in version "${apiVersion}"`);
  }
}

/** Where objects of one kind live. */
export interface ResourceKind {
  readonly apiVersion: string;
  readonly kind: string;
  /** The plural name in paths. */
  readonly plural: string;
  readonly namespaced: boolean;
}

export interface RequestOptions {
  readonly query?: { readonly [name: string]: string };
  readonly body?: Value;
  /** @default application/json */
  readonly contentType?: string;
  readonly signal?: AbortSignal;
}

/** One event of a watch. */
export interface WatchEvent {
  readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";
  readonly object: Properties;
}

export class ApiServer {
  readonly #access: ClusterAccess;
  readonly #requests: http.Agent;
  readonly #watches: http.Agent;
  readonly #kinds = new Map<string, Promise<ResourceKind[]>>();

  constructor(access: ClusterAccess) {
    this.#access = access;
    const options = {
      ...(access.ca === undefined ? {} : { ca: access.ca }),
      ...(access.certificate === undefined ? {} : { cert: access.certificate }),
      ...(access.key === undefined ? {} : { key: access.key }),
      ...(access.serverName === undefined ? {} : { servername: access.serverName }),
      rejectUnauthorized: !access.insecure,
    };
    const plain = access.server.protocol === "http:";
    const agent = (use: http.AgentOptions): http.Agent =>
      plain ? new http.Agent(use) : new https.Agent({ ...options, ...use });
    this.#requests = agent({
      keepAlive: true,
      maxSockets: MAX_CONNECTIONS,
      timeout: IDLE_TIMEOUT_MS,
    });
    // A watch holds its connection, so watches must not take the ones that requests wait for.
    this.#watches = agent({ keepAlive: true });
  }

  /** Closes every connection. */
  close(): void {
    this.#requests.destroy();
    this.#watches.destroy();
  }

  /**
   * One request, its answer parsed.
   *
   * @throws ApiError when the server refuses, Unreachable when it cannot be reached.
   */
  async request(method: string, path: string, options: RequestOptions = {}): Promise<Properties> {
    for (let repeats = 0; ; repeats += 1) {
      const response = await this.#send(this.#requests, method, path, options, REQUEST_TIMEOUT_MS);
      const retryAfter = Number(response.headers["retry-after"]);
      // A busy server, or a definition's storage that is still being set up.
      const busy = response.statusCode === 429 || response.statusCode === 503;
      if (!busy || !(retryAfter >= 0) || repeats === MAX_REPEATS) {
        return this.#read(response, options.signal);
      }
      response.resume();
      const { signal } = options;
      await delay(retryAfter * 1000, undefined, signal === undefined ? {} : { signal });
    }
  }

  async #read(
    response: http.IncomingMessage,
    signal: AbortSignal | undefined,
  ): Promise<Properties> {
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of response) chunks.push(chunk as Buffer);
    } catch (error) {
      signal?.throwIfAborted();
      throw new Unreachable(messageOf(error));
    }
    const body = Buffer.concat(chunks).toString("utf8");
    const code = response.statusCode ?? 0;
    let parsed: Value;
    try {
      parsed = JSON.parse(body) as Value;
    } catch {
      parsed = { message: body.trim() };
    }
    const object = isObject(parsed) ? parsed : { message: text(parsed) };
    if (code < 200 || code > 299) throw new ApiError(code, object);
    return object;
  }

  async #send(
    agent: http.Agent,
    method: string,
    path: string,
    options: RequestOptions,
    timeoutMs?: number,
  ): Promise<http.IncomingMessage> {
    const { server, token, basic } = this.#access;
    const url = new URL(server);
    url.pathname = `${server.pathname.replace(/\/$/, "")}${path}`;
    for (const [name, value] of Object.entries(options.query ?? {})) {
      url.searchParams.set(name, value);
    }
    const body = options.body === undefined ? undefined : JSON.stringify(options.body);
    const headers: http.OutgoingHttpHeaders = { accept: "application/json" };
    if (body !== undefined) {
      headers["content-type"] = options.contentType ?? "application/json";
      headers["content-length"] = Buffer.byteLength(body);
    }
    headers["user-agent"] = FIELD_MANAGER;
    if (token !== undefined) headers["authorization"] = `Bearer ${token}`;
    else if (basic !== undefined) {
      const { username, password } = basic;
      headers["authorization"] =
        `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
    }
    return new Promise((resolve, reject) => {
      const attempt = (again: boolean): void => {
        const request = (url.protocol === "http:" ? http : https).request(url, {
          agent,
          method,
          headers,
          ...(options.signal === undefined ? {} : { signal: options.signal }),
        });
        if (timeoutMs !== undefined) {
          request.setTimeout(timeoutMs, () =>
            request.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)),
          );
        }
        request.once("response", resolve);
        request.once("error", (error: NodeJS.ErrnoException) => {
          if (options.signal?.aborted === true) reject(options.signal.reason as Error);
          // The server may close a kept connection just as a request sets out on it; all but a POST can be repeated.
          else if (
            again &&
            request.reusedSocket &&
            error.code === "ECONNRESET" &&
            method !== "POST"
          )
            attempt(false);
          else reject(new Unreachable(messageOf(error)));
        });
        request.end(body);
      };
      attempt(true);
    });
  }

  /**
   * The events of a watch, until the server ends it or the signal does.
   *
   * @throws ApiError when the server refuses it, 410 when the resource version is too old.
   */
  async *watch(
    path: string,
    query: { readonly [name: string]: string },
    signal: AbortSignal,
  ): AsyncGenerator<WatchEvent> {
    const response = await this.#send(this.#watches, "GET", path, {
      query: { ...query, watch: "true" },
      signal,
    });
    if (response.statusCode !== 200) {
      const chunks: Buffer[] = [];
      for await (const chunk of response) chunks.push(chunk as Buffer);
      const message = Buffer.concat(chunks).toString("utf8").trim();
      throw new ApiError(response.statusCode ?? 0, { message });
    }
    try {
      let rest = "";
      response.setEncoding("utf8");
      for await (const chunk of response) {
        const lines = (rest + String(chunk)).split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) {
          if (line.trim() === "") continue;
          const event = JSON.parse(line) as WatchEvent;
          if (event.type === "ERROR") {
            throw new ApiError(Number(event.object["code"] ?? 500), event.object);
          }
          yield event;
        }
      }
    } finally {
      response.destroy();
    }
  }

  /**
   * Where a kind lives. What the server was asked before is remembered; a kind that was not there is asked for anew,
   * since its definition may have come in between.
   *
   * @throws UnknownKind when the server has no such kind.
   */
  async resourceKind(
    apiVersion: string,
    kind: string,
    signal?: AbortSignal,
  ): Promise<ResourceKind> {
    const version = apiVersion.replace(/^core\//, "");
    const remembered = (await this.#kinds.get(version))?.find((resource) => resource.kind === kind);
    if (remembered !== undefined) return remembered;
    const asked = this.#discover(version, signal);
    this.#kinds.set(version, asked);
    asked.catch(() => this.#kinds.delete(version));
    const found = (await asked).find((resource) => resource.kind === kind);
    if (found === undefined) throw new UnknownKind(apiVersion, kind);
    return found;
  }

  async #discover(apiVersion: string, signal?: AbortSignal): Promise<ResourceKind[]> {
    const path = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
    let list: Properties;
    try {
      list = await this.request("GET", path, signal === undefined ? {} : { signal });
    } catch (error) {
      if (error instanceof ApiError && error.code === 404) return [];
      throw error;
    }
    return objects(list["resources"])
      .filter((resource) => !text(resource["name"]).includes("/"))
      .map((resource) => ({
        apiVersion,
        kind: text(resource["kind"]),
        plural: text(resource["name"]),
        namespaced: resource["namespaced"] === true,
      }));
  }

  /** The path of an object, or of its collection when no name is given. */
  path(kind: ResourceKind, namespace: string, name?: string): string {
    const base = kind.apiVersion.includes("/")
      ? `/apis/${kind.apiVersion}`
      : `/api/${kind.apiVersion}`;
    const within = kind.namespaced
      ? `/namespaces/${encodeURIComponent(namespace || "default")}`
      : "";
    return `${base}${within}/${kind.plural}${name === undefined ? "" : `/${encodeURIComponent(name)}`}`;
  }
}

function messageOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) {
    return error.errors.map(messageOf).join("; ");
  }
  return error instanceof Error ? error.message : String(error);
}
