/** The embedded stand-in for the official Kubernetes provider plugin. */
import { setTimeout as delay } from "node:timers/promises";
import { assertEmbeddedEndpoint } from "../endpoint.ts";
import type {
  CallContext,
  CheckRequest,
  CheckResponse,
  ConfigureRequest,
  ConfigureResponse,
  CreateRequest,
  CreateResponse,
  DeleteRequest,
  DiffRequest,
  DiffResponse,
  Properties,
  ReadRequest,
  ReadResponse,
  ResourceProvider,
  UpdateRequest,
  UpdateResponse,
  Value,
} from "../provider.ts";
import { InitializationFailure } from "../provider.ts";
import { uniqueName } from "../unique-name.ts";
import { containsUnknown, isObject, isUnknown, unwrapSecrets } from "../values.ts";
import { ApiError, ApiServer, FIELD_MANAGER, UnknownKind, Unreachable } from "./api-server.ts";
import type { ResourceKind } from "./api-server.ts";
import { checkpoint, markSecrets, readState, toObject } from "./checkpoint.ts";
import { covers, detailedDiff, forcesReplacement, pathParts } from "./diff.ts";
import type { Overrides } from "./kubeconfig.ts";
import { explained, isForbidden, isImmutable, isPreviewTolerated, messageOf } from "./failure.ts";
import {
  AUTONAMED,
  SKIP_AWAIT,
  WAIT_FOR,
  PATCH_FORCE,
  PATCH_FIELD_MANAGER,
  DELETION_PROPAGATION,
  REPLACE_UNREADY,
  annotations,
  idOf,
  isClusterScoped,
  isDying,
  isNamed,
  isPatch,
  kindOf,
  nameObject,
  parseId,
  propagation,
  refuseType,
  setMetadata,
  timeoutSeconds,
  typeName,
} from "./identity.ts";
import { ambientKubeconfig, clusterAccess, readKubeconfig } from "./kubeconfig.ts";
import { hasClientSideManager, isOthers, takeOver } from "./managed-fields.ts";
import { isBuiltIn, normalizeInputs, prune } from "./normalize.ts";
import { pick, pickText, text, without } from "./pick.ts";
import type { Settings } from "./provider-settings.ts";
import {
  UNCONFIGURED,
  diffProvider,
  readSettings,
  unsupportedArguments,
} from "./provider-settings.ts";
import { NotReady, assertReady } from "./readiness.ts";
import { untilGone, untilReady } from "./waiting.ts";

const APPLY = "application/apply-patch+yaml";
const JSON_PATCH = "application/json-patch+json";
const DELETE_TIMEOUT_SECONDS = 600;
/** How long a create waits for its namespace or its kind to come, in milliseconds; the official plugin's retries add up to this. */
const MISORDER_TIMEOUT_MS = 31_000;
const RETRY_MS = { first: 100, most: 2_000 } as const;
const TAKE_OVER_ATTEMPTS = 5;

/** Kinds for which the official plugin's `skipAwait` also covers deletion. */
const SKIPS_DELETE_AWAIT: ReadonlySet<string> = new Set([
  "v1/Namespace",
  "v1/Pod",
  "v1/ReplicationController",
  "apps/v1/DaemonSet",
  "apps/v1/Deployment",
  "apps/v1/StatefulSet",
  "batch/v1/Job",
]);

export class KubernetesProvider implements ResourceProvider {
  readonly name = "kubernetes";
  readonly version = "4.32.0";

  #settings: Settings = UNCONFIGURED;
  #api: ApiServer | undefined;
  #unreachable = "the provider has not been configured";
  #defaultNamespace = "default";

  checkConfig(request: CheckRequest): Promise<CheckResponse> {
    const failures = unsupportedArguments(unwrapSecrets(request.news));
    return Promise.resolve({
      inputs: request.news,
      ...(failures.length === 0 ? {} : { failures }),
    });
  }

  diffConfig(request: DiffRequest): Promise<DiffResponse> {
    return diffProvider(unwrapSecrets(request.olds), unwrapSecrets(request.news));
  }

  async configure(request: ConfigureRequest): Promise<ConfigureResponse> {
    this.#settings = readSettings(request);
    const { kubeconfig, context, cluster, namespace } = this.#settings;
    await this.#connect(kubeconfig, { context, cluster });
    this.#defaultNamespace = namespace ?? this.#defaultNamespace;
    return {
      acceptSecrets: true,
      supportsPreview: true,
      supportsAutonamingConfiguration: true,
    };
  }

