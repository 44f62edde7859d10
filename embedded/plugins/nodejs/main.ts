/**
 * The embedded Node language host: what the engine starts to run a TypeScript program or a policy pack.
 *
 * It answers as the official `pulumi-language-nodejs` does, with three differences: it runs everything with the
 * Node it runs on itself instead of the first `node` on PATH; it knows npm alone among the package managers; and
 * it generates no code (those calls are unimplemented). Synchronous invokes have no pipe, since the SDK of this
 * engine's version no longer makes any.
 */
import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { existsSync, readFileSync, realpathSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import grpc from "@grpc/grpc-js";
import emptyProto from "google-protobuf/google/protobuf/empty_pb.js";
import languageService from "@pulumi/pulumi/proto/language_grpc_pb.js";
import languageProto from "@pulumi/pulumi/proto/language_pb.js";
import type * as message from "@pulumi/pulumi/proto/language_pb.js";
import pluginProto from "@pulumi/pulumi/proto/plugin_pb.js";
import { folderWith, installedVersion, lockedPackages, requiredPackages } from "./node-packages.ts";
import { endWithEngine } from "../end-with-engine.ts";
import { turn } from "../turn.ts";

/** The official host whose answers these are; it carries the version of the SDK in node_modules. */
const HOST_VERSION = "v3.259.0";
/** The program has told the user what is wrong: nothing is to be added. */
const EXIT_ALREADY_TOLD = 32;
/** How long a program may take to end after an interrupt, in milliseconds. */
const INTERRUPT_GRACE_MS = 5_000;
const MESSAGES_OF_ANY_SIZE = {
  "grpc.max_receive_message_length": -1,
  "grpc.max_send_message_length": -1,
};
const SDK_MISSING =
  "It looks like the Pulumi SDK has not been installed. Have you run npm install?";

interface Options {
  /** Have ts-node run TypeScript; without it Node strips the types. */
  readonly typescript: boolean;
  readonly tsconfig: string;
  readonly nodeArguments: readonly string[];
  readonly packageManager: string;
}

/** The runtime options of a Pulumi.yaml, with the official host's defaults. */
function options(info: message.ProgramInfo): Options {
  const given = info.getOptions()?.toJavaScript() ?? {};
  const { typescript = true, tsconfig = "", nodeargs = "", packagemanager = "auto" } = given;
  if (typeof typescript !== "boolean") throw new Error("typescript option must be a boolean");
  if (typeof tsconfig !== "string") throw new Error("tsconfigpath option must be a string");
  if (typeof nodeargs !== "string") throw new Error("nodeargs option must be a string");
  if (typeof packagemanager !== "string") {
    throw new Error("packagemanager option must be a string");
  }
  const known = ["auto", "npm", "yarn", "pnpm", "bun"];
  if (!known.includes(packagemanager)) {
    throw new Error(
      `packagemanager option must be one of auto, npm, yarn, pnpm or bun, got "${packagemanager}"`,
    );
  }
  return {
    typescript,
    tsconfig,
    nodeArguments: words(nodeargs),
    packageManager:
      packagemanager === "auto" ? lockedPackageManager(info.getProgramDirectory()) : packagemanager,
  };
}

function lockedPackageManager(directory: string): string {
  const locks = { yarn: "yarn.lock", pnpm: "pnpm-lock.yaml", bun: "bun.lock" };
  for (const [manager, file] of Object.entries(locks)) {
    if (existsSync(join(directory, file))) return manager;
  }
  return "npm";
}

/** Splits as a shell does: blanks part words, quotes keep them together. */
function words(line: string): string[] {
  const quoted = /"((?:\\.|[^"\\])*)"|'([^']*)'|((?:\\.|[^\s"'\\])+)/g;
  const found: string[] = [];
  let end = -1;
  for (const match of line.matchAll(quoted)) {
    const [whole, double, single, plain] = match;
    const text = single ?? (double ?? plain ?? "").replace(/\\(.)/g, "$1");
    if (match.index === end) found.push(`${found.pop() ?? ""}${text}`);
    else found.push(text);
    end = match.index + whole.length;
  }
  return found;
}

