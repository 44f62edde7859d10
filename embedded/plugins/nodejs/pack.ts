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
import type { MethodDefinition } from "@grpc/grpc-js";
import Module, { createRequire } from "node:module";
import { join, sep } from "node:path";
import type * as analyzerProtoModule from "@pulumi/pulumi/proto/analyzer_pb.js";
import { turn, WAITS_VARIABLE } from "../turn.ts";
import { failureOf, serveUnary, UNIMPLEMENTED } from "../unary-server.ts";
import type { Answer, UnaryCall, UnaryHandler } from "../unary-server.ts";
import { readEnvironmentAnew } from "./sdk-environment.ts";

type Load = (
  request: string,
  parent: { filename?: string } | undefined,
  isMain: boolean,
) => unknown;
/** As the SDK writes them: some go on after they have returned. */
type Handlers = Readonly<
  Record<string, (...call: Parameters<UnaryHandler>) => void | Promise<void>>
>;
type StackConfiguration = ReturnType<
  typeof analyzerProtoModule.AnalyzerStackConfigureRequest.deserializeBinary
>;
interface Policy {
  readonly remediateResource?: unknown;
}
interface PolicyServer {
  serve: (...args: [string, string, string, { policies?: readonly Policy[] }, unknown]) => void;
}

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
  for (const name of [...modules, "@pulumi/pulumi/proto/analyzer_grpc_pb.js"]) {
    load(name);
  }
}
await turn();

const [, , entry = "", ...args] = process.argv;
const load = createRequire(entry);
const { AnalyzerService } = load("@pulumi/pulumi/proto/analyzer_grpc_pb.js") as {
  AnalyzerService: Record<string, MethodDefinition<unknown, unknown>>;
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
  try {
    load(entry);
  } catch (error) {
    // Or else each later call would wait for a pack that never comes.
    served.reject(error);
    throw error;
  }
}

/**
 * Lets the pack's own SDK answer, once it is there and where it has something to say. Whatever goes wrong is the answer:
 * the SDK keeps the process alive, and a call without an answer would hold the engine for ever.
 */
function handOver(
  method: string,
  call: UnaryCall,
  answer: Answer,
  concerns: () => boolean = () => true,
): void {
  served.promise
    .then((own) => {
      const handler = concerns() ? own[method] : undefined;
      if (handler !== undefined) return handler(call, answer);
      answer({ code: UNIMPLEMENTED, details: `This pack has nothing to say to ${method}.` });
    })
    .catch((error: unknown) => answer(failureOf(error)));
}

const handlers: Record<string, UnaryHandler> = {};
for (const method of Object.keys(AnalyzerService)) {
  handlers[method] = (call, answer) => {
    loadPack();
    handOver(method, call, answer);
  };
}
handlers["handshake"] = (_call, answer) => answer(null, new proto.AnalyzerHandshakeResponse());
handlers["configureStack"] = (call, answer) => {
  loadPack(call.request as StackConfiguration);
  answer(null, new proto.AnalyzerStackConfigureResponse());
  // A pack built on an SDK older than this call judges without it.
  handOver("configureStack", call, () => undefined);
};
// The engine asks for every resource, and the SDK reads all of it before it looks whether any policy wants it.
const remediate = AnalyzerService["remediate"] as MethodDefinition<unknown, unknown>;
const unread = { ...remediate, requestDeserialize: (bytes: Buffer) => bytes };
handlers["remediate"] = (call, answer) => {
  loadPack();
  handOver("remediate", call, answer, () => {
    if (policies.every((policy) => policy.remediateResource === undefined)) return false;
    call.request = remediate.requestDeserialize(call.request as Buffer);
    return true;
  });
};

const { port } = await serveUnary({ ...AnalyzerService, remediate: unread }, handlers);
process.stdout.write(`${port}\n`);
