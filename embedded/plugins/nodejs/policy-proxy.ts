/** Stands before a policy pack's process until the engine has said which stack the pack will judge. */
import grpc from "@grpc/grpc-js";
import analyzerService from "@pulumi/pulumi/proto/analyzer_grpc_pb.js";
import analyzerProto from "@pulumi/pulumi/proto/analyzer_pb.js";

export type StackConfiguration = ReturnType<
  typeof analyzerProto.AnalyzerStackConfigureRequest.deserializeBinary
>;

const OPTIONS = { "grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1 };

const same = (bytes: Buffer): Buffer => bytes;

/**
 * Answers the engine's first calls itself and hands all others, byte for byte, to the pack.
 *
 * A pack learns its stack and configuration from its environment, so it can only be started once the engine has
 * sent them; and the engine sends them only to a server that already answers.
 */
export class PolicyProxy {
  readonly #server = new grpc.Server(OPTIONS);
  /** Settled by the engine's first telling call: the configuration, or none (`pulumi policy publish`). */
  readonly configuration: Promise<StackConfiguration | undefined>;
  readonly #configure: (configuration: StackConfiguration | undefined) => void;
  readonly #pack: Promise<grpc.Client>;
  readonly #attach: (client: Promise<grpc.Client>) => void;
  readonly #reject: (error: Error) => void;

  constructor() {
    const configured = Promise.withResolvers<StackConfiguration | undefined>();
    this.configuration = configured.promise;
    this.#configure = configured.resolve;
    const attached = Promise.withResolvers<grpc.Client>();
    this.#pack = attached.promise;
    this.#attach = attached.resolve;
    this.#reject = attached.reject;
    this.#pack.catch(() => undefined);

    const definition: grpc.ServiceDefinition = Object.fromEntries(
      Object.entries(analyzerService.AnalyzerService).map(([name, method]) => [
        name,
        {
          ...(method as grpc.MethodDefinition<unknown, unknown>),
          requestSerialize: same,
          requestDeserialize: same,
          responseSerialize: same,
          responseDeserialize: same,
        },
      ]),
    );
    const handlers: grpc.UntypedServiceImplementation = {};
    for (const [name, { path }] of Object.entries(definition)) {
      handlers[name] = this.#forward(path);
    }
    handlers["handshake"] = (_call: unknown, callback: grpc.sendUnaryData<Buffer>) => {
      callback(null, serialized(new analyzerProto.AnalyzerHandshakeResponse()));
    };
    handlers["configureStack"] = (
      call: grpc.ServerUnaryCall<Buffer, Buffer>,
      callback: grpc.sendUnaryData<Buffer>,
    ) => {
      this.#configure(analyzerProto.AnalyzerStackConfigureRequest.deserializeBinary(call.request));
      callback(null, serialized(new analyzerProto.AnalyzerStackConfigureResponse()));
    };
    this.#server.addService(definition, handlers);
  }

  /** @returns the port on loopback that the engine is to call. */
  async listen(): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#server.bindAsync(
        "127.0.0.1:0",
        grpc.ServerCredentials.createInsecure(),
        (error, port) => (error === null ? resolve(port) : reject(error)),
      );
    });
  }

  /** Lets the calls that wait go on to the pack, which has been told its stack before. */
  async attach(port: number): Promise<void> {
    const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), OPTIONS);
    const configuration = await this.configuration;
    this.#attach(
      configuration === undefined
        ? Promise.resolve(client)
        : tell(client, configuration).then(() => client),
    );
    await this.#pack;
  }

  /** Fails the calls that wait, and all later ones. */
  fail(error: Error): void {
    this.#reject(error);
  }

  async close(): Promise<void> {
    this.fail(new Error("The policy pack has ended."));
    this.#server.forceShutdown();
    const client = await this.#pack.catch(() => undefined);
    client?.close();
  }

  #forward(path: string): grpc.handleUnaryCall<Buffer, Buffer> {
    return (call, callback) => {
      this.#configure(undefined);
      this.#pack.then(
        (client) => {
          const metadata = new grpc.Metadata();
          const sent = client.makeUnaryRequest(path, same, same, call.request, metadata, callback);
          call.on("cancelled", () => sent.cancel());
        },
        (error: Error) =>
          callback({
            code: grpc.status.UNKNOWN,
            details: `policy pack not started: ${error.message}`,
          }),
      );
    };
  }
}

async function tell(client: grpc.Client, configuration: StackConfiguration): Promise<void> {
  const { path } = analyzerService.AnalyzerService.configureStack;
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(path, same, same, serialized(configuration), (error) => {
      // A pack built on an SDK older than this call judges without it.
      if (error === null || error.code === grpc.status.UNIMPLEMENTED) resolve();
      else reject(new Error(`policy pack configuration failed: ${error.message}`));
    });
  });
}

function serialized(message: { serializeBinary(): Uint8Array }): Buffer {
  return Buffer.from(message.serializeBinary());
}