function programInfo(request: { getInfo(): message.ProgramInfo | undefined }): message.ProgramInfo {
  const info = request.getInfo();
  if (info === undefined) throw new Error("the engine sent no program information");
  return info;
}

/** The SDK's own entry point, from the program's node_modules. */
function locate(module: string, directory: string): string {
  try {
    return createRequire(join(directory, "package.json")).resolve(module);
  } catch (cause) {
    throw new Error(SDK_MISSING, { cause });
  }
}

/** A script beside this one: bundled where this one is, else as it was written. */
function beside(name: string): string {
  const built = join(import.meta.dirname, `${name}.mjs`);
  return existsSync(built) ? built : join(import.meta.dirname, `${name}.ts`);
}

/** What every child of this host is started with before the SDK's entry point. */
function nodeArguments(given: readonly string[]): string[] {
  return [...given, "--import", pathToFileURL(beside("quick-start")).href];
}

/** Config keys as programs have always been given them: `namespace:config:name`. */
function configuration(config: Iterable<[string, string]>): string {
  return JSON.stringify(
    Object.fromEntries(
      [...config].map(([key, value]) => [
        key.replace(/^([^:]*):(?:config:)?([^:]*)$/, "$1:config:$2"),
        value,
      ]),
    ),
  );
}

/** The children that live, so that none outlives this host. */
const children = new Set<ChildProcess>();

/** Runs Node, in a process that was started ahead where one waits. */
function start(
  kind: "program" | "pack",
  argv: readonly string[],
  place: { readonly cwd?: string; readonly env: NodeJS.ProcessEnv },
): ChildProcess {
  const launcher = join(import.meta.dirname, kind);
  const program = existsSync(launcher) ? launcher : process.execPath;
  const child = spawn(program, argv, { ...place, stdio: ["ignore", "pipe", "pipe"] });
  children.add(child);
  child.once("close", () => children.delete(child));
  child.once("error", () => children.delete(child));
  return child;
}

/** The flags of a run as its entry point puts them into the environment, where the SDK looks for them. */
function inEnvironment(flags: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(flags)
      .filter(([, value]) => value !== "")
      .map(([flag, value]) => [`PULUMI_NODEJS_${flag.toUpperCase().replace("-", "_")}`, value]),
  );
}

/** A child's end: its exit code, -1 when a signal ended it. Rejects when it could not be started. */
async function ended(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve(code ?? -1));
  });
}

function interrupt(child: ChildProcess): void {
  child.kill("SIGINT");
  const patience = setTimeout(() => child.kill("SIGKILL"), INTERRUPT_GRACE_MS);
  child.once("close", () => clearTimeout(patience));
}

class LanguageHost {
  #engineAddress: string;
  readonly #cancelled = new AbortController();

  constructor(engineAddress: string) {
    this.#engineAddress = engineAddress;
  }

  handshake(request: message.LanguageHandshakeRequest): message.LanguageHandshakeResponse {
    this.#engineAddress = request.getEngineAddress();
    return new languageProto.LanguageHandshakeResponse();
  }

  getPluginInfo(): InstanceType<typeof pluginProto.PluginInfo> {
    const info = new pluginProto.PluginInfo();
    info.setVersion(HOST_VERSION);
    return info;
  }

  async about(request: message.AboutRequest): Promise<message.AboutResponse> {
    const info = programInfo(request);
    const { packageManager } = options(info);
    const answer = new languageProto.AboutResponse();
    answer.setExecutable(process.execPath);
    answer.setVersion(process.version);
    const metadata = answer.getMetadataMap();
    metadata.set("packagemanager", packageManager);
    metadata.set("packagemanagerVersion", await packageManagerVersion(packageManager));
    const typescript = installedVersion(info.getProgramDirectory(), "typescript");
    if (typescript !== undefined) metadata.set("typescriptVersion", typescript);
    return answer;
  }