  /** A kubeconfig that leads nowhere is told when a cluster is needed, as officially; one that leads astray at once. */
  async #connect(kubeconfig: string | undefined, overrides: Overrides): Promise<void> {
    this.#api?.close();
    this.#api = undefined;
    let access;
    try {
      const config =
        kubeconfig === undefined ? await ambientKubeconfig() : await readKubeconfig(kubeconfig);
      access = await clusterAccess(config, overrides);
    } catch (error) {
      this.#unreachable = messageOf(error);
      return;
    }
    await assertEmbeddedEndpoint(this.name, access.server.hostname);
    this.#defaultNamespace = access.namespace;
    this.#api = new ApiServer(access);
  }

  close(): Promise<void> {
    this.#api?.close();
    return Promise.resolve();
  }

  async check(request: CheckRequest, context: CallContext): Promise<CheckResponse> {
    const type = typeName(request.urn);
    refuseType(request, type);
    const olds = toObject(request.olds ?? {});
    const news = normalizeInputs(toObject(request.news));
    if (isPatch(type, news) && pickText(news, "metadata", "name") === "") {
      throw new Error("patch resources require the `.metadata.name` field to be set");
    }
    for (const key of Object.keys(annotations(news))) {
      if (key.startsWith(AUTONAMED)) {
        context.log("warning", `ignoring user-specified value for internal annotation "${key}"`);
      }
    }
    nameObject(request, olds, news);
    if (pick(news, "metadata", "generateName") !== undefined && !isNamed(news)) {
      throw new Error(
        "the `.metadata.generateName` field is not supported in Server-Side Apply mode",
      );
    }
    const metadata = news["metadata"] ?? {};
    if (isObject(metadata) && metadata["namespace"] === undefined) {
      if (await this.#isNamespaced(news, context)) {
        news["metadata"] = { ...metadata, namespace: this.#defaultNamespace };
      }
    }
    return { inputs: markSecrets(structuredClone(news), request.news) };
  }

  async diff(request: DiffRequest, context: CallContext): Promise<DiffResponse> {
    const state = readState(request.olds);
    const { live } = state;
    const oldInputs = normalizeInputs(state.inputs);
    const inputs = normalizeInputs(toObject(request.news));
    const old = prune(live, oldInputs);
    const liveName = pickText(live, "metadata", "name");
    const liveNamespace = pickText(live, "metadata", "namespace");

    const namespaced = await this.#isNamespaced(inputs, context);
    for (const object of [old, inputs]) {
      const namespace = pick(object, "metadata", "namespace");
      if (!namespaced) setMetadata(object, "namespace", undefined);
      else if (namespace === undefined || namespace === "") {
        setMetadata(object, "namespace", "default");
      }
    }
    if (old["apiVersion"] === undefined && old["kind"] === undefined) {
      Object.assign(old, { apiVersion: inputs["apiVersion"], kind: inputs["kind"] });
    }
    setMetadata(old, "resourceVersion", undefined);
    const name = pick(inputs, "metadata", "name");
    if (name !== undefined && !isUnknown(name)) setMetadata(old, "name", liveName);

    const forced = isPatch(typeName(request.urn), inputs)
      ? [".metadata.name", ".metadata.namespace"]
      : forcesReplacement(inputs, {
          secrets: this.#settings.secretsMutable,
          configMaps: this.#settings.configMapsMutable,
        });
    const detailed = Object.fromEntries(
      Object.entries(detailedDiff(old, inputs, forced)).filter(
        ([path]) => !(request.ignoreChanges ?? []).some((ignored) => covers(ignored, path)),
      ),
    );
    const replaces = Object.entries(detailed)
      .filter(
        ([path, { kind }]) =>
          kind?.endsWith("_REPLACE") === true || (kind === "DELETE" && path === "metadata"),
      )
      .map(([path]) => path);
    let changes: DiffResponse["changes"] =
      Object.keys(detailed).length > 0 ? "DIFF_SOME" : "DIFF_NONE";
    if (annotations(inputs)[REPLACE_UNREADY] === "true" && (await this.#isUnready(live, context))) {
      changes = "DIFF_SOME";
      replaces.push(`.metadata.annotations["${REPLACE_UNREADY}"]`);
    }
    const deleteBeforeReplace =
      replaces.length > 0 &&
      isNamed(inputs) &&
      annotations(inputs)[AUTONAMED] !== "true" &&
      name === liveName &&
      pickText(inputs, "metadata", "namespace") === liveNamespace;
    return {
      changes,
      replaces,
      deleteBeforeReplace,
      ...(Object.keys(detailed).length === 0 ? {} : { detailedDiff: detailed }),
      hasDetailedDiff: true,
    };
  }

  async create(request: CreateRequest, context: CallContext): Promise<CreateResponse> {
    const inputs = toObject(request.properties);
    const asGiven: CreateResponse = { properties: request.properties };
    const patch = isPatch(typeName(request.urn), inputs);
    if (request.preview === true) {
      if (patch || containsUnknown(inputs)) return asGiven;
      if (!(await this.#knowsKind(inputs, context))) return asGiven;
    }
    const api = this.#server();
    const apiVersion = text(inputs["apiVersion"]);
    const fieldManager =
      annotations(inputs)[PATCH_FIELD_MANAGER] ?? uniqueName({ prefix: "pulumi-kubernetes-" });
    let created: Properties;
    try {
      created = await this.#createObject(api, inputs, fieldManager, patch, request, context);
    } catch (error) {
      if (request.preview === true && isPreviewTolerated(error)) return asGiven;
      const reason = explained(error);
      if (error instanceof UnknownKind) {
        throw new Error(
          `creation of resource ${quoted(request.urn)} with kind ${apiVersion}/${text(inputs["kind"])} failed because the Kubernetes API server reported that the apiVersion for this resource does not exist. Verify that any required CRDs have been created: ${reason}`,
        );
      }
      throw new Error(
        `resource ${quoted(request.urn)} was not successfully created by the Kubernetes API server: ${reason}`,
      );
    }
    const state = (live: Properties): Properties =>
      checkpoint(inputs, live, request.properties, apiVersion, fieldManager);
    if (request.preview === true) {
      return { properties: state(without(created, "status")) };
    }
    try {
      const live = await this.#awaitReady(api, created, inputs, request.timeout, context);
      return { id: idOf(live), properties: state(live) };
    } catch (error) {
      const { live, reasons } = await this.#failure(api, error, created);
      const message = `resource ${quoted(request.urn)} was successfully created, but the Kubernetes API server reported that it failed to fully initialize or become live: ${messageOf(error)}`;
      throw new InitializationFailure(idOf(live), state(live), request.properties, [
        message,
        ...reasons,
      ]);
    }
  }

  async #createObject(
    api: ApiServer,
    inputs: Properties,
    fieldManager: string,
    patch: boolean,
    request: CreateRequest,
    context: CallContext,
  ): Promise<Properties> {
    const dryRun: { [key: string]: string } = request.preview === true ? { dryRun: "All" } : {};
    const applies = patch || this.#settings.upsert;
    // What changes something is never broken off: nobody would know then whether it happened.
    const send = async (object: Properties): Promise<Properties> => {
      const kind = await api.resourceKind(
        text(object["apiVersion"]),
        text(object["kind"]),
        context.signal,
      );
      const namespace = pickText(object, "metadata", "namespace");
      if (!applies) {
        const query = { ...dryRun, fieldManager: FIELD_MANAGER };
        return api.request("POST", api.path(kind, namespace), { query, body: object });
      }
      // Without an earlier state nothing is known of other managers, so a preview must not stumble over them.
      const force = request.preview === true || this.#forces(object);
      return api.request("PATCH", api.path(kind, namespace, pickText(object, "metadata", "name")), {
        query: { ...dryRun, fieldManager, force: String(force) },
        body: object,
        contentType: APPLY,
      });
    };
    const deadline = Date.now() + MISORDER_TIMEOUT_MS;
    for (let wait: number = RETRY_MS.first; ; wait = Math.min(wait * 2, RETRY_MS.most)) {
      try {
        const created = await send(inputs);
        if (request.preview === true || !isDying(created)) return created;
        await this.#awaitGone(api, created, request.timeout, context);
      } catch (error) {
        if (request.preview === true) {
          if (!applies || !isImmutable(error)) throw error;
          // A dry run knows no replacement: under another name it can show what the new object would be.
          const name = uniqueName({ prefix: pickText(inputs, "metadata", "name").slice(0, 55) });
          const renamed = structuredClone(inputs);
          setMetadata(renamed, "name", name);
          context.log(
            "info",
            `Preview creation failed due to immutable fields; retrying with name "${name}"`,
          );
          return send(renamed);
        }
        if (error instanceof ApiError && error.reason === "AlreadyExists") {
          const { live } = await this.#failure(api, error, inputs);
          if (!isDying(live)) throw error;
          await this.#awaitGone(api, live, request.timeout, context);
          continue;
        }
        const missing =
          error instanceof UnknownKind || (error instanceof ApiError && error.code === 404);
        if (!missing || Date.now() + wait > deadline) throw error;
        context.status(`creation failed, trying again: ${messageOf(error)}`);
        await delay(wait, undefined, { signal: context.signal });
      }
    }
  }

  /** An earlier object of the same name may still be on its way out. */
  async #awaitGone(
    api: ApiServer,
    object: Properties,
    timeout: number | undefined,
    context: CallContext,
  ): Promise<void> {
    const kind = await api.resourceKind(text(object["apiVersion"]), text(object["kind"]));
    await untilGone(api, kind, object, timeout || DELETE_TIMEOUT_SECONDS, context);
  }

  async read(request: ReadRequest, context: CallContext): Promise<ReadResponse> {
    const api = this.#api;
    if (api === undefined) return this.#unreachableRead(request, context, this.#unreachable);
    const state = readState(request.properties ?? {});
    const [namespace, name] = parseId(request.id);
    if (name === "") {
      throw new Error(
        `failed to read resource because of a failure to parse resource name from request ID: ${request.id}`,
      );
    }
    const oldInputs = normalizeInputs(toObject(request.inputs ?? {}));
    const recorded = text(oldInputs["kind"]) !== "";
    const imported = !recorded && text(state.live["kind"]) === "";
    const identity = recorded ? oldInputs : imported ? kindOf(request.urn) : state.live;
    if (!recorded) {
      oldInputs["apiVersion"] = identity["apiVersion"] ?? "";
      oldInputs["kind"] = identity["kind"] ?? "";
      if (pick(oldInputs, "metadata", "name") === undefined) setMetadata(oldInputs, "name", name);
      if (namespace !== "" && pick(oldInputs, "metadata", "namespace") === undefined) {
        setMetadata(oldInputs, "namespace", namespace);
      }
    }
    let live: Properties;
    let failure: unknown;
    try {
      const kind = await api.resourceKind(
        text(oldInputs["apiVersion"]),
        text(oldInputs["kind"]).replace(
          isPatch(typeName(request.urn), oldInputs) ? /Patch$/ : "",
          "",
        ),
        context.signal,
      );
      const path = api.path(kind, pickText(oldInputs, "metadata", "namespace") || namespace, name);
      live = await api.request("GET", path, { signal: context.signal });
      if (!imported && annotations(oldInputs)[SKIP_AWAIT] !== "true") {
        try {
          await assertReady(api, live);
        } catch (error) {
          if (!(error instanceof NotReady)) throw error;
          failure = error;
        }
      }
    } catch (error) {
      if (error instanceof Unreachable)
        return this.#unreachableRead(request, context, error.message);
      if (error instanceof UnknownKind || (error instanceof ApiError && error.code === 404))
        return {};
      throw error;
    }
    const liveInputs = imported ? importedInputs(live) : prune(live, oldInputs);
    const like = request.inputs ?? {};
    const properties = checkpoint(
      liveInputs,
      live,
      like,
      state.initialApiVersion ?? text(oldInputs["apiVersion"]),
      this.#fieldManager(state.fieldManager, oldInputs),
    );
    const inputs = properties["__inputs"] as Properties;
    if (failure instanceof NotReady) {
      throw new InitializationFailure(request.id, properties, inputs, [
        failure.message,
        ...failure.reasons,
      ]);
    }
    return { id: request.id, properties, inputs };
  }

  #unreachableRead(request: ReadRequest, context: CallContext, reason: string): ReadResponse {
    context.log("warning", `configured Kubernetes cluster is unreachable: ${reason}`);
    if (this.#settings.deleteUnreachable) {
      context.log(
        "info",
        "configured Kubernetes cluster is unreachable and the `deleteUnreachable` option is enabled. Deleting the unreachable resource from Pulumi state",
      );
      return {};
    }
    if (this.#settings.skipUpdateUnreachable) {
      context.log(
        "info",
        "configured Kubernetes cluster is unreachable and the `skipUnreachable` option is enabled. Returned data could not reflect the actual cluster configuration.",
      );
      const { id, properties, inputs } = request;
      return {
        id,
        ...(properties === undefined ? {} : { properties }),
        ...(inputs === undefined ? {} : { inputs }),
      };
    }
    throw new Error(
      'failed to read resource state due to unreachable cluster. If the cluster was deleted, you can remove this resource from Pulumi state by rerunning the operation with the PULUMI_K8S_DELETE_UNREACHABLE environment variable set to "true"',
    );
  }

  async update(request: UpdateRequest, context: CallContext): Promise<UpdateResponse> {
    const inputs = normalizeInputs(toObject(request.news));
    if (request.preview === true) {
      const known = !containsUnknown(inputs) && (await this.#knowsKind(inputs, context));
      if (!known) return { properties: request.news };
    }
    const api = this.#server();
    const old = readState(request.olds);
    const initialApiVersion =
      old.initialApiVersion ?? text(old.inputs["apiVersion"] ?? inputs["apiVersion"]);
    const oldManager = this.#fieldManager(old.fieldManager, old.inputs);
    const fieldManager = this.#fieldManager(old.fieldManager, inputs);
    const state = (live: Properties): Properties =>
      checkpoint(inputs, live, request.news, initialApiVersion, fieldManager);

    let applied: Properties | undefined;
    try {
      const kind = await api.resourceKind(
        text(inputs["apiVersion"]),
        text(inputs["kind"]),
        context.signal,
      );
      const name = pickText(old.live, "metadata", "name");
      const path = api.path(kind, pickText(inputs, "metadata", "namespace"), name);
      applied = await this.#applyUpdate(api, path, inputs, fieldManager, request, context);
      if (request.preview === true) return { properties: state(applied) };
      const live = await this.#awaitReady(api, applied, inputs, request.timeout, context);
      if (oldManager !== fieldManager) await this.#relinquish(api, path, live, oldManager);
      return { properties: state(live) };
    } catch (error) {
      if (request.preview === true && isForbidden(error)) return { properties: request.news };
      const reason = explained(error);
      if (error instanceof UnknownKind) {
        throw new Error(
          `update of resource ${quoted(request.urn)} failed because the Kubernetes API server reported that the apiVersion for this resource does not exist. Verify that any required CRDs have been created: ${reason}`,
        );
      }
      // Officially too, the inputs that were refused are recorded with what is there: the next run tries again.
      const { live, reasons } = await this.#failure(api, error, applied ?? old.live).catch(
        (readError: unknown) => {
          throw new Error(
            `update of resource ${quoted(request.urn)} failed: ${reason}\nunable to get cluster state: ${messageOf(readError)}`,
          );
        },
      );
      const message = `the Kubernetes API server reported that ${quoted(idOf(live))} failed to fully initialize or become live: ${reason}`;
      throw new InitializationFailure(idOf(live), state(live), request.news, [message, ...reasons]);
    }
  }

  async #applyUpdate(
    api: ApiServer,
    path: string,
    inputs: Properties,
    fieldManager: string,
    request: UpdateRequest,
    context: CallContext,
  ): Promise<Properties> {
    const dryRun: { [key: string]: string } = request.preview === true ? { dryRun: "All" } : {};
    const live = await this.#takeOver(api, path, inputs, fieldManager, request, context);
    if (inputs["kind"] === "CustomResourceDefinition" && isBuiltIn(text(inputs["apiVersion"]))) {
      // A definition is replaced as a whole: a patch could not take a version out of it.
      const body = structuredClone(inputs);
      setMetadata(body, "resourceVersion", pick(live, "metadata", "resourceVersion"));
      return api.request("PUT", path, { query: { ...dryRun, fieldManager }, body });
    }
    const body = structuredClone(inputs);
    for (const ignored of request.ignoreChanges ?? []) {
      leaveAsIs(body, live, pathParts(ignored), fieldManager);
    }
    const force = this.#forces(inputs) || (request.preview === true && hasClientSideManager(live));
    return api.request("PATCH", path, {
      query: { ...dryRun, fieldManager, force: String(force) },
      body,
      contentType: APPLY,
    });
  }

  /** The live object, its fields that client-side writes left behind handed to the manager that applies. */
  async #takeOver(
    api: ApiServer,
    path: string,
    inputs: Properties,
    fieldManager: string,
    request: UpdateRequest,
    context: CallContext,
  ): Promise<Properties> {
    for (let attempt = 1; ; attempt += 1) {
      const live = await api.request("GET", path, { signal: context.signal });
      if (request.preview === true || isPatch(typeName(request.urn), inputs)) return live;
      const body = takeOver(live, fieldManager);
      if (body === undefined) return live;
      try {
        return await api.request("PATCH", path, { body, contentType: JSON_PATCH });
      } catch (error) {
        // A controller wrote in between: look again.
        const changed = error instanceof ApiError && error.code === 409;
        if (!changed || attempt === TAKE_OVER_ATTEMPTS) throw error;
      }
    }
  }

  async #relinquish(
    api: ApiServer,
    path: string,
    object: Properties,
    fieldManager: string,
  ): Promise<void> {
    const { name, namespace } = (object["metadata"] ?? {}) as Properties;
    const body: Properties = {
      apiVersion: object["apiVersion"] ?? "",
      kind: object["kind"] ?? "",
      metadata: {
        ...(name === undefined ? {} : { name }),
        ...(namespace === undefined ? {} : { namespace }),
      },
    };
    await api.request("PATCH", path, { query: { fieldManager }, body, contentType: APPLY });
  }

  async delete(request: DeleteRequest, context: CallContext): Promise<void> {
    const state = readState(request.properties);
    let api: ApiServer;
    try {
      api = this.#server();
    } catch (error) {
      if (this.#isForgotten(context)) return;
      throw error;
    }
    const { live, inputs } = state;
    const [namespace, name] = parseId(request.id);
    const { signal } = context;
    try {
      const kind = await api.resourceKind(text(live["apiVersion"]), text(live["kind"]), signal);
      const path = api.path(kind, pickText(live, "metadata", "namespace") || namespace, name);
      if (isPatch(typeName(request.urn), inputs)) {
        await this.#relinquish(api, path, live, this.#fieldManager(state.fieldManager, inputs));
        return;
      }
      const propagationPolicy = propagation(annotations(inputs)[DELETION_PROPAGATION]);
      const body = { apiVersion: "v1", kind: "DeleteOptions", propagationPolicy };
      const answer = await api.request("DELETE", path, { body }).catch(async (error: unknown) => {
        // A namespace that is going already refuses to be deleted again.
        if (!(error instanceof ApiError) || error.code !== 409) throw error;
        const current = await api.request("GET", path, { signal });
        if (!isDying(current)) throw error;
        return current;
      });
      // The server answers with the object while something holds it, and with a status once it is gone.
      if (answer["kind"] === "Status") return;
      const skipped =
        annotations(inputs)[SKIP_AWAIT] === "true" &&
        SKIPS_DELETE_AWAIT.has(`${text(live["apiVersion"])}/${text(live["kind"])}`);
      if (skipped) return;
      const seconds = timeoutSeconds(request.timeout, inputs) ?? DELETE_TIMEOUT_SECONDS;
      await untilGone(api, kind, answer, seconds, context);
    } catch (error) {
      if (error instanceof UnknownKind || (error instanceof ApiError && error.code === 404)) return;
      if (error instanceof Unreachable && this.#isForgotten(context)) return;
      throw new Error(explained(error), { cause: error });
    }
  }

  #isForgotten(context: CallContext): boolean {
    if (!this.#settings.deleteUnreachable) return false;
    context.log(
      "info",
      "configured Kubernetes cluster is unreachable and the `deleteUnreachable` option is enabled. Deleting the unreachable resource from Pulumi state",
    );
    return true;
  }

  #server(): ApiServer {
    if (this.#api === undefined) {
      throw new Error(`configured Kubernetes cluster is unreachable: ${this.#unreachable}`);
    }
    return this.#api;
  }

  /** Whether the server serves an object's kind; false too when it cannot be asked. */
  async #knowsKind(object: Properties, context: CallContext): Promise<boolean> {
    return (await this.#findKind(object, context)) !== undefined;
  }

  async #findKind(object: Properties, context: CallContext): Promise<ResourceKind | undefined> {
    try {
      return await this.#api?.resourceKind(
        text(object["apiVersion"]),
        text(object["kind"]),
        context.signal,
      );
    } catch (error) {
      if (error instanceof UnknownKind || error instanceof Unreachable) return undefined;
      throw error;
    }
  }

  /** A kind that nobody knows yet counts as namespaced, as officially. */
  async #isNamespaced(object: Properties, context: CallContext): Promise<boolean> {
    if (isBuiltIn(text(object["apiVersion"]))) return !isClusterScoped(object);
    return (await this.#findKind(object, context))?.namespaced ?? true;
  }

  #forces(inputs: Properties): boolean {
    const annotation = annotations(inputs)[PATCH_FORCE];
    return annotation === "true" || this.#settings.patchForce;
  }

  #fieldManager(recorded: string | undefined, inputs: Properties): string {
    return (
      annotations(inputs)[PATCH_FIELD_MANAGER] ??
      recorded ??
      uniqueName({ prefix: "pulumi-kubernetes-" })
    );
  }

  async #awaitReady(
    api: ApiServer,
    object: Properties,
    inputs: Properties,
    timeout: number | undefined,
    context: CallContext,
  ): Promise<Properties> {
    if (annotations(inputs)[SKIP_AWAIT] === "true") return object;
    const kind = await api.resourceKind(
      text(object["apiVersion"]),
      text(object["kind"]),
      context.signal,
    );
    const options = {
      timeoutSeconds: timeoutSeconds(timeout, inputs),
      waitFor: annotations(inputs)[WAIT_FOR],
    };
    return untilReady(api, kind, object, options, context);
  }

  /** What is there after something went wrong, and why it did. */
  async #failure(
    api: ApiServer,
    error: unknown,
    lastKnown: Properties,
  ): Promise<{ live: Properties; reasons: readonly string[] }> {
    if (error instanceof NotReady) return { live: error.object, reasons: error.reasons };
    const kind = await api.resourceKind(text(lastKnown["apiVersion"]), text(lastKnown["kind"]));
    const { name, namespace } = (lastKnown["metadata"] ?? {}) as Properties;
    const live = await api.request("GET", api.path(kind, text(namespace), text(name)));
    return { live, reasons: [] };
  }

  async #isUnready(live: Properties, context: CallContext): Promise<boolean> {
    if (live["kind"] !== "Job") {
      context.log("warning", "replaceUnready annotation is not supported for this resource");
      return false;
    }
    const api = this.#api;
    if (api === undefined) {
      context.log("warning", "Cluster is unreachable, skipping replaceUnready check");
      return false;
    }
    try {
      const { live: current } = await this.#failure(api, undefined, live);
      await assertReady(api, current);
      return false;
    } catch (error) {
      return error instanceof NotReady;
    }
  }
}

function quoted(value: string): string {
  return JSON.stringify(value);
}

/** The inputs of an object that was imported: all of it but what the server alone writes. */
function importedInputs(live: Properties): Properties {
  const inputs = structuredClone(without(live, "status"));
  for (const key of [
    "creationTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "uid",
  ]) {
    setMetadata(inputs, key, undefined);
  }
  const known = pick(inputs, "metadata", "annotations");
  if (isObject(known)) {
    delete known["deployment.kubernetes.io/revision"];
    delete known["kubectl.kubernetes.io/last-applied-configuration"];
  }
  return inputs;
}

/**
 * Takes an ignored property out of what is applied when somebody else manages it, and else keeps its live value.
 */
function leaveAsIs(
  body: Properties,
  live: Properties,
  path: readonly string[],
  fieldManager: string,
): void {
  const last = path.at(-1);
  if (last === undefined) return;
  let target: Value | undefined = body;
  for (const part of path.slice(0, -1)) {
    if (!isObject(target)) return;
    target = target[part] ??= {};
  }
  if (!isObject(target)) return;
  const value = pick(live, ...path);
  if (isOthers(live, path, fieldManager)) delete target[last];
  else if (value !== undefined) target[last] = value;
}
