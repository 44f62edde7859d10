import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import grpc from "@grpc/grpc-js";
import emptyProto from "google-protobuf/google/protobuf/empty_pb.js";
import engineService from "@pulumi/pulumi/proto/engine_grpc_pb.js";
import engineProto from "@pulumi/pulumi/proto/engine_pb.js";
import type { LogRequest } from "@pulumi/pulumi/proto/engine_pb.js";
import providerService from "@pulumi/pulumi/proto/provider_grpc_pb.js";
import providerProto from "@pulumi/pulumi/proto/provider_pb.js";
import statusProto from "@pulumi/pulumi/proto/status_pb.js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Properties } from "../../../embedded/plugins/provider.ts";
import { engineAddress } from "../../../embedded/plugins/serve.ts";
import { UNKNOWN, fromStruct, secret, toStruct } from "../../../embedded/plugins/values.ts";

const FIXTURE = join(import.meta.dirname, "fixtures", "served-provider.ts");
const PLUGINS = join(import.meta.dirname, "../../../embedded/plugins");
const URN = "urn:pulumi:stack::project::a:b:C$served:index/thing:Thing::name::with::colons";

type Client = InstanceType<typeof providerService.ResourceProviderClient>;
type Method =
  | "attach"
  | "cancel"
  | "check"
  | "checkConfig"
  | "create"
  | "delete"
  | "diff"
  | "diffConfig"
  | "getPluginInfo"
  | "getSchema"
  | "handshake"
  | "read"
  | "update";

/** A plugin process and a client of it; `stop` ends both. */
async function start(file: string, ...args: string[]) {
  const child = spawn(process.execPath, [file, ...args], { stdio: ["pipe", "pipe", "inherit"] });
  const port = await firstLine(child);
  const client = new providerService.ResourceProviderClient(
    `127.0.0.1:${port}`,
    grpc.credentials.createInsecure(),
  );
  const stop = async (): Promise<void> => {
    client.close();
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
  };
  return { child, client, stop };
}

async function firstLine(child: ChildProcess): Promise<string> {
  if (child.stdout === null) throw new Error("the plugin has no stdout");
  const lines = createInterface({ input: child.stdout });
  const [line] = (await Promise.race([
    once(lines, "line"),
    once(child, "exit").then(() => ["ended before it told its port"]),
  ])) as [string];
  return line;
}

type Unary<Answer> = (
  message: object,
  callback: (error: grpc.ServiceError | null, answer: Answer) => void,
) => void;

function call<Answer>(client: Client, method: Method, request: object): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const methods = client as unknown as { [name in Method]: Unary<Answer> };
    methods[method](request, (error, answer) => (error === null ? resolve(answer) : reject(error)));
  });
}