  getRequiredPackages(
    request: message.GetRequiredPackagesRequest,
  ): message.GetRequiredPackagesResponse {
    const answer = new languageProto.GetRequiredPackagesResponse();
    const info = programInfo(request);
    for (const found of requiredPackages(info.getProgramDirectory())) {
      const dependency = new pluginProto.PackageDependency();
      dependency.setName(found.name);
      dependency.setKind(found.kind);
      dependency.setVersion(found.version);
      dependency.setServer(found.server);
      answer.addPackages(dependency);
    }
    return answer;
  }

  getProgramDependencies(
    request: message.GetProgramDependenciesRequest,
  ): message.GetProgramDependenciesResponse {
    const answer = new languageProto.GetProgramDependenciesResponse();
    const directory = programInfo(request).getProgramDirectory();
    for (const { name, version } of lockedPackages(
      directory,
      request.getTransitivedependencies(),
    )) {
      const dependency = new languageProto.DependencyInfo();
      dependency.setName(name);
      dependency.setVersion(version);
      answer.addDependencies(dependency);
    }
    return answer;
  }

  /** Ends when the program has ended; what the program prints goes to this host's own output as it comes. */
  async run(request: message.RunRequest, cancelled: AbortSignal): Promise<message.RunResponse> {
    const answer = new languageProto.RunResponse();
    let child: ChildProcess;
    try {
      const info = programInfo(request);
      const { typescript, tsconfig, nodeArguments: given } = options(info);
      const directory = info.getProgramDirectory();
      const flags = {
        monitor: request.getMonitorAddress(),
        engine: this.#engineAddress,
        organization: request.getOrganization(),
        project: request.getProject(),
        "root-directory": info.getRootDirectory(),
        stack: request.getStack(),
        parallel: String(request.getParallel()),
        "dry-run": request.getDryrun() ? "true" : "",
      };
      const argv = [
        locate(
          process.env["PULUMI_LANGUAGE_NODEJS_RUN_PATH"] ?? "@pulumi/pulumi/cmd/run",
          directory,
        ),
        ...Object.entries(flags).flatMap(([flag, value]) =>
          value === "" ? [] : [`--${flag}=${value}`],
        ),
        `--pwd=${directory}`,
        info.getEntryPoint(),
        ...request.getArgsList(),
      ];
      const env = {
        ...process.env,
        PULUMI_CONFIG: configuration(request.getConfigMap().toArray()),
        PULUMI_CONFIG_SECRET_KEYS: JSON.stringify(request.getConfigsecretkeysList()),
        ...(typescript ? { PULUMI_NODEJS_TYPESCRIPT: "true" } : {}),
        ...(tsconfig === "" ? {} : { PULUMI_NODEJS_TSCONFIG_PATH: tsconfig }),
      };
      child = start("program", [...nodeArguments(given), ...argv], {
        env: { ...env, ...inEnvironment(flags) },
      });
    } catch (error) {
      answer.setError((error as Error).message);
      return answer;
    }

    child.stdout?.pipe(process.stdout, { end: false });
    child.stderr?.pipe(process.stderr, { end: false });
    const stop = AbortSignal.any([cancelled, this.#cancelled.signal]);
    const onStop = (): void => interrupt(child);
    stop.addEventListener("abort", onStop, { once: true });
    if (stop.aborted) onStop();
    try {
      const code = await ended(child);
      if (code === EXIT_ALREADY_TOLD) answer.setBail(true);
      else if (code !== 0) answer.setError(`Program exited with non-zero exit code: ${code}`);
    } catch (error) {
      const reason = (error as Error).message;
      answer.setError(`Problem executing program (could not run language executor): ${reason}`);
    } finally {
      stop.removeEventListener("abort", onStop);
    }
    return answer;
  }

  /** Runs a policy pack, or a plugin written in TypeScript, for as long as the engine listens to it. */
  async runPlugin(
    request: message.RunPluginRequest,
    tell: (answer: message.RunPluginResponse) => void,
    cancelled: AbortSignal,
  ): Promise<void> {
    const info = programInfo(request);
    const { typescript, tsconfig, nodeArguments: given } = options(info);
    const directory = info.getProgramDirectory();
    const isPack = request.getKind() === "analyzer";
    const env: NodeJS.ProcessEnv = Object.fromEntries(
      request.getEnvList().map((entry) => {
        const equals = entry.indexOf("=");
        return [entry.slice(0, equals), entry.slice(equals + 1)];
      }),
    );
    if (typescript) env["PULUMI_NODEJS_TYPESCRIPT"] = "true";
    if (tsconfig !== "") env["PULUMI_NODEJS_TSCONFIG_PATH"] = tsconfig;
    const entry = isPack
      ? "@pulumi/pulumi/cmd/run-policy-pack"
      : (process.env["PULUMI_LANGUAGE_NODEJS_RUN_PATH"] ?? "@pulumi/pulumi/cmd/run-plugin");
    const script = locate(entry, directory);
    const argv = [
      ...nodeArguments(given),
      ...(isPack
        ? [beside("pack"), script, ...request.getArgsList(), directory]
        : [script, directory, ...request.getArgsList()]),
    ];

    // A pack has always been run in its own folder, whatever the folder of the program.
    const child = isPack
      ? start("pack", argv, { cwd: directory, env })
      : start("program", argv, { cwd: request.getPwd(), env });
    const onCancel = (): void => void child.kill("SIGKILL");
    cancelled.addEventListener("abort", onCancel, { once: true });
    if (cancelled.aborted) onCancel();
    const stream = (set: "setStdout" | "setStderr") => (bytes: Uint8Array) => {
      const answer = new languageProto.RunPluginResponse();
      answer[set](bytes);
      tell(answer);
    };
    child.stdout?.on("data", stream("setStdout"));
    child.stderr?.on("data", stream("setStderr"));
    const code = await ended(child).finally(() => {
      cancelled.removeEventListener("abort", onCancel);
    });
    if (cancelled.aborted) return;
    if (code !== 0) throw new Error(`Program exited with non-zero exit code: ${code}`);
  }

  async installDependencies(
    request: message.InstallDependenciesRequest,
    tell: (answer: message.InstallDependenciesResponse) => void,
    cancelled: AbortSignal,
  ): Promise<void> {
    const info = programInfo(request);
    const { packageManager } = options(info);
    if (packageManager !== "npm") {
      throw new Error(
        `Language host "nodejs": the embedded one installs with npm only, got ${packageManager}. ` +
          `Set the runtime option packagemanager to npm, or run ${packageManager} install yourself.`,
      );
    }
    const directory =
      folderWith(info.getProgramDirectory(), "package-lock.json") ?? info.getProgramDirectory();
    const command = existsSync(join(directory, "package-lock.json")) ? "ci" : "install";
    const child = spawn("npm", [command, "--no-audit", "--no-fund", "--loglevel=error"], {
      cwd: directory,
      stdio: ["ignore", "pipe", "pipe"],
    });
    children.add(child);
    cancelled.addEventListener("abort", () => child.kill("SIGTERM"), { once: true });
    const stream = (set: "setStdout" | "setStderr") => (bytes: Uint8Array) => {
      const answer = new languageProto.InstallDependenciesResponse();
      answer[set](bytes);
      tell(answer);
    };
    stream("setStdout")(Buffer.from("Installing dependencies...\n\n"));
    child.stdout.on("data", stream("setStdout"));
    child.stderr.on("data", stream("setStderr"));
    const code = await ended(child).finally(() => children.delete(child));
    if (code !== 0) {
      throw new Error(
        `Dependencies of "${directory}": npm ${command} must end with exit code 0, got ${code}. ` +
          `Run npm ${command} there to see why.`,
      );
    }
    stream("setStdout")(Buffer.from("Finished installing dependencies\n\n"));
  }

  cancel(): InstanceType<typeof emptyProto.Empty> {
    this.#cancelled.abort();
    return new emptyProto.Empty();
  }
}

/** Read from npm's own package.json, since `npm --version` takes 0.2 s; empty when it cannot be told. */
async function packageManagerVersion(manager: string): Promise<string> {
  const program = (process.env["PATH"] ?? "")
    .split(delimiter)
    .map((folder) => join(folder, manager))
    .find((path) => existsSync(path));
  if (program === undefined) return "";
  const manifest = join(dirname(realpathSync(program)), "..", "package.json");
  if (existsSync(manifest)) {
    const { name, version } = JSON.parse(readFileSync(manifest, "utf8")) as {
      name?: string;
      version?: string;
    };
    if (name === manager && version !== undefined) return version;
  }
  const child = spawn(program, ["--version"], { stdio: ["ignore", "pipe", "ignore"] });
  let output = "";
  child.stdout.on("data", (bytes: Buffer) => (output += bytes.toString()));
  return (await ended(child).catch(() => -1)) === 0 ? output.trim() : "";
}

/** A call's error is its message, as the official host's are. */
function failure(error: unknown): Partial<grpc.ServiceError> {
  const details = error instanceof Error ? error.message : String(error);
  return { code: grpc.status.UNKNOWN, details };
}

function unary<Request, Response>(
  answer: (request: Request, cancelled: AbortSignal) => Response | Promise<Response>,
): grpc.handleUnaryCall<Request, Response> {
  return (call, callback) => {
    const cancelled = new AbortController();
    call.on("cancelled", () => cancelled.abort());
    void (async () => answer(call.request, cancelled.signal))().then(
      (response) => callback(null, response),
      (error: unknown) => callback(failure(error)),
    );
  };
}

function streaming<Request, Response>(
  answer: (
    request: Request,
    tell: (response: Response) => void,
    cancelled: AbortSignal,
  ) => Promise<void>,
): grpc.handleServerStreamingCall<Request, Response> {
  return (call) => {
    const cancelled = new AbortController();
    call.on("cancelled", () => cancelled.abort());
    answer(call.request, (response) => void call.write(response), cancelled.signal).then(
      () => call.end(),
      (error: unknown) => call.emit("error", failure(error)),
    );
  };
}

/** The engine may put flags for logging and tracing before its address. */
function engineAddress(argv: readonly string[]): string {
  for (let i = 0; i < argv.length; i += 1) {
    const argument = argv[i] ?? "";
    if (/^--?tracing$/.test(argument)) i += 1;
    else if (!argument.startsWith("-")) return argument;
  }
  return "";
}

async function main(): Promise<void> {
  await turn();
  if (process.argv.slice(2).some((argument) => /^--?version$/.test(argument))) {
    process.stdout.write(`${HOST_VERSION}\n`);
    return;
  }
  const host = new LanguageHost(engineAddress(process.argv.slice(2)));
  const server = new grpc.Server(MESSAGES_OF_ANY_SIZE);
  // What is not named here is answered with "unimplemented".
  server.addService(languageService.LanguageRuntimeService, {
    handshake: unary((request: message.LanguageHandshakeRequest) => host.handshake(request)),
    getPluginInfo: unary(() => host.getPluginInfo()),
    about: unary((request: message.AboutRequest) => host.about(request)),
    getRequiredPackages: unary((request: message.GetRequiredPackagesRequest) =>
      host.getRequiredPackages(request),
    ),
    getProgramDependencies: unary((request: message.GetProgramDependenciesRequest) =>
      host.getProgramDependencies(request),
    ),
    run: unary((request: message.RunRequest, cancelled) => host.run(request, cancelled)),
    runPlugin: streaming(
      (
        request: message.RunPluginRequest,
        tell: (r: message.RunPluginResponse) => void,
        cancelled,
      ) => host.runPlugin(request, tell, cancelled),
    ),
    installDependencies: streaming(
      (
        request: message.InstallDependenciesRequest,
        tell: (r: message.InstallDependenciesResponse) => void,
        cancelled,
      ) => host.installDependencies(request, tell, cancelled),
    ),
    cancel: unary(() => host.cancel()),
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });

  const end = (): void => {
    for (const child of children) child.kill("SIGKILL");
    process.exit(0);
  };
  process.once("SIGINT", end);
  process.once("SIGTERM", end);
  endWithEngine(end);
  process.stdout.write(`${port}\n`);
}

await main();
