/** The command plugin: scripts on this machine and on hosts reached over SSH, as resources. */
import { randomBytes } from "node:crypto";
import type {
  CallContext,
  CheckFailure,
  CheckRequest,
  CheckResponse,
  ConfigureResponse,
  CreateRequest,
  CreateResponse,
  DeleteRequest,
  DiffRequest,
  DiffResponse,
  InvokeRequest,
  InvokeResponse,
  Properties,
  ReadRequest,
  ReadResponse,
  ResourceProvider,
  UpdateRequest,
  UpdateResponse,
  Value,
} from "../provider.ts";
import { Unimplemented } from "../provider.ts";
import { UNKNOWN, deepEqual, isArchive, isAsset, isObject, unwrapSecrets } from "../values.ts";
import { copySource } from "./copy.ts";
import { checkInputs, diffInputs, previewOutputs } from "./inferred.ts";
import type { Field, Fields } from "./inferred.ts";
import { runLocally } from "./local.ts";
import { masker, secretTexts } from "./masking.ts";
import { execute, openSftp, withConnection } from "./ssh.ts";
import type { Connection } from "./ssh.ts";

/** What the official plugin puts into its configuration; states carry it. */
const FRAMEWORK_VERSION_KEY = "__pulumi-go-provider-version";
const FRAMEWORK_VERSION = "1.2.0";

const LOGGING: Field = { kind: { oneOf: ["stdout", "stderr", "stdoutAndStderr", "none"] } };
const ENDPOINT: Fields = {
  user: { kind: "string", default: "root" },
  password: { kind: "string", secret: true },
  host: { kind: "string", required: true },
  port: { kind: "number", default: 22 },
  privateKey: { kind: "string", secret: true },
  privateKeyPassword: { kind: "string", secret: true },
  agentSocketPath: { kind: "string" },
  hostKey: { kind: "string" },
  dialErrorLimit: { kind: "integer", default: 10 },
  perDialTimeout: { kind: "integer", default: 15 },
};
const CONNECTION: Field = {
  kind: { object: { ...ENDPOINT, proxy: { kind: { object: ENDPOINT } } } },
  required: true,
  secret: true,
};
const SCRIPTS: Fields = {
  triggers: { kind: "any[]" },
  create: { kind: "string" },
  update: { kind: "string" },
  delete: { kind: "string" },
};
const PROCESS: Fields = {
  stdin: { kind: "string" },
  logging: LOGGING,
  environment: { kind: "stringMap" },
  addPreviousOutputInEnv: { kind: "boolean" },
};
const LOCAL_PROCESS: Fields = {
  ...PROCESS,
  interpreter: { kind: "strings" },
  dir: { kind: "string" },
  assetPaths: { kind: "strings" },
  archivePaths: { kind: "strings" },
};
const RESOURCES: { readonly [type: string]: Fields } = {
  "command:local:Command": { ...SCRIPTS, ...LOCAL_PROCESS },
  "command:remote:Command": { ...SCRIPTS, ...PROCESS, connection: CONNECTION },
  "command:remote:CopyToRemote": {
    connection: CONNECTION,
    triggers: { kind: "any[]" },
    source: { kind: "assetOrArchive", required: true },
    remotePath: { kind: "string", required: true },
  },
};
const RUN: Fields = { command: { kind: "string", required: true }, ...LOCAL_PROCESS };
/** What the official plugin has and this one has not, by input. */
const NOT_EMBEDDED = ["assetPaths", "archivePaths"];

/** What the last run of a command printed. */
interface Printed {
  readonly stdout: string;
  readonly stderr: string;
}
const NOTHING: Printed = { stdout: "", stderr: "" };

function fieldsOf(type: string): Fields {
  const fields = RESOURCES[type];
  if (fields !== undefined) return fields;
  throw new Error(
    `Resource type "${type}": the embedded command plugin must know it, got one that it does not have. ` +
      `Use ${Object.keys(RESOURCES).join(", ")}, or the official plugin.`,
  );
}

function text(value: Value | undefined): string | undefined {
  return typeof value === "string" ? value : undefined;
}

function texts(value: Value | undefined): readonly string[] {
  return Array.isArray(value) ? value.filter((entry) => typeof entry === "string") : [];
}

function textMap(value: Value | undefined): { readonly [name: string]: string } {
  const entries = isObject(value) ? Object.entries(value) : [];
  return Object.fromEntries(entries.map(([name, entry]) => [name, text(entry) ?? ""]));
}

function printedBy(outputs: Properties): Printed {
  const plain = unwrapSecrets(outputs);
  return { stdout: text(plain["stdout"]) ?? "", stderr: text(plain["stderr"]) ?? "" };
}

function withoutLastNewline(output: string): string {
  return output.endsWith("\n") ? output.slice(0, -1) : output;
}

function uniqueId(prefix: string): string {
  return prefix + randomBytes(4).toString("hex");
}

