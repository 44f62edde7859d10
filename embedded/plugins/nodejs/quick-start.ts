/**
 * Loaded before a program and before a policy pack (`node --import`): leaves out what they load and never use.
 *
 * - `@pulumi/pulumi` loads npm's dependency resolver (`@npmcli/arborist`, 180 ms) and the TypeScript compiler
 *   (90 ms) for function serialization, and the Automation API (60 ms); here each is loaded when it is first used.
 * - for the same serialization every program and every pack is put under the debugger before it runs (90 ms); here
 *   only once one asks for it.
 * - the SDK writes a stack trace onto every promise (60 ms for a tenant), to name one that is never settled; here
 *   only where `PULUMI_DEBUG_PROMISE_LEAKS` asks for such reports.
 * - `run-policy-pack` puts ts-node and the TypeScript compiler before every pack. A pack whose runtime options say
 *   `typescript: false` is started without: Node strips its types.
 * - the policy SDK reads each resource's properties out of the request anew for every policy (150 ms for a tenant
 *   and forty policies).
 * - `google-protobuf` makes objects of every property on its way in and out (150 ms for a pack and a tenant); here they
 *   stay bytes until somebody looks (`encoded-structs.ts`).
 * - the SDK calls the engine for every line of its debug log, five for a resource and one after the other, which the
 *   engine throws away unless it was asked for them (400 ms for a tenant): here only where `PULUMI_OPTION_DEBUG` asks.
 * - the SDK maps every stack trace through source maps, and takes one for each resource and promise (600 ms for a
 *   tenant). Node strips types in place, so a program's own lines are right without.
 *
 * And it writes Node's compile cache while the process lives: the engine ends a pack with SIGKILL, which would
 * throw the cache away each time.
 */
import Module from "node:module";
import { sep } from "node:path";
import { keepStructsEncoded } from "../encoded-structs.ts";

type Load = (
  request: string,
  parent: { filename?: string } | undefined,
  isMain: boolean,
) => unknown;
const loader = Module as unknown as { _load: Load };
const load = loader._load;

/** Milliseconds after the start at which the compile cache is written: once early, once when all is loaded. */
const CACHE_WRITES_MS = [1_000, 5_000];

const pulumiModule = (...path: readonly string[]): string =>
  ["", "@pulumi", "pulumi", ...path].join(sep);
const SDK = pulumiModule("");
const POLICY_SERVER = ["", "@pulumi", "policy", "server.js"].join(sep);
const RUNS = ["run", "run-policy-pack"].map((name) => pulumiModule("cmd", name, "index.js"));
const INDEX = pulumiModule("index.js");
const CODE_PATHS = pulumiModule("runtime", "closure", "codePaths.js");
const TYPESCRIPT_USERS = [
  pulumiModule("tsutils.js"),
  pulumiModule("cmd", "run-policy-pack", "run.js"),
];

/** The engine's own flag `--debug`, as an environment says it. */
const DEBUG_VARIABLE = "PULUMI_OPTION_DEBUG";

/** A pack's process is told what to run, or, where it waits for its turn, what to load. */
const isPackWithoutTypeScript =
  /[\\/]pack\.(mjs|ts)$/.test(process.argv[1] ?? "") &&
  process.env["PULUMI_NODEJS_TYPESCRIPT"] !== "true";