/** What an engine is to a plugin: a place for its lines. */
async function startEngine() {
  const lines: string[] = [];
  const waiting: (() => void)[] = [];
  const server = new grpc.Server();
  const severities = Object.keys(engineProto.LogSeverity);
  server.addService(engineService.EngineService, {
    log: (
      { request }: { request: LogRequest },
      callback: grpc.sendUnaryData<InstanceType<typeof emptyProto.Empty>>,
    ) => {
      const kind = request.getEphemeral() ? "status" : severities[request.getSeverity()];
      lines.push(`${kind} ${request.getUrn()}: ${request.getMessage()}`);
      for (const wake of waiting.splice(0)) wake();
      callback(null, new emptyProto.Empty());
    },
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  const nextLine = (): Promise<void> => new Promise((resolve) => waiting.push(resolve));
  return { address: `127.0.0.1:${port}`, lines, nextLine, stop: () => server.forceShutdown() };
}

function named<Message extends { setUrn(urn: string): unknown; setName(name: string): unknown }>(
  message: Message,
  name = "it",
): Message {
  message.setUrn(URN);
  message.setName(name);
  return message;
}

function createRequest(name: string, properties: Properties = {}) {
  const request = named(new providerProto.CreateRequest(), name);
  request.setType("served:index/thing:Thing");
  request.setProperties(toStruct(properties));
  return request;
}

describe("engineAddress", () => {
  it.each<[string[], string | undefined]>([
    [["127.0.0.1:1"], "127.0.0.1:1"],
    [["--logtostderr", "-v=9", "--tracing", "file:./trace", "127.0.0.1:1"], "127.0.0.1:1"],
    [["-tracing", "http://x", "127.0.0.1:1", "more"], "127.0.0.1:1"],
    [["--tracing=http://x", "127.0.0.1:1"], "127.0.0.1:1"],
    [["-logtostderr"], undefined],
    [[], undefined],
  ])("finds it in %j", (argv, address) => {
    expect(engineAddress(argv)).toBe(address);
  });
});

describe("serve", () => {
  let engine: Awaited<ReturnType<typeof startEngine>>;
  let plugin: Awaited<ReturnType<typeof start>>;
  let client: Client;

  beforeAll(async () => {
    engine = await startEngine();
    plugin = await start(FIXTURE, "--logtostderr", engine.address);
    client = plugin.client;
  });
  afterAll(async () => {
    await plugin.stop();
    engine.stop();
  });

  type Bag = ReturnType<typeof toStruct> | undefined;
  const everything: Properties = {
    text: "ü",
    nothing: null,
    list: [1, [true, {}], UNKNOWN],
    key: secret({ inner: -0.5 }),
  };

  it("tells the version, a schema with its name, and that it has no handshake", async () => {
    const info = await call<{ getVersion(): string }>(
      client,
      "getPluginInfo",
      new emptyProto.Empty(),
    );
    const schema = await call<{ getSchema(): string }>(
      client,
      "getSchema",
      new providerProto.GetSchemaRequest(),
    );
    expect([info.getVersion(), JSON.parse(schema.getSchema())]).toEqual([
      "1.2.3",
      { name: "served", version: "1.2.3" },
    ]);
    await expect(
      call(client, "handshake", new providerProto.ProviderHandshakeRequest()),
    ).rejects.toMatchObject({ code: grpc.status.UNIMPLEMENTED });
  });

  it("hands a check to the provider whole, markers and all", async () => {
    const request = named(new providerProto.CheckRequest(), "thing");
    request.setOlds(toStruct({}));
    request.setNews(toStruct(everything));
    request.setRandomseed(Buffer.from([1, 2, 3]));
    const autonaming = new providerProto.CheckRequest.AutonamingOptions();
    autonaming.setProposedName("given");
    autonaming.setMode(providerProto.CheckRequest.AutonamingOptions.Mode.ENFORCE);
    request.setAutonaming(autonaming);
    const answer = await call<{ getInputs(): Bag }>(client, "check", request);
    expect(fromStruct(answer.getInputs())).toEqual({
      urn: URN,
      type: "served:index/thing:Thing",
      name: "thing",
      olds: {},
      news: everything,
      randomSeed: "AQID",
      autonaming: { proposedName: "given", mode: "ENFORCE" },
    });
  });

  it("leaves out what a request leaves out, and reads type and name from the URN", async () => {
    const request = new providerProto.CheckRequest();
    request.setUrn(URN);
    const answer = await call<{ getInputs(): Bag }>(client, "checkConfig", request);
    expect(fromStruct(answer.getInputs())).toEqual({
      urn: URN,
      type: "served:index/thing:Thing",
      name: "name::with::colons",
      news: {},
    });
  });

  it("passes check failures on, without inputs", async () => {
    const answer = await call<InstanceType<typeof providerProto.CheckResponse>>(
      client,
      "check",
      named(new providerProto.CheckRequest(), "refused"),
    );
    expect(answer.toObject().failuresList).toEqual([{ property: "a.b", reason: "it is wrong" }]);
    expect(answer.hasInputs()).toBe(false);
  });

  it.each<[Properties, object]>([
    [
      { changes: "DIFF_NONE" },
      {
        changes: providerProto.DiffResponse.DiffChanges.DIFF_NONE,
        replacesList: [],
        stablesList: [],
        diffsList: [],
        deletebeforereplace: false,
        hasdetaileddiff: false,
        detaileddiffMap: [],
      },
    ],
    [
      {
        changes: "DIFF_SOME",
        replaces: ["a"],
        stables: ["s"],
        diffs: ["a", "b"],
        deleteBeforeReplace: true,
        hasDetailedDiff: true,
        detailedDiff: { a: { kind: "UPDATE_REPLACE", inputDiff: true }, "b[0]": {} },
      },
      {
        changes: providerProto.DiffResponse.DiffChanges.DIFF_SOME,
        replacesList: ["a"],
        stablesList: ["s"],
        diffsList: ["a", "b"],
        deletebeforereplace: true,
        hasdetaileddiff: true,
        detaileddiffMap: [
          ["a", { kind: providerProto.PropertyDiff.Kind.UPDATE_REPLACE, inputdiff: true }],
          ["b[0]", { kind: providerProto.PropertyDiff.Kind.ADD, inputdiff: false }],
        ],
      },
    ],
  ])("carries the diff %j", async (answer, expected) => {
    const request = named(new providerProto.DiffRequest());
    request.setOlds(toStruct({ answer }));
    const response = await call<InstanceType<typeof providerProto.DiffResponse>>(
      client,
      "diff",
      request,
    );
    expect(response.toObject()).toEqual(expected);
  });

  it("carries every field of create, read and update there and back", async () => {
    const create = createRequest("plain", everything);
    create.setPreview(true);
    create.setTimeout(2.5);
    const created = await call<InstanceType<typeof providerProto.CreateResponse>>(
      client,
      "create",
      create,
    );
    expect([created.getId(), fromStruct(created.getProperties())]).toEqual([
      "id",
      {
        urn: URN,
        type: "served:index/thing:Thing",
        name: "plain",
        properties: everything,
        timeout: 2.5,
        preview: true,
      },
    ]);

    const update = named(new providerProto.UpdateRequest(), "u");
    update.setId("7");
    update.setOlds(toStruct({ a: 1 }));
    update.setOldInputs(toStruct({ b: 2 }));
    update.setNews(toStruct({ c: 3 }));
    update.setIgnorechangesList(["c"]);
    const updated = await call<{ getProperties(): Bag }>(client, "update", update);
    expect(fromStruct(updated.getProperties())).toEqual({
      id: "7",
      urn: URN,
      type: "served:index/thing:Thing",
      name: "u",
      olds: { a: 1 },
      oldInputs: { b: 2 },
      news: { c: 3 },
      ignoreChanges: ["c"],
    });

    const read = named(new providerProto.ReadRequest(), "r");
    read.setId("8");
    read.setProperties(toStruct({ a: 1 }));
    const found = await call<InstanceType<typeof providerProto.ReadResponse>>(client, "read", read);
    expect([found.getId(), fromStruct(found.getInputs())]).toEqual(["found", { input: null }]);
    expect(fromStruct(found.getProperties())).toEqual({
      id: "8",
      urn: URN,
      type: "served:index/thing:Thing",
      name: "r",
      properties: { a: 1 },
    });
  });

  it("answers a read of what is gone with an empty id and nothing else", async () => {
    const answer = await call<InstanceType<typeof providerProto.ReadResponse>>(
      client,
      "read",
      named(new providerProto.ReadRequest(), "gone"),
    );
    expect([answer.getId(), answer.hasProperties(), answer.hasInputs()]).toEqual([
      "",
      false,
      false,
    ]);
  });

  it("carries messages far beyond gRPC's usual 4 MB", async () => {
    const large = "x".repeat(4_300_000);
    const wide = new providerService.ResourceProviderClient(
      client.getChannel().getTarget().replace(/^dns:/, ""),
      grpc.credentials.createInsecure(),
      { "grpc.max_receive_message_length": -1 },
    );
    try {
      const answer = await call<{ getProperties(): Bag }>(
        wide,
        "create",
        createRequest("large", { large }),
      );
      expect(fromStruct(answer.getProperties())).toMatchObject({ properties: { large } });
    } finally {
      wide.close();
    }
  });

  it("fails a call with the error's message and nothing of its stack", async () => {
    const error: unknown = await call(client, "create", createRequest("fails")).catch(
      (reason: unknown) => reason,
    );
    expect(error).toMatchObject({ code: grpc.status.UNKNOWN, details: "it cannot be made" });
    expect((error as grpc.ServiceError).metadata.get("grpc-status-details-bin")).toEqual([]);
    const gone = named(new providerProto.DeleteRequest());
    gone.setId("kept");
    await expect(call(client, "delete", gone)).rejects.toMatchObject({ details: "it cannot go" });
  });

  it("says which calls are not implemented", async () => {
    await expect(
      call(client, "diffConfig", named(new providerProto.DiffRequest())),
    ).rejects.toMatchObject({
      code: grpc.status.UNIMPLEMENTED,
      details: "DiffConfig is not implemented",
    });
  });

  it("tells what exists already when only the wait for it failed", async () => {
    const error = (await call(client, "create", createRequest("half-made")).catch(
      (reason: unknown) => reason,
    )) as grpc.ServiceError;
    expect(error).toMatchObject({ code: grpc.status.UNKNOWN, details: "slow; cold" });
    const [bytes] = error.metadata.get("grpc-status-details-bin");
    const status = statusProto.Status.deserializeBinary(new Uint8Array(bytes as Buffer));
    expect([status.getCode(), status.getMessage()]).toEqual([grpc.status.UNKNOWN, "slow; cold"]);
    const [any, ...more] = status.getDetailsList();
    expect([any?.getTypeName(), more]).toEqual(["pulumirpc.ErrorResourceInitFailed", []]);
    const detail = providerProto.ErrorResourceInitFailed.deserializeBinary(
      any?.getValue_asU8() ?? new Uint8Array(),
    );
    expect({
      id: detail.getId(),
      reasons: detail.getReasonsList(),
      properties: fromStruct(detail.getProperties()),
      inputs: fromStruct(detail.getInputs()),
    }).toEqual({
      id: "half",
      reasons: ["slow", "cold"],
      properties: { made: true },
      inputs: { asked: 1 },
    });
  });

  it("delivers every line to the engine before the call is answered", async () => {
    engine.lines.length = 0;
    await call(client, "create", createRequest("talks"));
    expect(engine.lines.toSorted()).toEqual(
      [
        `DEBUG ${URN}: this is debug`,
        `ERROR ${URN}: this is error`,
        `INFO ${URN}: this is info`,
        "INFO urn:other: elsewhere",
        `WARNING ${URN}: this is warning`,
        `status ${URN}: working`,
      ].toSorted(),
    );
  });

  it("ends the wait of one call when its caller gives up, and of all when the engine cancels", async () => {
    const waiting = engine.nextLine();
    const single = client.create(createRequest("waits"), () => undefined);
    await waiting;
    const ended = once(single, "status");
    single.cancel();
    await ended;

    const alsoWaiting = engine.nextLine();
    const all = call(client, "create", createRequest("waits"));
    const refused = expect(all).rejects.toMatchObject({ details: "The engine cancelled the run." });
    await alsoWaiting;
    await call(client, "cancel", new emptyProto.Empty());
    await refused;
  });
});

describe("a served plugin's end", () => {
  const END_WITHIN_MS = 15_000;

  async function ended(child: ChildProcess): Promise<number | null | "still there"> {
    if (child.exitCode !== null) return child.exitCode;
    const signal = AbortSignal.timeout(END_WITHIN_MS);
    return once(child, "exit", { signal }).then(
      ([code]) => code as number | null,
      () => "still there" as const,
    );
  }

  it.each(["SIGINT", "SIGTERM"] as const)("comes in order on %s", async (signal) => {
    const plugin = await start(FIXTURE);
    plugin.child.kill(signal);
    expect(await ended(plugin.child)).toBe(0);
    await plugin.stop();
  });

  it("comes when the engine's end of stdin closes", async () => {
    const plugin = await start(FIXTURE);
    plugin.child.stdin?.end();
    expect(await ended(plugin.child)).toBe(0);
    await plugin.stop();
  });

  it("comes when the parent is killed, even if stdin never closes", async () => {
    // The parent's stdin is /dev/null, which the plugin inherits: only its parent's death tells it.
    const parent = spawn(
      process.execPath,
      [
        "--eval",
        `const { spawn } = require("node:child_process");
         const plugin = spawn(process.execPath, [${JSON.stringify(FIXTURE)}], { stdio: ["ignore", "pipe", "inherit"] });
         plugin.stdout.once("data", () => process.stdout.write(plugin.pid + "\\n"));`,
      ],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    const pid = Number(await firstLine(parent));
    expect(isAlive(pid)).toBe(true);
    parent.kill("SIGKILL");
    const deadline = Date.now() + END_WITHIN_MS;
    while (isAlive(pid) && Date.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    expect(isAlive(pid)).toBe(false);
  });

  function isAlive(pid: number): boolean {
    try {
      process.kill(pid, 0);
      return true;
    } catch {
      return false;
    }
  }
});

describe("the random and tls plugins as processes", () => {
  it.each([
    ["random", "4.21.1", "random:index/randomBytes:RandomBytes", { length: 8 }],
    ["tls", "5.5.1", "tls:index/privateKey:PrivateKey", { algorithm: "ED25519" }],
  ])("%s answers as version %s and makes a %s", async (name, version, type, properties) => {
    const plugin = await start(join(PLUGINS, name, "main.ts"), "127.0.0.1:1");
    try {
      const info = await call<{ getVersion(): string }>(
        plugin.client,
        "getPluginInfo",
        new emptyProto.Empty(),
      );
      const request = createRequest("made", properties);
      request.setType(type);
      const created = await call<InstanceType<typeof providerProto.CreateResponse>>(
        plugin.client,
        "create",
        request,
      );
      expect(info.getVersion()).toBe(version);
      expect(created.getId()).toMatch(/^[0-9A-Za-z+/=]+$/);
      expect(fromStruct(created.getProperties())).toMatchObject(properties);
    } finally {
      await plugin.stop();
    }
  });
});
