/**
 * The real program, whose resources are spoilt on their way to the engine: what a wrong change of a component would
 * make, without the change. FLUX_SPOILINGS names the file that says which.
 *
 * It stands between SDK and engine, where a resource is what every program makes of it: a plain value.
 */
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import resourceProto from "@pulumi/pulumi/proto/resource_pb.js";
import type * as message from "@pulumi/pulumi/proto/resource_pb.js";
import { serializeProperty, specialSecretSig, specialSigKey } from "@pulumi/pulumi/runtime/rpc.js";
import { getMonitor } from "@pulumi/pulumi/runtime/settings.js";
import * as random from "@pulumi/random";
import structProto from "google-protobuf/google/protobuf/struct_pb.js";
import type { JavaScriptValue } from "google-protobuf/google/protobuf/struct_pb.js";
import { setPath } from "../../support/set-path.ts";
import { SMUGGLED, type Spoiling } from "./spoiling.ts";

type Props = { [key: string]: JavaScriptValue };
type Answer = (error: Error | null, response?: message.RegisterResourceResponse) => void;

const ROOT = resolve(import.meta.dirname, "../../..");
const STACK = "pulumi:pulumi:Stack";
const spoilings = JSON.parse(
  readFileSync(process.env["FLUX_SPOILINGS"] ?? "", "utf8"),
) as readonly Spoiling[];

const monitor = getMonitor() as unknown as {
  registerResource: (request: message.RegisterResourceRequest, answer: Answer) => unknown;
  registerResourceOutputs: (
    request: message.RegisterResourceOutputsRequest,
    answer: (error: Error | null, response?: object) => void,
  ) => unknown;
};
const register = monitor.registerResource.bind(monitor);
const registerOutputs = monitor.registerResourceOutputs.bind(monitor);

/** The parent of each resource that was taken out, by its URN. */
const takenOut = new Map<string, string>();
/** `<urn>::<id>` of each provider that the engine has answered, by its name. */
const providers = new Map<string, PromiseWithResolvers<string>>();

monitor.registerResource = (request, answer) => {
  spoilAndRegister(request, answer).catch(answer);
};

monitor.registerResourceOutputs = (request, answer) => {
  if (takenOut.has(request.getUrn())) {
    answer(null, {});
    return;
  }
  const outputs = request.getOutputs()?.toJavaScript() ?? {};
  if (request.getUrn().split("::").at(2) === STACK) {
    for (const { set } of spoilings.filter(({ type }) => type === STACK)) put(outputs, set);
  }
  request.setOutputs(structProto.Struct.fromJavaScript(outputs));
  registerOutputs(request, answer);
};

// Only where one is asked for: otherwise the program makes nothing of its own.
const smuggled: unknown = JSON.stringify(spoilings).includes(JSON.stringify(SMUGGLED))
  ? await serializeProperty(
      "smuggled",
      new random.RandomId("smuggled", { byteLength: 8 }).hex,
      new Set(),
    )
  : undefined;

class Added extends pulumi.CustomResource {}
for (const { type, name, add, provider } of spoilings.filter(({ add }) => add !== undefined)) {
  if (provider === undefined) new pulumi.ComponentResource(type, name, add as pulumi.Inputs);
  else new Added(type, name, add as pulumi.Inputs);
}

export default ((await import("../../../index.ts")) as { default: unknown }).default;

async function spoilAndRegister(
  request: message.RegisterResourceRequest,
  answer: Answer,
): Promise<void> {
  const [type, name] = [request.getType(), request.getName()];
  const own = spoilings.filter((spoiling) => spoiling.type === type && spoiling.name === name);
  if (own.some(({ remove }) => remove === true)) {
    takeOut(request, answer);
    return;
  }
  leaveOutTaken(request);
  const props = request.getObject()?.toJavaScript() ?? {};
  // The engine looks for files from this program's folder, not from the real one's.
  const source = props["source"] as Props | undefined;
  if (typeof source?.["path"] === "string") source["path"] = resolve(ROOT, source["path"]);
  for (const { set, protect, ignoreChanges, provider, add } of own) {
    Object.assign(props, add);
    if (type !== STACK) put(props, set);
    if (protect !== undefined) request.setProtect(protect);
    if (ignoreChanges !== undefined) request.setIgnorechangesList([...ignoreChanges]);
    if (provider !== undefined) request.setProvider(await known(provider).promise);
  }
  request.setObject(structProto.Struct.fromJavaScript(props));
  // What the program does not have is made like its own.
  const makes = spoilings.find(({ like }) => like !== undefined && like === name);
  if (!type.startsWith("pulumi:providers:")) {
    register(request, answer);
    return;
  }
  register(request, (error, response) => {
    if (response !== undefined) note(name, response);
    answer(error, response);
  });
  if (makes === undefined) return;
  const other = request.cloneMessage();
  other.setName(makes.name);
  register(other, (_error, response) => {
    if (response !== undefined) note(makes.name, response);
  });
}

function note(provider: string, response: message.RegisterResourceResponse): void {
  known(provider).resolve(`${response.getUrn()}::${response.getId()}`);
}

function known(provider: string): PromiseWithResolvers<string> {
  const one = providers.get(provider) ?? Promise.withResolvers<string>();
  providers.set(provider, one);
  return one;
}

/** Answers in the engine's place, which never hears of the resource. */
function takeOut(request: message.RegisterResourceRequest, answer: Answer): void {
  const parent = request.getParent();
  // urn:pulumi:<stack>::<project>::<types, from the outermost>::<name>, which leaves the stack's out.
  const [stack = "", project = "", types = ""] = parent.split("::");
  const type = [...types.split("$"), request.getType()].filter((one) => one !== STACK).join("$");
  const urn = [stack, project, type, request.getName()].join("::");
  takenOut.set(urn, parent);
  const response = new resourceProto.RegisterResourceResponse();
  response.setUrn(urn);
  response.setObject(request.getObject());
  answer(null, response);
}

/** Forgets what is no longer there: a parent, and what it waits for. */
function leaveOutTaken(request: message.RegisterResourceRequest): void {
  request.setParent(takenOut.get(request.getParent()) ?? request.getParent());
  const stays = (urn: string): boolean => !takenOut.has(urn);
  request.setDependenciesList(request.getDependenciesList().filter(stays));
  request.getPropertydependenciesMap().forEach((dependencies) => {
    dependencies.setUrnsList(dependencies.getUrnsList().filter(stays));
  });
}

/** Sets paths of a value as it goes over the wire; a secret's is the one inside. */
function put(props: Props, set: Spoiling["set"] = {}): void {
  for (const [path, wanted] of Object.entries(set)) {
    setPath(props, path, wanted === SMUGGLED ? smuggled : (wanted ?? undefined), inside);
  }
}

/** What a secret holds; anything else as it is. */
function inside(value: unknown): unknown {
  const isSecret =
    typeof value === "object" &&
    value !== null &&
    (value as Props)[specialSigKey] === specialSecretSig;
  return isSecret ? (value as Props)["value"] : value;
}
