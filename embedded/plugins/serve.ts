/** Serves one provider plugin to the engine that started this process. */
import grpc from "@grpc/grpc-js";
import anyProto from "google-protobuf/google/protobuf/any_pb.js";
import emptyProto from "google-protobuf/google/protobuf/empty_pb.js";
import engineService from "@pulumi/pulumi/proto/engine_grpc_pb.js";
import engineProto from "@pulumi/pulumi/proto/engine_pb.js";
import pluginProto from "@pulumi/pulumi/proto/plugin_pb.js";
import providerService from "@pulumi/pulumi/proto/provider_grpc_pb.js";
import providerProto from "@pulumi/pulumi/proto/provider_pb.js";
import statusProto from "@pulumi/pulumi/proto/status_pb.js";
import type * as message from "@pulumi/pulumi/proto/provider_pb.js";
import type {
  CallContext,
  CheckFailure,
  CheckRequest,
  CheckResponse,
  DiffRequest,
  DiffResponse,
  ResourceProvider,
} from "./provider.ts";
import { InitializationFailure, Unimplemented } from "./provider.ts";
import { fromStruct, toStruct } from "./values.ts";
import { endWithEngine } from "./end-with-engine.ts";
import { turn } from "./turn.ts";
import { failureOf, serveUnary, UNIMPLEMENTED, UNKNOWN } from "./unary-server.ts";
import type { CallFailure, UnaryHandler } from "./unary-server.ts";

/** A state can be large; the engine itself sends up to 400 MB. */
const MAX_MESSAGE_BYTES = 400 * 1024 * 1024;
const CHANNEL_OPTIONS = {
  "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
  "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
};
/** How long a provider may take to let go of its connections, in milliseconds: the engine kills after 5 s. */
const CLOSE_TIMEOUT_MS = 2_000;

type Severity = Parameters<CallContext["log"]>[0];

/**
 * The engine's address among a plugin's arguments. The engine may put flags for logging and tracing before it.
 *
 * @returns undefined when no address is given: a plugin then runs without an engine to log to.
 */
export function engineAddress(argv: readonly string[]): string | undefined {
  for (let i = 0; i < argv.length; i += 1) {
    const argument = argv[i] ?? "";
    if (/^--?tracing$/.test(argument)) i += 1;
    else if (!argument.startsWith("-")) return argument;
  }
  return undefined;
}

/** Sends lines to the engine's display, in order, and knows when the last one has arrived. */
class EngineLog {
  #client: InstanceType<typeof engineService.EngineClient> | undefined;
  readonly #pending = new Set<Promise<void>>();

  connect(address: string): void {
    this.#client?.close();
    this.#client = new engineService.EngineClient(
      address,
      grpc.credentials.createInsecure(),
      CHANNEL_OPTIONS,
    );
  }

  send(severity: Severity, text: string, urn: string, ephemeral: boolean): void {
    const client = this.#client;
    if (client === undefined) {
      process.stderr.write(`${severity}: ${text}\n`);
      return;
    }
    const request = new engineProto.LogRequest();
    request.setSeverity(
      engineProto.LogSeverity[severity.toUpperCase() as keyof typeof engineProto.LogSeverity],
    );
    request.setMessage(text);
    request.setUrn(urn);
    request.setEphemeral(ephemeral);
    const sent = new Promise<void>((resolve) => {
      // A line that the engine no longer takes must not fail the call that wrote it.
      client.log(request, () => {
        this.#pending.delete(sent);
        resolve();
      });
    });
    this.#pending.add(sent);
  }

  async flush(): Promise<void> {
    await Promise.all(this.#pending);
  }

  close(): void {
    this.#client?.close();
  }
}