/** Sends whole lines to the engine's display, unless `logging` turns the stream off. */
class LineLog {
  readonly #streams: ReadonlySet<string>;
  readonly #mask: (text: string) => string;
  readonly #context: CallContext;
  #rest = "";

  constructor(logging: Value | undefined, mask: (text: string) => string, context: CallContext) {
    const all = logging === undefined || logging === "stdoutAndStderr";
    this.#streams = new Set(all ? ["stdout", "stderr"] : [text(logging) ?? "none"]);
    this.#mask = mask;
    this.#context = context;
  }

  readonly write = (stream: "stdout" | "stderr", chunk: string): void => {
    if (!this.#streams.has(stream)) return;
    const lines = (this.#rest + chunk).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) this.#context.status(this.#mask(line));
  };

  end(): void {
    if (this.#rest !== "") this.#context.status(this.#mask(this.#rest));
    this.#rest = "";
  }
}

/** Runs one of a resource's scripts, here or on its host, and gives what it printed. */
async function run(
  script: string,
  properties: Properties,
  previous: Printed,
  context: CallContext,
): Promise<Printed> {
  const plain = unwrapSecrets(properties);
  const stdin = text(plain["stdin"]) ?? "";
  const mask = masker([stdin, ...secretTexts(properties)]);
  const log = new LineLog(plain["logging"], mask, context);
  const environment = textMap(plain["environment"]);
  const earlier =
    plain["addPreviousOutputInEnv"] === false
      ? {}
      : {
          ...(previous.stdout === "" ? {} : { PULUMI_COMMAND_STDOUT: previous.stdout }),
          ...(previous.stderr === "" ? {} : { PULUMI_COMMAND_STDERR: previous.stderr }),
        };
  const refused = NOT_EMBEDDED.find((name) => texts(plain[name]).length > 0);
  if (refused !== undefined) {
    throw new Error(
      `Command: ${refused} must be absent with the embedded command plugin, got a list. ` +
        `Print what you need to stdout, or use the official plugin.`,
    );
  }

  const result =
    plain["connection"] === undefined
      ? await runLocally(
          script,
          {
            interpreter: texts(plain["interpreter"]),
            dir: text(plain["dir"]),
            environment: { ...environment, ...earlier },
            stdin,
          },
          context.signal,
          log.write,
        )
      : await withConnection(connectionOf(plain), context, (client) =>
          execute(
            client,
            script,
            [
              ...Object.entries(environment).map(([name, value]) => ({
                name,
                value,
                required: true,
              })),
              ...Object.entries(earlier).map(([name, value]) => ({ name, value, required: false })),
            ],
            stdin,
            context,
            log.write,
          ),
        );
  log.end();
  if (result.failure !== undefined) {
    throw new Error(
      `${result.failure}: running ${JSON.stringify(mask(script))}:\n${mask(result.output)}`,
    );
  }
  return {
    stdout: withoutLastNewline(result.stdout),
    stderr: withoutLastNewline(result.stderr),
  };
}

function connectionOf(plain: Properties): Connection {
  const connection = isObject(plain["connection"]) ? plain["connection"] : {};
  const { proxy } = connection;
  return {
    ...endpointOf(connection),
    ...(isObject(proxy) ? { proxy: endpointOf(proxy) } : {}),
  };
}

function endpointOf(given: Properties): Connection {
  const host = text(given["host"]) ?? "";
  if (given["agentSocketPath"] !== undefined) {
    throw new Error(
      `Host "${host}": agentSocketPath must be absent with the embedded command plugin, got a path. ` +
        `Give privateKey or password instead.`,
    );
  }
  const number = (name: string, otherwise: number) => {
    const value = given[name];
    return typeof value === "number" ? value : otherwise;
  };
  const optional = (name: "password" | "privateKey" | "privateKeyPassword" | "hostKey") => {
    const value = text(given[name]);
    return value === undefined ? {} : { [name]: value };
  };
  return {
    host,
    port: number("port", 22),
    user: text(given["user"]) ?? "root",
    ...optional("password"),
    ...optional("privateKey"),
    ...optional("privateKeyPassword"),
    ...optional("hostKey"),
    dialErrorLimit: number("dialErrorLimit", 10),
    perDialTimeout: number("perDialTimeout", 15),
  };
}

function isCopy(type: string): boolean {
  return type === "command:remote:CopyToRemote";
}

/** A copy's outputs: its inputs, the source with all the fields that the official plugin gives an asset. */
function copied(inputs: Properties): Properties {
  const { source } = inputs;
  return isAsset(source)
    ? { ...inputs, source: { text: "", path: "", uri: "", ...source } }
    : { ...inputs };
}

async function copy(inputs: Properties, context: CallContext): Promise<void> {
  const plain = unwrapSecrets(inputs);
  const { source } = plain;
  await withConnection(connectionOf(plain), context, async (client) =>
    copySource(
      await openSftp(client),
      isObject(source) ? source : {},
      text(plain["remotePath"]) ?? "",
    ),
  );
}

function checkSource(source: Value | undefined): readonly CheckFailure[] {
  const path = isObject(source) ? source["path"] : undefined;
  const byPath = typeof path === "string" && path !== "";
  if (isArchive(source) && !byPath) {
    return [{ property: "archive", reason: "archive must be a path to a file or directory" }];
  }
  if (isAsset(source) && !byPath && text(source["uri"]) !== "") {
    return [{ property: "asset", reason: "asset must be a path-based file asset or a text asset" }];
  }
  return [];
}

/** The answer, or what it throws, as a promise. */
function answered<T>(answer: () => T): Promise<T> {
  return new Promise((resolve) => resolve(answer()));
}

/** The provider plugin `command`, version 1.2.1. */
export class CommandProvider implements ResourceProvider {
  readonly name = "command";
  readonly version = "1.2.1";

  checkConfig(request: CheckRequest): Promise<CheckResponse> {
    return Promise.resolve({
      inputs: { ...request.news, [FRAMEWORK_VERSION_KEY]: FRAMEWORK_VERSION },
    });
  }

  diffConfig(): Promise<DiffResponse> {
    return Promise.reject(new Unimplemented("DiffConfig"));
  }

  configure(): Promise<ConfigureResponse> {
    return Promise.resolve({
      acceptSecrets: true,
      supportsPreview: true,
      acceptResources: true,
      acceptOutputs: true,
    });
  }

  check(request: CheckRequest): Promise<CheckResponse> {
    return answered(() => {
      const { inputs, failures } = checkInputs(fieldsOf(request.type), request.news);
      const all = [...failures, ...(isCopy(request.type) ? checkSource(inputs["source"]) : [])];
      return { inputs, ...(all.length === 0 ? {} : { failures: all }) };
    });
  }

  diff(request: DiffRequest): Promise<DiffResponse> {
    return answered(() =>
      diffInputs(fieldsOf(request.type), request.olds, request.news, request.ignoreChanges),
    );
  }

  async create(request: CreateRequest, context: CallContext): Promise<CreateResponse> {
    fieldsOf(request.type);
    const inputs = request.properties;
    if (isCopy(request.type)) {
      const outputs = copied(inputs);
      if (request.preview) return { properties: previewOutputs(outputs, inputs, "create") };
      await copy(inputs, context);
      return { id: uniqueId(""), properties: outputs };
    }
    const id = uniqueId(request.name);
    if (request.preview) {
      const outputs = { ...inputs, stdout: UNKNOWN, stderr: UNKNOWN };
      return { id, properties: outputs };
    }
    const script = text(unwrapSecrets(inputs)["create"]);
    const printed = script === undefined ? NOTHING : await run(script, inputs, NOTHING, context);
    return { id, properties: { ...inputs, ...printed } };
  }

  read(request: ReadRequest): Promise<ReadResponse> {
    return Promise.resolve({
      id: request.id,
      properties: request.properties ?? {},
      inputs: request.inputs ?? {},
    });
  }

  async update(request: UpdateRequest, context: CallContext): Promise<UpdateResponse> {
    fieldsOf(request.type);
    const { olds } = request;
    const news = { ...request.news };
    for (const name of request.ignoreChanges ?? []) {
      if (olds[name] === undefined) delete news[name];
      else news[name] = olds[name];
    }
    if (isCopy(request.type)) {
      const outputs = copied(news);
      if (request.preview) return { properties: previewOutputs(outputs, news, { olds }) };
      const hash = (value: Value | undefined) => (isObject(value) ? value["hash"] : undefined);
      const same =
        hash(news["source"]) === hash(olds["source"]) &&
        deepEqual(unwrapSecrets(news)["remotePath"], unwrapSecrets(olds)["remotePath"]);
      if (!same) await copy(news, context);
      return { properties: outputs };
    }
    const previous = printedBy(olds);
    if (request.preview) {
      return { properties: previewOutputs({ ...news, ...previous }, news, { olds }) };
    }
    const plain = unwrapSecrets(news);
    const script = text(plain["update"]) ?? text(plain["create"]);
    const printed = script === undefined ? previous : await run(script, news, previous, context);
    return { properties: { ...news, ...printed } };
  }

  async delete(request: DeleteRequest, context: CallContext): Promise<void> {
    fieldsOf(request.type);
    const script = text(unwrapSecrets(request.properties)["delete"]);
    if (isCopy(request.type) || script === undefined) return;
    await run(script, request.properties, printedBy(request.properties), context);
  }

  async invoke(request: InvokeRequest, context: CallContext): Promise<InvokeResponse> {
    if (request.tok !== "command:local:run") {
      throw new Error(
        `Function "${request.tok}": the embedded command plugin has only command:local:run. ` +
          `Use that, or the official plugin.`,
      );
    }
    const { inputs, failures } = checkInputs(RUN, request.args);
    if (failures.length > 0) return { failures };
    const script = text(unwrapSecrets(inputs)["command"]) ?? "";
    return { return: { ...inputs, ...(await run(script, inputs, NOTHING, context)) } };
  }
}
