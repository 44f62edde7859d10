import grpc from "@grpc/grpc-js";
import { connect } from "node:http2";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { UnaryHandler } from "../../../embedded/plugins/unary-server.ts";
import { serveUnary, UNIMPLEMENTED, UNKNOWN } from "../../../embedded/plugins/unary-server.ts";

const method = (name: string): grpc.MethodDefinition<unknown, unknown> => ({
  path: `/test.Service/${name}`,
  requestStream: false,
  responseStream: false,
  requestSerialize: (text) => Buffer.from(text as string),
  requestDeserialize: (bytes) => {
    if (bytes.includes("unreadable")) throw new Error("This message cannot be read.");
    return bytes.toString();
  },
  responseSerialize: (text) => {
    if (text === "unsayable") throw new Error("This answer cannot be sent.");
    return Buffer.from(text as string);
  },
  responseDeserialize: (bytes) => bytes.toString(),
});
const METHODS = Object.fromEntries(
  ["echo", "fail", "hang", "throws", "twice", "missing"].map((name) => [name, method(name)]),
);

let failure: Parameters<Parameters<UnaryHandler>[1]>[0] = {};
const gone = Promise.withResolvers<string>();
const handlers: Readonly<Record<string, UnaryHandler>> = {
  echo: ({ request }, answer) => answer(null, request),
  fail: (_, answer) => answer(failure),
  hang: (call, answer) =>
    call.on("cancelled", () => {
      answer(null, "too late");
      gone.resolve(String(call.request));
    }),
  throws: () => {
    throw new Error("thrown");
  },
  twice: (_, answer) => {
    answer(null, "first");
    answer({ details: "second" });
  },
};

let served: Awaited<ReturnType<typeof serveUnary>>;
let client: grpc.Client;

beforeAll(async () => {
  served = await serveUnary(METHODS, handlers);
  client = new grpc.Client(`127.0.0.1:${served.port}`, grpc.credentials.createInsecure(), {
    "grpc.max_receive_message_length": -1,
  });
});
afterAll(() => {
  client.close();
  served.stop();
});

/** One call, by the library's own client. */
function call(name: string, request: string, options: grpc.CallOptions = {}): Promise<unknown> {
  const { path, requestSerialize, responseDeserialize } = METHODS[name] ?? method(name);
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      options,
      (error, response) => (error === null ? resolve(response) : reject(error)),
    );
  });
}

describe("a call", () => {
  it.each([
    ["nothing", ""],
    ["a word", "word"],
    ["five million characters", "ä".repeat(5_000_000)],
  ])("brings %s there and back", async (_, text) => {
    expect(await call("echo", text)).toBe(text);
  });

  it("is one of many at once", async () => {
    const texts = Array.from({ length: 200 }, (_, i) => `${i} `.repeat(1_000));
    expect(await Promise.all(texts.map((text) => call("echo", text)))).toEqual(texts);
  });

  it("is answered once", async () => {
    expect(await call("twice", "")).toBe("first");
  });

  it("tells its handler when the caller no longer waits", async () => {
    await expect(call("hang", "waited", { deadline: Date.now() + 200 })).rejects.toMatchObject({
      code: grpc.status.DEADLINE_EXCEEDED,
    });
    expect(await gone.promise).toBe("waited");
  });
});

describe("a call that fails", () => {
  it.each([
    ["a code and details", { code: 5, details: "no such thing" }, 5, "no such thing"],
    ["details alone", { details: "ä 100 %\n\u{1f600}" }, UNKNOWN, "ä 100 %\n\u{1f600}"],
    ["an error", new Error("its message"), UNKNOWN, "its message"],
    ["half a character", { details: "\ud800" }, UNKNOWN, "\ufffd"],
    ["a long text, cut off", { details: "ä".repeat(70_000) }, UNKNOWN, `${"ä".repeat(7_221)}…`],
    ["nothing", {}, UNKNOWN, ""],
  ])("says %s", async (_, given, code, details) => {
    failure = given;
    await expect(call("fail", "")).rejects.toMatchObject({ code, details });
  });

  it("carries bytes in its metadata", async () => {
    const metadata = new grpc.Metadata();
    const bytes = Buffer.alloc(40_000, 0xfe);
    metadata.add("grpc-status-details-bin", bytes);
    failure = { details: "with bytes", metadata };
    const error = await call("fail", "").catch((thrown: unknown) => thrown);
    expect((error as grpc.ServiceError).metadata.get("grpc-status-details-bin")).toEqual([bytes]);

    metadata.set("grpc-status-details-bin", Buffer.alloc(60_000, 0xfe));
    await expect(call("fail", "")).rejects.toMatchObject({ code: UNKNOWN, details: "with bytes" });
  });

  it.each(["missing", "unheard-of"])("is refused where the method is %s", async (name) => {
    await expect(call(name, "")).rejects.toMatchObject({
      code: UNIMPLEMENTED,
      details: `/test.Service/${name} is not served.`,
    });
  });

  it("says why an answer cannot be sent", async () => {
    await expect(call("echo", "unsayable")).rejects.toMatchObject({
      code: UNKNOWN,
      details: "This answer cannot be sent.",
    });
  });

  it("says what its handler throws", async () => {
    await expect(call("throws", "")).rejects.toMatchObject({ code: UNKNOWN, details: "thrown" });
  });

  it("says what its reader said of the message", async () => {
    await expect(call("echo", "unreadable")).rejects.toMatchObject({
      code: UNKNOWN,
      details: "This message cannot be read.",
    });
  });

  it.each([
    ["no message", Buffer.of(), "A call of 0 bytes is not one message."],
    ["half a message", Buffer.of(0, 0, 0, 0, 9, 1), "A call of 6 bytes is not one message."],
    ["a compressed one", Buffer.of(1, 0, 0, 0, 1, 1), "A compressed message cannot be read."],
  ])("says so where %s came", async (_, body, said) => {
    const session = connect(`http://127.0.0.1:${served.port}`);
    const stream = session.request({ ":method": "POST", ":path": METHODS["echo"]?.path });
    const headers = new Promise<Record<string, unknown>>((resolve, reject) => {
      stream.once("response", resolve);
      stream.once("error", reject);
    });
    stream.end(body);
    expect(decodeURIComponent(String((await headers)["grpc-message"]))).toBe(said);
    session.destroy();
  });
});