/** What a failed call tells the engine: the message alone, plus what exists already when only the wait failed. */
function serviceError(error: unknown): CallFailure {
  const failure = failureOf(error);
  if (error instanceof Unimplemented) return { ...failure, code: UNIMPLEMENTED };
  if (!(error instanceof InitializationFailure)) return failure;

  const detail = new providerProto.ErrorResourceInitFailed();
  detail.setId(error.id);
  detail.setProperties(toStruct(error.properties));
  detail.setInputs(toStruct(error.inputs));
  detail.setReasonsList([...error.reasons]);
  const any = new anyProto.Any();
  any.pack(detail.serializeBinary(), "pulumirpc.ErrorResourceInitFailed");
  const status = new statusProto.Status();
  status.setCode(UNKNOWN);
  status.setMessage(error.message);
  status.addDetails(any);
  const metadata = new grpc.Metadata();
  metadata.add("grpc-status-details-bin", Buffer.from(status.serializeBinary()));
  return { ...failure, metadata };
}

const AUTONAMING_MODES = ["PROPOSE", "ENFORCE", "DISABLE"] as const;

function checkRequest(request: message.CheckRequest): CheckRequest {
  const seed = Buffer.from(request.getRandomseed() as Uint8Array).toString("base64");
  const autonaming = request.getAutonaming();
  const mode = AUTONAMING_MODES[autonaming?.getMode() ?? 0];
  return {
    ...resource(request),
    ...(request.hasOlds() ? { olds: fromStruct(request.getOlds()) } : {}),
    news: fromStruct(request.getNews()),
    ...(seed === "" ? {} : { randomSeed: seed }),
    ...(autonaming === undefined || mode === undefined
      ? {}
      : { autonaming: { proposedName: autonaming.getProposedName(), mode } }),
  };
}

function checkResponse(response: CheckResponse): message.CheckResponse {
  const answer = new providerProto.CheckResponse();
  if (response.inputs !== undefined) answer.setInputs(toStruct(response.inputs));
  answer.setFailuresList(failures(response.failures));
  return answer;
}

function failures(list: readonly CheckFailure[] | undefined): message.CheckFailure[] {
  return (list ?? []).map(({ property, reason }) => {
    const failure = new providerProto.CheckFailure();
    failure.setProperty(property);
    failure.setReason(reason);
    return failure;
  });
}

function diffRequest(request: message.DiffRequest): DiffRequest {
  return {
    id: request.getId(),
    ...resource(request),
    olds: fromStruct(request.getOlds()),
    ...oldInputs(request),
    news: fromStruct(request.getNews()),
    ...ignoreChanges(request),
  };
}

function diffResponse(response: DiffResponse): message.DiffResponse {
  const answer = new providerProto.DiffResponse();
  answer.setChanges(providerProto.DiffResponse.DiffChanges[response.changes]);
  answer.setReplacesList([...(response.replaces ?? [])]);
  answer.setStablesList([...(response.stables ?? [])]);
  answer.setDeletebeforereplace(response.deleteBeforeReplace ?? false);
  answer.setDiffsList([...(response.diffs ?? [])]);
  answer.setHasdetaileddiff(response.hasDetailedDiff ?? false);
  const detailed = answer.getDetaileddiffMap();
  for (const [path, { kind, inputDiff }] of Object.entries(response.detailedDiff ?? {})) {
    const diff = new providerProto.PropertyDiff();
    // The protocol's zero value: absent in a recorded answer means this.
    diff.setKind(providerProto.PropertyDiff.Kind[kind ?? "ADD"]);
    diff.setInputdiff(inputDiff ?? false);
    detailed.set(path, diff);
  }
  return answer;
}

function resource(request: { getUrn(): string; getType(): string; getName(): string }) {
  const urn = request.getUrn();
  // Older engines send the URN alone; both other fields are its last parts.
  return {
    urn,
    type: request.getType() || (urn.split("::")[2]?.split("$").at(-1) ?? ""),
    name: request.getName() || urn.split("::").slice(3).join("::"),
  };
}

