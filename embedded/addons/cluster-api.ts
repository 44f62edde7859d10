import { KubeConfig } from "@kubernetes/client-node";
import { Agent, request, type RequestOptions } from "node:https";

import { PlatformError } from "../platform-error.ts";

/** An object as it is applied. */
export interface KubernetesObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: { readonly [name: string]: string };
    readonly annotations?: { readonly [name: string]: string };
  };
  readonly [field: string]: unknown;
}

/** An answer of the API server that is no success. */
export class ClusterApiError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** Path segments of the kinds that add-ons consist of. */
const RESOURCES: { readonly [kind: string]: string } = {
  ClusterRole: "clusterroles",
  ClusterRoleBinding: "clusterrolebindings",
  ConfigMap: "configmaps",
  CustomResourceDefinition: "customresourcedefinitions",
  Deployment: "deployments",
  IngressClass: "ingressclasses",
  PersistentVolume: "persistentvolumes",
  Pod: "pods",
  Role: "roles",
  RoleBinding: "rolebindings",
  Service: "services",
  ServiceAccount: "serviceaccounts",
  StorageClass: "storageclasses",
};

const FIELD_MANAGER = "embedded";
const REQUEST_TIMEOUT_MS = 10_000;

/**
 * Server-side apply and reads on one cluster.
 *
 * The client library's own object API turns what it sends into its typed models first, and these drop the
 * `x-kubernetes-…` fields and defaults of a CustomResourceDefinition; here an object is sent as it is.
 */
export class ClusterApi {
  readonly #server: URL;
  readonly #agent: Agent;
  /** Authorization, where the kubeconfig has a token instead of a certificate. */
  readonly #headers: RequestOptions["headers"];

  private constructor(server: URL, agent: Agent, headers: RequestOptions["headers"]) {
    this.#server = server;
    this.#agent = agent;
    this.#headers = headers;
  }

  /**
   * @param kubeconfigPath file whose current context names the cluster and an administrator
   * @throws PlatformError when the file names no cluster
   */
  static async open(kubeconfigPath: string): Promise<ClusterApi> {
    const config = new KubeConfig();
    config.loadFromFile(kubeconfigPath);
    const cluster = config.getCurrentCluster();
    if (cluster === null) {
      throw new PlatformError(
        `Kubeconfig "${kubeconfigPath}": its current context must name a cluster, got none. ` +
          'Run "npm stop" and "npm start".',
      );
    }
    const options: RequestOptions = {};
    await config.applyToHTTPSOptions(options);
    // The library's own agent makes a new connection for every request.
    const { ca, cert, key, rejectUnauthorized = true } = options;
    const agent = new Agent({ ca, cert, key, rejectUnauthorized, keepAlive: true, maxSockets: 8 });
    return new ClusterApi(new URL(cluster.server), agent, options.headers);
  }

  /** Ends the connections. */
  close(): void {
    this.#agent.destroy();
  }

  /**
   * Makes the object what is given here, field by field, and leaves fields of other managers alone.
   *
   * @throws ClusterApiError when the server refuses
   */
  async apply(object: KubernetesObject): Promise<void> {
    await this.#send(
      "PATCH",
      `${pathOf(object)}/${object.metadata.name}?fieldManager=${FIELD_MANAGER}&force=true`,
      object,
    );
  }

  /**
   * The object as it is in the cluster.
   *
   * @throws ClusterApiError when there is none
   */
  async read(object: Pick<KubernetesObject, "apiVersion" | "kind" | "metadata">): Promise<unknown> {
    return this.#send("GET", `${pathOf(object)}/${object.metadata.name}`);
  }

  /** Has the object deleted; one that is gone already is as it should be. */
  async remove(object: Pick<KubernetesObject, "apiVersion" | "kind" | "metadata">): Promise<void> {
    try {
      await this.#send("DELETE", `${pathOf(object)}/${object.metadata.name}`);
    } catch (error) {
      if (!(error instanceof ClusterApiError) || error.status !== 404) throw error;
    }
  }

  /** The objects of a kind in a namespace that have the labels. */
  async list(
    apiVersion: string,
    kind: string,
    namespace: string,
    labels: { readonly [name: string]: string },
  ): Promise<readonly unknown[]> {
    const selector = Object.entries(labels)
      .map(([name, value]) => `${name}=${value}`)
      .join(",");
    const path = pathOf({ apiVersion, kind, metadata: { name: "", namespace } });
    const answer = await this.#send("GET", `${path}?labelSelector=${encodeURIComponent(selector)}`);
    return (answer as { items: readonly unknown[] }).items;
  }

  async #send(method: string, path: string, body?: unknown): Promise<unknown> {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const { status, content } = await new Promise<{ status: number; content: string }>(
      (resolve, reject) => {
        const sending = request(
          new URL(path, this.#server),
          {
            agent: this.#agent,
            method,
            timeout: REQUEST_TIMEOUT_MS,
            headers: {
              ...this.#headers,
              Accept: "application/json",
              // JSON is YAML, and apply has no media type for JSON.
              ...(text === undefined ? {} : { "Content-Type": "application/apply-patch+yaml" }),
            },
          },
          (response) => {
            const chunks: Buffer[] = [];
            response.on("data", (chunk: Buffer) => chunks.push(chunk));
            response.once("error", reject);
            response.once("end", () => {
              const content = Buffer.concat(chunks).toString();
              resolve({ status: response.statusCode ?? 0, content });
            });
          },
        );
        sending.once("timeout", () => sending.destroy(new Error("the API server gave no answer")));
        sending.once("error", reject);
        sending.end(text);
      },
    );
    if (status < 200 || status > 299) throw new ClusterApiError(status, reasonOf(content));
    return JSON.parse(content);
  }
}

function pathOf(object: Pick<KubernetesObject, "apiVersion" | "kind" | "metadata">): string {
  const resource = RESOURCES[object.kind];
  if (resource === undefined) throw new Error(`add-ons know no kind "${object.kind}"`);
  const group = object.apiVersion.includes("/") ? `/apis/${object.apiVersion}` : "/api/v1";
  const { namespace } = object.metadata;
  return namespace === undefined
    ? `${group}/${resource}`
    : `${group}/namespaces/${namespace}/${resource}`;
}

function reasonOf(content: string): string {
  try {
    return (JSON.parse(content) as { message?: string }).message ?? content;
  } catch {
    return content;
  }
}
