/** The embedded stand-in for the official Kubernetes provider plugin. */
import { setTimeout as delay } from "node:timers/promises";
import { assertEmbeddedEndpoint } from "../endpoint.ts";
import type {
  CallContext,
  CheckFailure,
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
import { containsUnknown, deepEqual, isObject, isUnknown, unwrapSecrets } from "../values.ts";
import { ApiError, ApiServer, FIELD_MANAGER, UnknownKind, Unreachable } from "./api-server.ts";
import type { ResourceKind } from "./api-server.ts";
import { checkpoint, markSecrets, readState, toObject } from "./checkpoint.ts";
import { covers, detailedDiff, forcesReplacement, pathParts } from "./diff.ts";
import type { Kubeconfig, Overrides } from "./kubeconfig.ts";
import { activeCluster, ambientKubeconfig, clusterAccess, readKubeconfig } from "./kubeconfig.ts";
import { hasClientSideManager, isOthers, takeOver } from "./managed-fields.ts";
import { isBuiltIn, normalizeInputs, prune } from "./normalize.ts";
import { NotReady, assertReady, pick, untilGone, untilReady } from "./readiness.ts";
import { uniqueName } from "./unique-name.ts";

const AUTONAMED = "pulumi.com/autonamed";
const SKIP_AWAIT = "pulumi.com/skipAwait";
const WAIT_FOR = "pulumi.com/waitFor";
const TIMEOUT_SECONDS = "pulumi.com/timeoutSeconds";
const PATCH_FORCE = "pulumi.com/patchForce";
const PATCH_FIELD_MANAGER = "pulumi.com/patchFieldManager";
const DELETION_PROPAGATION = "pulumi.com/deletionPropagationPolicy";
const REPLACE_UNREADY = "pulumi.com/replaceUnready";

const APPLY = "application/apply-patch+yaml";
const JSON_PATCH = "application/json-patch+json";
const DELETE_TIMEOUT_SECONDS = 600;
/** How long a create waits for its namespace or its kind to come, in milliseconds; the official plugin's retries add up to this. */
const MISORDER_TIMEOUT_MS = 31_000;
const RETRY_MS = { first: 100, most: 2_000 } as const;
const TAKE_OVER_ATTEMPTS = 5;

/** Built-in kinds that belong to no namespace. */
const CLUSTER_SCOPED: ReadonlySet<string> = new Set([
  "APIService",
  "CSIDriver",
  "CSINode",
  "CertificateSigningRequest",
  "ClusterRole",
  "ClusterRoleBinding",
  "ClusterTrustBundle",
  "ComponentStatus",
  "CustomResourceDefinition",
  "DeviceClass",
  "FlowSchema",
  "IPAddress",
  "IngressClass",
  "MutatingAdmissionPolicy",
  "MutatingAdmissionPolicyBinding",
  "MutatingWebhookConfiguration",
  "Namespace",
  "Node",
  "PersistentVolume",
  "PriorityClass",
  "PriorityLevelConfiguration",
  "ResourceSlice",
  "RuntimeClass",
  "SelfSubjectAccessReview",
  "SelfSubjectReview",
  "SelfSubjectRulesReview",
  "ServiceCIDR",
  "StorageClass",
  "SubjectAccessReview",
  "TokenReview",
  "ValidatingAdmissionPolicy",
  "ValidatingAdmissionPolicyBinding",
  "ValidatingWebhookConfiguration",
  "VolumeAttachment",
  "VolumeAttributesClass",
]);

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

interface Settings {
  readonly secretsMutable: boolean;
  readonly configMapsMutable: boolean;
  readonly patchForce: boolean;
  readonly upsert: boolean;
  readonly deleteUnreachable: boolean;
  readonly skipUpdateUnreachable: boolean;
}

const NO_SETTINGS: Settings = {
  secretsMutable: false,
  configMapsMutable: false,
  patchForce: false,
  upsert: false,
  deleteUnreachable: false,
  skipUpdateUnreachable: false,
};

/** Arguments whose work only the official plugin does. */
const UNSUPPORTED_ARGUMENTS = ["renderYamlToDirectory", "helmReleaseSettings"] as const;

export class KubernetesProvider implements ResourceProvider {
  readonly name = "kubernetes";
  readonly version = "4.32.0";

  #settings = NO_SETTINGS;
  #api: ApiServer | undefined;
  #unreachable = "the provider has not been configured";
  #defaultNamespace = "default";

  async checkConfig(request: CheckRequest): Promise<CheckResponse> {
    const news = unwrapSecrets(request.news);
    const failures: CheckFailure[] = [];
    for (const property of UNSUPPORTED_ARGUMENTS) {
      if (news[property] !== undefined && news[property] !== "") {
        failures.push({ property, reason: unsupported(property) });
      }
    }
    if (String(news["enableServerSideApply"] ?? "true") === "false") {
      failures.push({
        property: "enableServerSideApply",
        reason: unsupported("enableServerSideApply=false"),
      });
    }
    return { inputs: request.news, ...(failures.length === 0 ? {} : { failures }) };
  }

  async diffConfig(request: DiffRequest): Promise<DiffResponse> {
    const olds = unwrapSecrets(request.olds);
    const news = unwrapSecrets(request.news);
    const changed = [...new Set([...Object.keys(olds), ...Object.keys(news)])]
      .filter((key) => !deepEqual(olds[key], news[key]))
      .sort();
    if (changed.length === 0) return { changes: "DIFF_NONE" };

    const replaces: string[] = [];
    const oldIdentifier = olds["clusterIdentifier"];
    const identifier = news["clusterIdentifier"];
    if (oldIdentifier !== undefined && identifier !== undefined && oldIdentifier !== identifier) {
      replaces.push("clusterIdentifier");
    }
    // Who names the cluster decides alone when it is another one.
    const sameByName = identifier !== undefined && oldIdentifier === identifier;
    const CLUSTER_KEYS = ["kubeconfig", "context", "cluster"];
    const unknown = CLUSTER_KEYS.find((key) => isUnknown(news[key]));
    if (unknown !== undefined) {
      return {
        changes: "DIFF_SOME",
        diffs: [unknown],
        replaces: sameByName ? [] : [...replaces, unknown],
      };
    }
    const [oldCluster, cluster] = await Promise.all([olds, news].map(clusterOf));
    if (oldCluster !== undefined && cluster !== undefined && !deepEqual(oldCluster, cluster)) {
      replaces.push(...CLUSTER_KEYS.filter((key) => changed.includes(key)));
    }
    return { changes: "DIFF_SOME", diffs: changed, replaces: sameByName ? [] : replaces };
  }

  async configure(request: ConfigureRequest): Promise<ConfigureResponse> {
    const args = request.args === undefined ? {} : unwrapSecrets(request.args);
    const setting = (name: string, variable?: string): string | undefined => {
      const given = request.variables?.[`kubernetes:config:${name}`] ?? args[name];
      if (given !== undefined && given !== null && given !== "") return String(given);
      return variable === undefined ? undefined : process.env[variable];
    };
    const on = (name: string, variable: string): boolean => setting(name, variable) === "true";
    for (const argument of UNSUPPORTED_ARGUMENTS) {
      if (setting(argument) !== undefined) throw new Error(unsupported(argument));
    }
    if (setting("enableServerSideApply", "PULUMI_K8S_ENABLE_SERVER_SIDE_APPLY") === "false") {
      throw new Error(unsupported("enableServerSideApply=false"));
    }
    this.#settings = {
      secretsMutable: on("enableSecretMutable", "PULUMI_K8S_ENABLE_SECRET_MUTABLE"),
      configMapsMutable: on("enableConfigMapMutable", "PULUMI_K8S_ENABLE_CONFIGMAP_MUTABLE"),
      patchForce: on("enablePatchForce", "PULUMI_K8S_ENABLE_PATCH_FORCE"),
      upsert: on("upsertExistingObjects", "PULUMI_K8S_UPSERT_EXISTING_OBJECTS"),
      deleteUnreachable: on("deleteUnreachable", "PULUMI_K8S_DELETE_UNREACHABLE"),
      skipUpdateUnreachable: on("skipUpdateUnreachable", "PULUMI_K8S_SKIP_UPDATE_UNREACHABLE"),
    };
    await this.#connect(setting("kubeconfig"), {
      context: setting("context"),
      cluster: setting("cluster"),
    });
    this.#defaultNamespace = setting("namespace") ?? this.#defaultNamespace;
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

  async close(): Promise<void> {
    this.#api?.close();
  }

  async check(request: CheckRequest, context: CallContext): Promise<CheckResponse> {
    const type = typeName(request.urn);
    refuseType(request, type);
    const olds = toObject(request.olds ?? {});
    const news = normalizeInputs(toObject(request.news));
    if (isPatch(type, news) && text(pick(news, "metadata", "name")) === "") {
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
    const liveName = text(pick(live, "metadata", "name"));
    const liveNamespace = text(pick(live, "metadata", "namespace"));

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
      text(pick(inputs, "metadata", "namespace")) === liveNamespace;
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
      annotations(inputs)[PATCH_FIELD_MANAGER] ?? uniqueName("pulumi-kubernetes-");
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
      const { status: _, ...preview } = created;
      return { properties: state(preview) };
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
      const namespace = text(pick(object, "metadata", "namespace"));
      if (!applies) {
        const query = { ...dryRun, fieldManager: FIELD_MANAGER };
        return api.request("POST", api.path(kind, namespace), { query, body: object });
      }
      // Without an earlier state nothing is known of other managers, so a preview must not stumble over them.
      const force = request.preview === true || this.#forces(object);
      return api.request(
        "PATCH",
        api.path(kind, namespace, text(pick(object, "metadata", "name"))),
        {
          query: { ...dryRun, fieldManager, force: String(force) },
          body: object,
          contentType: APPLY,
        },
      );
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
          const name = uniqueName(text(pick(inputs, "metadata", "name"))).slice(0, 63);
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
      const path = api.path(
        kind,
        text(pick(oldInputs, "metadata", "namespace")) || namespace,
        name,
      );
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
      const name = text(pick(old.live, "metadata", "name"));
      const path = api.path(kind, text(pick(inputs, "metadata", "namespace")), name);
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
      const path = api.path(kind, text(pick(live, "metadata", "namespace")) || namespace, name);
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
    if (isBuiltIn(text(object["apiVersion"]))) return !CLUSTER_SCOPED.has(text(object["kind"]));
    return (await this.#findKind(object, context))?.namespaced ?? true;
  }

  #forces(inputs: Properties): boolean {
    const annotation = annotations(inputs)[PATCH_FORCE];
    return annotation === "true" || this.#settings.patchForce;
  }

  #fieldManager(recorded: string | undefined, inputs: Properties): string {
    return annotations(inputs)[PATCH_FIELD_MANAGER] ?? recorded ?? uniqueName("pulumi-kubernetes-");
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

function unsupported(what: string): string {
  return `Provider "kubernetes": the embedded plugin only does server-side apply on a live cluster, got ${what}. Leave it out, or use the official provider plugin.`;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** A failure in the words of the official plugin, with the way out where it has one. */
function explained(error: unknown): string {
  if (error instanceof Unreachable) {
    return `configured Kubernetes cluster is unreachable: ${error.message}`;
  }
  if (error instanceof ApiError && error.reason === "Conflict") {
    return `Server-Side Apply field conflict detected: ${error.message}. Set the annotation ${PATCH_FORCE} or the provider's enablePatchForce to take the fields over.`;
  }
  if (error instanceof ApiError && error.reason === "AlreadyExists") {
    return `${error.message}. Import it, or set the provider's upsertExistingObjects to adopt what exists.`;
  }
  return messageOf(error);
}

function isForbidden(error: unknown): boolean {
  return error instanceof ApiError && error.code === 403;
}

/** A dry run cannot foresee what the same run will have made or deleted by then. */
function isPreviewTolerated(error: unknown): boolean {
  if (error instanceof Unreachable) return true;
  if (!(error instanceof ApiError)) return false;
  const namespaceMissing =
    error.code === 404 && pick(error.status, "details", "kind") === "namespaces";
  const noDryRun = error.code === 400 && error.message.includes("does not support dry run");
  return error.code === 403 || error.reason === "AlreadyExists" || namespaceMissing || noDryRun;
}

/** Deleted, but something still holds it. */
function isDying(object: Properties): boolean {
  return pick(object, "metadata", "deletionTimestamp") !== undefined;
}

function isImmutable(error: unknown): boolean {
  return (
    error instanceof ApiError && error.code === 422 && error.message.includes("field is immutable")
  );
}

function text(value: Value | undefined): string {
  return typeof value === "string" ? value : "";
}

function quoted(value: string): string {
  return JSON.stringify(value);
}

/** An object's annotations that are known. */
function annotations(object: Properties): { [key: string]: string } {
  const found = pick(object, "metadata", "annotations");
  if (!isObject(found)) return {};
  return Object.fromEntries(
    Object.entries(found)
      .filter(([, value]) => !isUnknown(value))
      .map(([key, value]) => [key, String(value)]),
  );
}

function setMetadata(object: Properties, key: string, value: Value | undefined): void {
  const metadata = object["metadata"];
  if (metadata !== undefined && !isObject(metadata)) return;
  if (metadata === undefined && value === undefined) return;
  const { [key]: _, ...rest } = metadata ?? {};
  object["metadata"] = value === undefined ? rest : { ...rest, [key]: value };
}

/** `kubernetes:apps/v1:Deployment` out of a URN, whose type part may name parents. */
function typeToken(urn: string): string {
  return (urn.split("::")[2] ?? "").split("$").at(-1) ?? "";
}

function typeName(urn: string): string {
  return typeToken(urn).split(":")[2] ?? "";
}

/** The kind that a URN names, for an object of which nothing else is known. */
function kindOf(urn: string): Properties {
  const [, version = "", kind = ""] = typeToken(urn).split(":");
  return { apiVersion: version.replace(/^core\//, ""), kind: kind.replace(/Patch$/, "") };
}

/** A resource that manages some fields of an object which somebody else owns. */
function isPatch(type: string, object: Properties): boolean {
  return type.endsWith("Patch") && !text(object["kind"]).endsWith("Patch");
}

function refuseType(request: CheckRequest, type: string): void {
  const token = typeToken(request.urn);
  if (token.startsWith("kubernetes:helm.sh/") || token.startsWith("kubernetes:kustomize")) {
    throw new Error(
      `Resource "${request.name}": the embedded kubernetes plugin only makes plain objects, got ${token}. Use the official provider plugin for it.`,
    );
  }
  if (type.endsWith("List") && text(request.news["kind"]) === type) {
    throw new Error(
      "list resources exist for compatibility with YAML manifests and Helm charts, and cannot be created directly. Use the underlying resource type instead",
    );
  }
}

function isNamed(object: Properties): boolean {
  const name = pick(object, "metadata", "name");
  return name !== undefined && name !== "";
}

/** Gives the inputs a name when they have none: the old automatic one, or a new one. */
function nameObject(request: CheckRequest, olds: Properties, news: Properties): void {
  const metadata = news["metadata"] ?? {};
  if (!isObject(metadata) || isNamed(news)) return;
  let name: string;
  if (Object.keys(olds).length > 0) {
    if (annotations(olds)[AUTONAMED] !== "true") return;
    name = text(pick(olds, "metadata", "name"));
  } else {
    if (metadata["generateName"] !== undefined) return;
    const { mode, proposedName } = request.autonaming ?? {};
    if (mode === "DISABLE") {
      throw new Error(
        `autonaming is disabled, but no name was provided for resource ${quoted(request.urn)}`,
      );
    }
    const proposed = mode === undefined ? "" : (proposedName ?? "");
    name = proposed === "" ? uniqueName(`${request.name}-`, request.randomSeed) : proposed;
  }
  const known = metadata["annotations"] ?? {};
  news["metadata"] = {
    ...metadata,
    name,
    ...(isObject(known) ? { annotations: { ...known, [AUTONAMED]: "true" } } : {}),
  };
}

/** `namespace/name`, or the name alone for what belongs to no namespace. */
function idOf(object: Properties): string {
  const namespace = text(pick(object, "metadata", "namespace"));
  const name = text(pick(object, "metadata", "name"));
  return namespace === "" ? name : `${namespace}/${name}`;
}

function parseId(id: string): [namespace: string, name: string] {
  const slash = id.indexOf("/");
  return slash < 0 ? ["", id] : [id.slice(0, slash), id.slice(slash + 1)];
}

function timeoutSeconds(given: number | undefined, inputs: Properties): number | undefined {
  if (given !== undefined && given !== 0) return given;
  const annotated = annotations(inputs)[TIMEOUT_SECONDS];
  return annotated !== undefined && /^\d+$/.test(annotated) ? Number(annotated) : undefined;
}

function propagation(annotation: string | undefined): string {
  switch (annotation?.toLowerCase()) {
    case "orphan":
      return "Orphan";
    case "background":
      return "Background";
    default:
      return "Foreground";
  }
}

/** The inputs of an object that was imported: all of it but what the server alone writes. */
function importedInputs(live: Properties): Properties {
  const { status: _, ...inputs } = structuredClone(live);
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

async function clusterOf(properties: Properties): Promise<Properties | undefined> {
  const given = properties["kubeconfig"];
  if (given === undefined || given === "") return undefined;
  const config: Kubeconfig = await readKubeconfig(
    typeof given === "string" ? given : JSON.stringify(given),
  );
  return activeCluster(config, {
    context: text(properties["context"]) || undefined,
    cluster: text(properties["cluster"]) || undefined,
  });
}
