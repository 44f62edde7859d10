/** Access to a cluster, read from a kubeconfig. */
import { readFile, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";
import { parse } from "yaml";
import type { Properties, Value } from "../provider.ts";
import { isObject } from "../values.ts";

/** Where an API server is and how to prove to it who asks. */
export interface ClusterAccess {
  readonly server: URL;
  /** The certificate authority in PEM; absent: the system's. */
  readonly ca?: string;
  readonly certificate?: string;
  readonly key?: string;
  readonly token?: string;
  readonly basic?: { readonly username: string; readonly password: string };
  readonly insecure: boolean;
  /** The name that the server's certificate must bear, when it is not the address. */
  readonly serverName?: string;
  /** The namespace that the context names. @default "default" */
  readonly namespace: string;
}

/** A kubeconfig's parts by name. Relative files in it have been made absolute. */
export interface Kubeconfig {
  readonly currentContext: string;
  readonly clusters: { readonly [name: string]: Properties };
  readonly contexts: { readonly [name: string]: Properties };
  readonly users: { readonly [name: string]: Properties };
}

const FILE_KEYS = [
  "certificate-authority",
  "client-certificate",
  "client-key",
  "tokenFile",
] as const;

function text(value: Value | undefined): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

function named(document: Properties, list: string, item: string, folder: string) {
  const result: { [name: string]: Properties } = {};
  const entries = document[list];
  for (const entry of Array.isArray(entries) ? entries : []) {
    if (!isObject(entry)) continue;
    const name = text(entry["name"]);
    const value = entry[item];
    if (name === undefined || result[name] !== undefined) continue;
    const copy = isObject(value) ? { ...value } : {};
    for (const key of FILE_KEYS) {
      const file = text(copy[key]);
      if (file !== undefined) copy[key] = resolve(folder, file);
    }
    result[name] = copy;
  }
  return result;
}

/**
 * A kubeconfig's content.
 *
 * @param content YAML or JSON.
 * @param folder where relative file names in it start.
 * @throws Error when it is no kubeconfig.
 */
export function parseKubeconfig(content: string, folder = process.cwd()): Kubeconfig {
  const document: unknown = parse(content);
  if (!isObject(document as Value)) {
    throw new Error(
      "Kubeconfig: it must be a YAML document with clusters, users and contexts, got something else. Check the provider's kubeconfig.",
    );
  }
  const config = document as Properties;
  return {
    currentContext: text(config["current-context"]) ?? "",
    clusters: named(config, "clusters", "cluster", folder),
    contexts: named(config, "contexts", "context", folder),
    users: named(config, "users", "user", folder),
  };
}

function expanded(path: string): string {
  return path === "~" || path.startsWith("~/") ? join(homedir(), path.slice(1)) : path;
}

async function isFile(path: string): Promise<boolean> {
  // A kubeconfig's whole content is not a path; some systems refuse to look up names that long.
  if (path.length > 4096 || path.includes("\n")) return false;
  return stat(path).then(
    (found) => found.isFile(),
    () => false,
  );
}

/** A kubeconfig given as a path or as its content. */
export async function readKubeconfig(pathOrContent: string): Promise<Kubeconfig> {
  const path = expanded(pathOrContent);
  return (await isFile(path))
    ? parseKubeconfig(await readFile(path, "utf8"), dirname(path))
    : parseKubeconfig(pathOrContent);
}

/** What `kubectl` would use: the files in KUBECONFIG, the first entry of a name winning, or ~/.kube/config. */
export async function ambientKubeconfig(): Promise<Kubeconfig> {
  const paths = (process.env["KUBECONFIG"] ?? "").split(delimiter).filter((path) => path !== "");
  if (paths.length === 0) paths.push(join(homedir(), ".kube", "config"));
  const configs: Kubeconfig[] = [];
  for (const path of paths) {
    if (await isFile(path))
      configs.push(parseKubeconfig(await readFile(path, "utf8"), dirname(path)));
  }
  // The first file that has a name wins.
  const all = (part: "clusters" | "contexts" | "users"): { [name: string]: Properties } =>
    Object.fromEntries(configs.flatMap((config) => Object.entries(config[part])).reverse());
  return {
    currentContext: configs.find((config) => config.currentContext !== "")?.currentContext ?? "",
    clusters: all("clusters"),
    contexts: all("contexts"),
    users: all("users"),
  };
}

/** What a provider's arguments put in place of the kubeconfig's own choice. */
export interface Overrides {
  readonly context?: string | undefined;
  readonly cluster?: string | undefined;
}

/** The cluster entry that would be used, or undefined when there is none. */
export function activeCluster(config: Kubeconfig, overrides: Overrides): Properties | undefined {
  const context = config.contexts[overrides.context ?? config.currentContext];
  if (context === undefined) return undefined;
  return config.clusters[overrides.cluster ?? text(context["cluster"]) ?? ""];
}

async function pem(entry: Properties, key: string): Promise<string | undefined> {
  const data = text(entry[`${key}-data`]);
  if (data !== undefined) return Buffer.from(data, "base64").toString("utf8");
  const file = text(entry[key]);
  return file === undefined ? undefined : readFile(file, "utf8");
}

/**
 * The access that a kubeconfig grants.
 *
 * @throws Error when context or cluster are missing, or when it asks for a program or plugin to log in.
 */
export async function clusterAccess(
  config: Kubeconfig,
  overrides: Overrides,
): Promise<ClusterAccess> {
  const contextName = overrides.context ?? config.currentContext;
  const context = config.contexts[contextName];
  if (context === undefined) {
    throw new Error(
      `Kubeconfig: context "${contextName}" must be one of its contexts, got ${Object.keys(config.contexts).join(", ") || "none"}. Set the provider's kubeconfig or context.`,
    );
  }
  const cluster = activeCluster(config, overrides);
  const server = text(cluster?.["server"]);
  if (cluster === undefined || server === undefined) {
    throw new Error(
      `Kubeconfig: context "${contextName}" must lead to a cluster with a server, got none. Set the provider's kubeconfig or cluster.`,
    );
  }
  const user = config.users[text(context["user"]) ?? ""] ?? {};
  for (const unsupported of ["exec", "auth-provider"]) {
    if (user[unsupported] !== undefined) {
      throw new Error(
        `Kubeconfig: the embedded kubernetes plugin logs in with a certificate, a token or a password, got ${unsupported}. Use the official provider plugin for it.`,
      );
    }
  }
  const tokenFile = text(user["tokenFile"]);
  const ca = await pem(cluster, "certificate-authority");
  const certificate = await pem(user, "client-certificate");
  const key = await pem(user, "client-key");
  const token =
    text(user["token"]) ??
    (tokenFile === undefined ? undefined : (await readFile(tokenFile, "utf8")).trim());
  const username = text(user["username"]);
  const serverName = text(cluster["tls-server-name"]);
  return {
    server: new URL(server),
    insecure: cluster["insecure-skip-tls-verify"] === true,
    namespace: text(context["namespace"]) ?? "default",
    ...(ca === undefined ? {} : { ca }),
    ...(certificate === undefined ? {} : { certificate }),
    ...(key === undefined ? {} : { key }),
    ...(token === undefined ? {} : { token }),
    ...(username === undefined
      ? {}
      : { basic: { username, password: text(user["password"]) ?? "" } }),
    ...(serverName === undefined ? {} : { serverName }),
  };
}
