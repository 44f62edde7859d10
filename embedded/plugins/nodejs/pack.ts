/**
 * The process of a policy pack: serves the engine before the pack is loaded, then lets the pack's own SDK answer.
 *
 * A pack learns its stack and configuration from its environment, so it can only be loaded once the engine has sent
 * them; and the engine sends them only to a server that already answers. The SDK's server is this one: what it would
 * serve by itself is taken from it.
 *
 * Arguments: the SDK's `run-policy-pack`, its flags and the pack's folder. Where it waits for its turn (`warm/pool.ts`):
 * the folder whose packages are meant, then what to load of them.
 */
import type * as grpcModule from "@grpc/grpc-js";
import Module, { createRequire } from "node:module";
import { join, sep } from "node:path";
import type * as analyzerProtoModule from "@pulumi/pulumi/proto/analyzer_pb.js";
import { turn, WAITS_VARIABLE } from "../turn.ts";
import { readEnvironmentAnew } from "./sdk-environment.ts";

type Load = (
  request: string,
  parent: { filename?: string } | undefined,
  isMain: boolean,
) => unknown;
type Handlers = Record<string, grpcModule.handleUnaryCall<unknown, unknown>>;
type StackConfiguration = ReturnType<
  typeof analyzerProtoModule.AnalyzerStackConfigureRequest.deserializeBinary
>;
interface Policy {
  readonly remediateResource?: unknown;
}
interface PolicyServer {
  serve: (...args: [string, string, string, { policies?: readonly Policy[] }, unknown]) => void;
}

const OPTIONS = { "grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1 };
const POLICY = ["", "@pulumi", "policy", ""].join(sep);

const served = Promise.withResolvers<Handlers>();
let policies: readonly Policy[] = [];

/** Takes what it is to serve from the SDK, and neither listens nor tells a port. */
class HandingOver {
  addService(_service: unknown, handlers: Handlers): void {
    served.resolve(handlers);
  }
  bindAsync(): void {
    return undefined;
  }
}

const loader = Module as unknown as { _load: Load };
const loadModule = loader._load;
loader._load = function (request, parent, isMain) {
  const exports = loadModule.call(this, request, parent, isMain);
  const from = parent?.filename ?? "";
  if (request === "@grpc/grpc-js" && from.endsWith(`${POLICY}server.js`)) {
    return { ...(exports as object), Server: HandingOver };
  }
  if (request === "./server" && from.endsWith(`${POLICY}policy.js`)) {
    const { serve, ...others } = exports as PolicyServer;
    const serveNoted: PolicyServer["serve"] = (name, version, level, args, config) => {
      policies = args.policies ?? [];
      serve(name, version, level, args, config);
    };
    return { ...others, serve: serveNoted };
  }
  return exports;
};

if (process.env[WAITS_VARIABLE] !== undefined) {
  const [, , folder = "", ...modules] = process.argv;
  const load = createRequire(join(folder, "package.json"));
  for (const name of [...modules, "@grpc/grpc-js", "@pulumi/pulumi/proto/analyzer_grpc_pb.js"]) {
    load(name);
  }
}
await turn();

const [, , entry = "", ...args] = process.argv;
const load = createRequire(entry);
const grpc = load("@grpc/grpc-js") as typeof grpcModule;
const { AnalyzerService } = load("@pulumi/pulumi/proto/analyzer_grpc_pb.js") as {
  AnalyzerService: Record<string, grpcModule.MethodDefinition<unknown, unknown>>;
};
const proto = load("@pulumi/pulumi/proto/analyzer_pb.js") as typeof analyzerProtoModule;

let isLoaded = false;
/** Loads the pack, once, as one of that stack; as none's where the engine never names one (`pulumi policy publish`). */
function loadPack(stack?: StackConfiguration): void {
  if (isLoaded) return;
  isLoaded = true;
  if (stack !== undefined) {
    Object.assign(process.env, {
      PULUMI_NODEJS_ORGANIZATION: stack.getOrganization(),
      PULUMI_NODEJS_PROJECT: stack.getProject(),
      PULUMI_NODEJS_STACK: stack.getStack(),
      PULUMI_NODEJS_DRY_RUN: String(stack.getDryRun()),
      PULUMI_CONFIG: JSON.stringify(Object.fromEntries(stack.getConfigMap().toArray())),
    });
  }
  readEnvironmentAnew(load);
  process.argv = [process.execPath, entry, ...args];
  load(entry);
}

const handlers: grpcModule.UntypedServiceImplementation = {};
for (const method of Object.keys(AnalyzerService)) {
  handlers[method] = (
    call: grpcModule.ServerUnaryCall<unknown, unknown>,
    callback: grpcModule.sendUnaryData<unknown>,
  ): void => {
    loadPack();
    void served.promise.then((own) => {
      const answer = own[method];
      if (answer !== undefined) answer(call, callback);
      else callback({ code: grpc.status.UNIMPLEMENTED, details: `${method} is not served` });
    });
  };
}
handlers["handshake"] = (_call: unknown, callback: grpcModule.sendUnaryData<unknown>): void => {
  callback(null, new proto.AnalyzerHandshakeResponse());
};
handlers["configureStack"] = (
  call: grpcModule.ServerUnaryCall<StackConfiguration, unknown>,
  callback: grpcModule.sendUnaryData<unknown>,
): void => {
  callback(null, new proto.AnalyzerStackConfigureResponse());
  loadPack(call.request);
  // A pack built on an SDK older than this call judges without it.
  void served.promise.then((own) => own["configureStack"]?.(call, () => undefined));
};
// The engine asks for every resource, and the SDK reads all of it before it looks whether any policy wants it.
const remediate = AnalyzerService["remediate"] as grpcModule.MethodDefinition<unknown, unknown>;
const unread = { ...remediate, requestDeserialize: (bytes: Buffer) => bytes };
handlers["remediate"] = (
  call: grpcModule.ServerUnaryCall<unknown, unknown>,
  callback: grpcModule.sendUnaryData<unknown>,
): void => {
  loadPack();
  void served.promise.then((own) => {
    if (policies.every((policy) => policy.remediateResource === undefined)) {
      callback(null, new proto.RemediateResponse());
      return;
    }
    call.request = remediate.requestDeserialize(call.request as Buffer);
    own["remediate"]?.(call, callback);
  });
};

const server = new grpc.Server(OPTIONS);
server.addService({ ...AnalyzerService, remediate: unread }, handlers);
server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error !== null) throw error;
  process.stdout.write(`${port}\n`);
});