function oldInputs(
  request: { hasOldInputs(): boolean } & Pick<message.DiffRequest, "getOldInputs">,
) {
  return request.hasOldInputs() ? { oldInputs: fromStruct(request.getOldInputs()) } : {};
}

function ignoreChanges(request: { getIgnorechangesList(): string[] }) {
  const list = request.getIgnorechangesList();
  return list.length === 0 ? {} : { ignoreChanges: list };
}

function timeout(request: { getTimeout(): number }) {
  const seconds = request.getTimeout();
  return seconds === 0 ? {} : { timeout: seconds };
}

function preview(request: { getPreview(): boolean }) {
  return request.getPreview() ? { preview: true } : {};
}

/**
 * Serves the provider on a free loopback port, prints the port as the first line of stdout and ends the process
 * when the engine asks for it or is gone.
 *
 * A call that fails is answered with the error's message, never with its stack.
 */
export async function serve(provider: ResourceProvider): Promise<void> {
  const log = new EngineLog();
  const cancelled = new AbortController();

  /** One call: the request read, the provider asked, its lines delivered, the answer or the error sent. */
  function unary<Request, Response>(
    answer: (request: Request, context: CallContext) => Response | Promise<Response>,
  ): UnaryHandler {
    return (call, reply) => {
      const request = call.request as Request;
      const urn = (request as { getUrn?(): string }).getUrn?.() ?? "";
      const ended = new AbortController();
      // A provider that never waits must not make the process listen for each of thousands of calls.
      call.on("cancelled", () => ended.abort(new Error("The call was cancelled.")));
      const context: CallContext = {
        signal: AbortSignal.any([cancelled.signal, ended.signal]),
        log: (severity, text, about) => log.send(severity, text, about ?? urn, false),
        status: (text, about) => log.send("info", text, about ?? urn, true),
      };
      void (async () => {
        try {
          const response = await answer(request, context);
          await log.flush();
          reply(null, response);
        } catch (error) {
          await log.flush();
          reply(serviceError(error));
        }
      })();
    };
  }

  const handlers: { [method: string]: UnaryHandler } = {
    getPluginInfo: unary(() => {
      const info = new pluginProto.PluginInfo();
      info.setVersion(provider.version);
      return info;
    }),
    attach: unary((request: InstanceType<typeof pluginProto.PluginAttach>) => {
      log.connect(request.getAddress());
      return new emptyProto.Empty();
    }),
    getSchema: unary(() => {
      const answer = new providerProto.GetSchemaResponse();
      answer.setSchema(JSON.stringify({ name: provider.name, version: provider.version }));
      return answer;
    }),
    cancel: unary(() => {
      cancelled.abort(new Error("The engine cancelled the run."));
      return new emptyProto.Empty();
    }),
    checkConfig: unary(async (request: message.CheckRequest) =>
      checkResponse(await provider.checkConfig(checkRequest(request))),
    ),
    diffConfig: unary(async (request: message.DiffRequest) =>
      diffResponse(await provider.diffConfig(diffRequest(request))),
    ),
    configure: unary(async (request: message.ConfigureRequest, context) => {
      const response = await provider.configure(
        {
          ...(request.getUrn() ? { urn: request.getUrn() ?? "" } : {}),
          ...(request.getName() ? { name: request.getName() ?? "" } : {}),
          variables: Object.fromEntries(request.getVariablesMap().toArray()),
          ...(request.hasArgs() ? { args: fromStruct(request.getArgs()) } : {}),
        },
        context,
      );
      const answer = new providerProto.ConfigureResponse();
      answer.setAcceptsecrets(response.acceptSecrets ?? false);
      answer.setSupportspreview(response.supportsPreview ?? false);
      answer.setAcceptresources(response.acceptResources ?? false);
      answer.setAcceptoutputs(response.acceptOutputs ?? false);
      answer.setSupportsAutonamingConfiguration(response.supportsAutonamingConfiguration ?? false);
      return answer;
    }),
    check: unary(async (request: message.CheckRequest, context) =>
      checkResponse(await provider.check(checkRequest(request), context)),
    ),
    diff: unary(async (request: message.DiffRequest, context) =>
      diffResponse(await provider.diff(diffRequest(request), context)),
    ),
    create: unary(async (request: message.CreateRequest, context) => {
      const response = await provider.create(
        {
          ...resource(request),
          properties: fromStruct(request.getProperties()),
          ...timeout(request),
          ...preview(request),
        },
        context,
      );
      const answer = new providerProto.CreateResponse();
      answer.setId(response.id ?? "");
      answer.setProperties(toStruct(response.properties));
      return answer;
    }),
    read: unary(async (request: message.ReadRequest, context) => {
      const response = await provider.read(
        {
          id: request.getId(),
          ...resource(request),
          ...(request.hasProperties() ? { properties: fromStruct(request.getProperties()) } : {}),
          ...(request.hasInputs() ? { inputs: fromStruct(request.getInputs()) } : {}),
        },
        context,
      );
      const answer = new providerProto.ReadResponse();
      answer.setId(response.id ?? "");
      if (response.properties !== undefined) answer.setProperties(toStruct(response.properties));
      if (response.inputs !== undefined) answer.setInputs(toStruct(response.inputs));
      return answer;
    }),
    update: unary(async (request: message.UpdateRequest, context) => {
      const response = await provider.update(
        {
          id: request.getId(),
          ...resource(request),
          olds: fromStruct(request.getOlds()),
          ...oldInputs(request),
          news: fromStruct(request.getNews()),
          ...timeout(request),
          ...ignoreChanges(request),
          ...preview(request),
        },
        context,
      );
      const answer = new providerProto.UpdateResponse();
      answer.setProperties(toStruct(response.properties));
      return answer;
    }),
    delete: unary(async (request: message.DeleteRequest, context) => {
      await provider.delete(
        {
          id: request.getId(),
          ...resource(request),
          properties: fromStruct(request.getProperties()),
          ...oldInputs(request),
          ...timeout(request),
        },
        context,
      );
      return new emptyProto.Empty();
    }),
    invoke: unary(async (request: message.InvokeRequest, context) => {
      if (provider.invoke === undefined) {
        throw new Error(
          `Function "${request.getTok()}": the embedded ${provider.name} plugin has no functions. Use a resource instead.`,
        );
      }
      const response = await provider.invoke(
        { tok: request.getTok(), args: fromStruct(request.getArgs()), ...preview(request) },
        context,
      );
      const answer = new providerProto.InvokeResponse();
      if (response.return !== undefined) answer.setReturn(toStruct(response.return));
      answer.setFailuresList(failures(response.failures));
      return answer;
    }),
  };

  // Methods without a handler are answered with "unimplemented", as the official plugins answer Handshake.
  const server = await serveUnary(providerService.ResourceProviderService, handlers);

  // All is loaded and listens: what is left depends on who asks.
  await turn();
  const address = engineAddress(process.argv.slice(2));
  if (address !== undefined) log.connect(address);

  let ending = false;
  const end = (exitCode: number): void => {
    if (ending) return;
    ending = true;
    cancelled.abort(new Error("The plugin is ending."));
    setTimeout(() => process.exit(exitCode), CLOSE_TIMEOUT_MS);
    void Promise.resolve(provider.close?.())
      .catch((error: unknown) => process.stderr.write(`${serviceError(error).details}\n`))
      .finally(() => {
        server.stop();
        log.close();
        process.exit(exitCode);
      });
  };
  process.once("SIGINT", () => end(0));
  process.once("SIGTERM", () => end(0));
  process.on("uncaughtException", (error) => {
    log.send("error", error.message, "", false);
    void log.flush().finally(() => end(1));
  });
  endWithEngine(() => end(0));

  process.stdout.write(`${server.port}\n`);
}
