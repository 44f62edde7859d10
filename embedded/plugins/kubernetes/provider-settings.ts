/** The provider's own arguments: what they mean, and what a change of them means. */
import type { CheckFailure, ConfigureRequest, DiffResponse, Properties } from "../provider.ts";
import { deepEqual, isObject, isUnknown, unwrapSecrets } from "../values.ts";
import { activeCluster, readKubeconfig } from "./kubeconfig.ts";
import { text } from "./pick.ts";

/** Arguments whose work only the official plugin does. */
const UNSUPPORTED_ARGUMENTS = ["renderYamlToDirectory", "helmReleaseSettings"] as const;

const SERVER_SIDE_APPLY = "enableServerSideApply";

function unsupported(what: string): string {
  return `Provider "kubernetes": the embedded plugin only does server-side apply on a live cluster, got ${what}. Leave it out, or use the official provider plugin.`;
}

/** What a provider was told to do. */
export interface Settings {
  /** A path or the content; absent: what `kubectl` would use. */
  readonly kubeconfig: string | undefined;
  readonly context: string | undefined;
  readonly cluster: string | undefined;
  /** Where objects go that name no namespace; absent: the context's. */
  readonly namespace: string | undefined;
  /** A Secret's data may change in place. */
  readonly secretsMutable: boolean;
  /** A ConfigMap's data may change in place. */
  readonly configMapsMutable: boolean;
  /** Fields that others manage are taken over instead of refused. */
  readonly patchForce: boolean;
  /** A create adopts an object that exists. */
  readonly upsert: boolean;
  /** What lies in an unreachable cluster counts as gone. */
  readonly deleteUnreachable: boolean;
  /** What lies in an unreachable cluster counts as unchanged. */
  readonly skipUpdateUnreachable: boolean;
}

/** The settings of a provider that was told nothing. */
export const UNCONFIGURED: Settings = {
  kubeconfig: undefined,
  context: undefined,
  cluster: undefined,
  namespace: undefined,
  secretsMutable: false,
  configMapsMutable: false,
  patchForce: false,
  upsert: false,
  deleteUnreachable: false,
  skipUpdateUnreachable: false,
};

/** A failed check for each argument that the embedded plugin cannot follow. */
export function unsupportedArguments(args: Properties): CheckFailure[] {
  const failures: CheckFailure[] = UNSUPPORTED_ARGUMENTS.filter(
    (property) => args[property] !== undefined && args[property] !== "",
  ).map((property) => ({ property, reason: unsupported(property) }));
  if (text(args[SERVER_SIDE_APPLY]) === "false") {
    failures.push({
      property: SERVER_SIDE_APPLY,
      reason: unsupported(`${SERVER_SIDE_APPLY}=false`),
    });
  }
  return failures;
}

/**
 * Reads the settings: from the arguments first, then from the official plugin's environment variables.
 *
 * @throws Error for an argument that the embedded plugin cannot follow.
 */
export function readSettings(request: ConfigureRequest): Settings {
  const args = request.args === undefined ? {} : unwrapSecrets(request.args);
  const setting = (name: string, variable?: string): string | undefined => {
    const given = request.variables?.[`kubernetes:config:${name}`] ?? args[name];
    if (isObject(given)) return JSON.stringify(given);
    if (text(given) !== "") return text(given);
    return variable === undefined ? undefined : process.env[variable];
  };
  const on = (name: string, variable: string): boolean => setting(name, variable) === "true";
  for (const argument of UNSUPPORTED_ARGUMENTS) {
    if (setting(argument) !== undefined) throw new Error(unsupported(argument));
  }
  if (setting(SERVER_SIDE_APPLY, "PULUMI_K8S_ENABLE_SERVER_SIDE_APPLY") === "false") {
    throw new Error(unsupported(`${SERVER_SIDE_APPLY}=false`));
  }
  return {
    kubeconfig: setting("kubeconfig"),
    context: setting("context"),
    cluster: setting("cluster"),
    namespace: setting("namespace"),
    secretsMutable: on("enableSecretMutable", "PULUMI_K8S_ENABLE_SECRET_MUTABLE"),
    configMapsMutable: on("enableConfigMapMutable", "PULUMI_K8S_ENABLE_CONFIGMAP_MUTABLE"),
    patchForce: on("enablePatchForce", "PULUMI_K8S_ENABLE_PATCH_FORCE"),
    upsert: on("upsertExistingObjects", "PULUMI_K8S_UPSERT_EXISTING_OBJECTS"),
    deleteUnreachable: on("deleteUnreachable", "PULUMI_K8S_DELETE_UNREACHABLE"),
    skipUpdateUnreachable: on("skipUpdateUnreachable", "PULUMI_K8S_SKIP_UPDATE_UNREACHABLE"),
  };
}

/**
 * What a change of a provider's arguments means: everything in it is replaced when they lead to another cluster.
 */
export async function diffProvider(olds: Properties, news: Properties): Promise<DiffResponse> {
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

async function clusterOf(properties: Properties): Promise<Properties | undefined> {
  const given = properties["kubeconfig"];
  if (given === undefined || given === "") return undefined;
  const config = await readKubeconfig(typeof given === "string" ? given : JSON.stringify(given));
  return activeCluster(config, {
    context: text(properties["context"]) || undefined,
    cluster: text(properties["cluster"]) || undefined,
  });
}
