/**
 * A gRPC server for calls of one message each way, which is all that the engine asks of a provider and of a policy pack.
 *
 * `@grpc/grpc-js` serves these too, and each call through it costs about 0.4 ms more in a process that lives for one
 * run; the engine asks a pack twice and a provider up to four times about each resource, and waits each time.
 */
import { createServer } from "node:http2";
import type { ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import type { MethodDefinition, Metadata } from "@grpc/grpc-js";

/** A call that failed, as gRPC says it. */
export interface CallFailure {
  /** @default UNKNOWN */
  readonly code?: number | undefined;
  /** @default the message, which is what an `Error` has */
  readonly details?: string | undefined;
  readonly message?: string | undefined;
  readonly metadata?: Metadata | undefined;
}
export interface UnaryCall {
  request: unknown;
  /** Tells when the caller no longer waits. */
  on(event: "cancelled", listener: () => void): void;
}
export type Answer = (failure: CallFailure | null | undefined, response?: unknown) => void;
export type UnaryHandler = (call: UnaryCall, answer: Answer) => void;
type Methods = Readonly<Record<string, MethodDefinition<unknown, unknown>>>;

/** gRPC's number for a method that nobody serves. */
export const UNIMPLEMENTED = 12;
/** And for a failure of no other kind. */
export const UNKNOWN = 2;

/** A flag that says whether it is compressed, and four bytes of length, stand before each message. */
const PREFIX_BYTES = 5;
/** A stack's resources come in one message: without this they come in parts of 64 KiB, each asked for. */
const WINDOW_BYTES = 64 * 1024 * 1024;
/** A failure travels in headers. Node ends the whole connection over one that is longer than 64 KiB. */
const HEADER_BYTES = 65_000;
const HTTP2_OK = { ":status": 200, "content-type": "application/grpc+proto" } as const;

/**
 * Serves these methods on a free port of the loopback.
 *
 * @param handlers by the method's name; one that is missing is answered with `UNIMPLEMENTED`
 * @returns the port, and how to stop listening
 */
export async function serveUnary(
  methods: Methods,
  handlers: Readonly<Record<string, UnaryHandler>>,
): Promise<{ readonly port: number; stop(): void }> {
  const served = new Map(
    Object.entries(methods).map(([name, method]) => [
      method.path,
      { method, handler: handlers[name] },
    ]),
  );
  const server = createServer({
    settings: { initialWindowSize: WINDOW_BYTES },
    maxSendHeaderBlockLength: 4 * HEADER_BYTES,
    // In MB. The engine is the only caller, and sends up to 400 of them.
    maxSessionMemory: Number.MAX_SAFE_INTEGER,
  });
  server.on("session", (session) => session.setLocalWindowSize(WINDOW_BYTES));
  server.on("stream", (stream, headers) => {
    // A caller that goes away ends the stream with an error; whoever listens learns of it as "cancelled".
    stream.on("error", () => undefined);
    const called = served.get(headers[":path"] ?? "");
    if (called?.handler === undefined) {
      stream.resume();
      fail(stream, { code: UNIMPLEMENTED, details: `${headers[":path"] ?? ""} is not served.` });
      return;
    }
    serveCall(stream, called.method, called.handler);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    stop: () => {
      server.close();
    },
  };
}

function serveCall(
  stream: ServerHttp2Stream,
  method: MethodDefinition<unknown, unknown>,
  handler: UnaryHandler,
): void {
  const parts: Buffer[] = [];
  stream.on("data", (part: Buffer) => parts.push(part));
  stream.on("end", () => {
    let isAnswered = false;
    // Never throws: whoever answers has nobody to tell, and the caller would wait for ever.
    const answer: Answer = (failure, response) => {
      if (isAnswered || stream.closed || stream.destroyed) return;
      isAnswered = true;
      if (failure) {
        fail(stream, failure);
        return;
      }
      try {
        succeed(stream, method.responseSerialize(response));
      } catch (error) {
        fail(stream, failureOf(error));
      }
    };
    const on: UnaryCall["on"] = (_event, listener) => {
      stream.once("close", () => {
        if (!isAnswered) listener();
      });
    };
    try {
      handler({ request: method.requestDeserialize(messageOf(Buffer.concat(parts))), on }, answer);
    } catch (error) {
      answer(failureOf(error));
    }
  });
}

/** What an error tells the caller: its message, never its stack. */
export function failureOf(error: unknown): CallFailure {
  return { details: error instanceof Error ? error.message : String(error) };
}

function messageOf(bytes: Buffer): Buffer {
  if (bytes.length < PREFIX_BYTES || bytes.readUInt32BE(1) !== bytes.length - PREFIX_BYTES) {
    throw new Error(`A call of ${bytes.length} bytes is not one message.`);
  }
  if (bytes[0] !== 0) throw new Error("A compressed message cannot be read.");
  return bytes.subarray(PREFIX_BYTES);
}

function succeed(stream: ServerHttp2Stream, message: Buffer): void {
  const framed = Buffer.allocUnsafe(PREFIX_BYTES + message.length);
  framed[0] = 0;
  framed.writeUInt32BE(message.length, 1);
  framed.set(message, PREFIX_BYTES);
  stream.respond(HTTP2_OK, { waitForTrailers: true });
  stream.once("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
  stream.end(framed);
}

/** What does not fit is cut off (the message) or left out (what else the headers carry): the call fails all the same. */
function fail(
  stream: ServerHttp2Stream,
  { code, message = "", details = message, metadata }: CallFailure,
): void {
  const fitting = Object.entries(metadata?.toHttp2Headers() ?? {}).filter(
    ([, value]) => String(value).length <= HEADER_BYTES,
  );
  stream.respond(
    {
      ...HTTP2_OK,
      ...Object.fromEntries(fitting),
      "grpc-status": String(code ?? UNKNOWN),
      "grpc-message": encodedMessage(details),
    },
    { endStream: true },
  );
}

function encodedMessage(text: string): string {
  const encoded = encodeURI(text.toWellFormed());
  if (encoded.length <= HEADER_BYTES) return encoded;
  // A character becomes nine at most.
  return encodeURI(`${text.slice(0, HEADER_BYTES / 9 - 1)}…`.toWellFormed());
}