loader._load = function (request, parent, isMain) {
  const from = parent?.filename ?? "";
  const whole = (): unknown => load.call(this, request, parent, isMain);

  if (request === "@npmcli/arborist" && from.endsWith(CODE_PATHS)) {
    return whenUsed(whole);
  }
  if (request === "source-map-support/register") return {};
  if (request.endsWith("google/protobuf/struct_pb.js")) {
    const structs = whole() as Parameters<typeof keepStructsEncoded>[0];
    keepStructsEncoded(structs);
    return structs;
  }
  if (request === "./deserialize" && from.endsWith(POLICY_SERVER)) return onceForEach(whole());
  if (request === "./automation" && from.endsWith(INDEX)) return whenUsed(whole);
  if (request.endsWith("/closure/v8Hooks") && RUNS.some((run) => from.endsWith(run))) {
    return { isInitializedAsync: () => Promise.resolve() };
  }
  if (/^\.\.?(\/\.\.)*\/log$/.test(request) && from.includes(SDK)) {
    return withoutDebugLines(whole());
  }
  if (request.endsWith("/debuggable") && from.includes(SDK)) return withoutTraces(whole());
  if (request.endsWith("/typescript-shim") && from.includes(SDK)) return whenUsed(whole);
  if (isPackWithoutTypeScript && TYPESCRIPT_USERS.some((user) => from.endsWith(user))) {
    if (request === "typescript") return { version: "5.0.0" };
    if (/(^|[\\/])ts-node(@[\d.]+)?$/.test(request)) return { VERSION: "none", register() {} };
  }
  return whole();
};

interface Deserialize {
  deserializeProperties: ((struct: object, proxySecrets: unknown) => unknown) & { quick?: true };
}

/** The SDK's module, which then reads a resource's properties once and not anew for each policy: those only look. */
function onceForEach(exports: unknown): unknown {
  const module = exports as Deserialize;
  const { deserializeProperties } = module;
  if (deserializeProperties.quick === true) return module;
  const known = new WeakMap<object, unknown>();
  module.deserializeProperties = Object.assign(
    (struct: object, proxySecrets: unknown): unknown => {
      if (proxySecrets === true) return deserializeProperties(struct, proxySecrets);
      const properties = known.get(struct) ?? deserializeProperties(struct, proxySecrets);
      known.set(struct, properties);
      return properties;
    },
    { quick: true } as const,
  );
  return module;
}

interface Debuggable {
  debuggablePromise: ((promise: unknown, context: unknown) => unknown) & { quick?: true };
}

/** The SDK's module, whose promises then carry no stack trace. */
function withoutTraces(exports: unknown): unknown {
  const module = exports as Debuggable;
  const { debuggablePromise } = module;
  if (debuggablePromise.quick === true || process.env["PULUMI_DEBUG_PROMISE_LEAKS"]) return module;
  module.debuggablePromise = Object.assign(
    (promise: unknown, context: unknown): unknown => {
      const { stackTraceLimit } = Error;
      Error.stackTraceLimit = 0;
      try {
        return debuggablePromise(promise, context);
      } finally {
        Error.stackTraceLimit = stackTraceLimit;
      }
    },
    { quick: true } as const,
  );
  return module;
}

interface Log {
  /** Not there yet where the module is asked for by one that it asks for itself. */
  debug?: ((...line: readonly unknown[]) => Promise<void>) & { quick?: true };
}

/** The SDK's module, which then keeps to itself what the engine would show to nobody. */
function withoutDebugLines(exports: unknown): unknown {
  const module = exports as Log;
  const { debug } = module;
  if (debug === undefined || debug.quick === true) return module;
  module.debug = Object.assign(
    (...line: readonly unknown[]): Promise<void> =>
      // Asked anew for each: what waits for its turn does not know it yet.
      process.env[DEBUG_VARIABLE] === "true" ? debug(...line) : Promise.resolve(),
    { quick: true } as const,
  );
  return module;
}

/** Stands for a module's exports and loads the module when one of them is asked for. */
function whenUsed(exports: () => unknown): unknown {
  return new Proxy(
    {},
    {
      // Importers look at this mark first; with it they take the exports as they are instead of copying them.
      get: (_, name): unknown =>
        name === "__esModule" ? true : Reflect.get(exports() as object, name),
      has: (_, name) => Reflect.has(exports() as object, name),
    },
  );
}

for (const delay of CACHE_WRITES_MS) {
  setTimeout(() => Module.flushCompileCache(), delay).unref();
}
