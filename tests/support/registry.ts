import { createHash } from "node:crypto";
import { request } from "node:https";

import { PANEL_DOMAIN } from "../../embedded/local-fleet.ts";
import { controlPlaneHost } from "../../model/panels.ts";
import { kubectl, platform } from "./platform.ts";

const HOST = controlPlaneHost("registry", PANEL_DOMAIN);
const MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json";

/** What the fleet's registry answers. */
export interface Reply {
  readonly status: number;
  readonly headers: { readonly location?: string | undefined; readonly [name: string]: unknown };
  readonly body: string;
}

/** An image as it was pushed. */
export interface Pushed {
  /** Of its manifest. */
  readonly digest: string;
  /** Of manifest, configuration and layer. */
  readonly blobs: readonly string[];
  readonly manifest: string;
}

/** Who pushes and pulls: `name:password`. */
export async function registryLogin(): Promise<string> {
  const { master } = (await platform()).machines;
  const secret = JSON.parse(
    await kubectl(
      master,
      ...["get", "secret", "registry-login-1", "--namespace", "fluxbilling-control-plane"],
      ...["-o", "json"],
    ),
  ) as { data: { username: string; password: string } };
  const text = (part: string): string => Buffer.from(part, "base64").toString();
  return `${text(secret.data.username)}:${text(secret.data.password)}`;
}

/** Calls the registry through the master's ingress; without a login as anybody. */
export async function callRegistry(
  method: string,
  path: string,
  as?: string,
  content = "",
  headers: Readonly<Record<string, string>> = {},
): Promise<Reply> {
  const { master } = (await platform()).machines;
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        host: master.address,
        port: 443,
        servername: HOST,
        method,
        path,
        agent: false,
        rejectUnauthorized: false,
        headers: {
          host: HOST,
          "content-length": Buffer.byteLength(content),
          ...(as === undefined ? {} : { authorization: `Basic ${btoa(as)}` }),
          ...headers,
        },
      },
      (response) => {
        let body = "";
        response.setEncoding("utf8").on("data", (text: string) => (body += text));
        response.on("end", () => {
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body });
        });
      },
    );
    sent.on("error", reject);
    sent.end(content);
  });
}

/**
 * Pushes an image of one layer, as any client does.
 *
 * @param tag under which it can be pulled, too. @default its digest alone
 */
export async function pushImage(
  repository: string,
  layer: string,
  login: string,
  tag?: string,
): Promise<Pushed> {
  const config = JSON.stringify({ architecture: "amd64", os: "linux" });
  const manifest = JSON.stringify({
    schemaVersion: 2,
    mediaType: MANIFEST_TYPE,
    config: {
      mediaType: "application/vnd.oci.image.config.v1+json",
      digest: await pushBlob(repository, config, login),
      size: config.length,
    },
    layers: [
      {
        mediaType: "application/vnd.oci.image.layer.v1.tar",
        digest: await pushBlob(repository, layer, login),
        size: layer.length,
      },
    ],
  });
  const digest = digestOf(manifest);
  const path = `/v2/${repository}/manifests/${tag ?? digest}`;
  const { status } = await callRegistry("PUT", path, login, manifest, {
    "content-type": MANIFEST_TYPE,
  });
  if (status !== 201) throw new Error(`The registry must take the manifest, got ${status}`);
  return { digest, blobs: [digest, digestOf(config), digestOf(layer)], manifest };
}

/** An image's manifest, by its tag or digest. */
export async function pullManifest(
  repository: string,
  reference: string,
  login?: string,
): Promise<Reply> {
  return callRegistry("GET", `/v2/${repository}/manifests/${reference}`, login, "", {
    accept: MANIFEST_TYPE,
  });
}

async function pushBlob(repository: string, content: string, login: string): Promise<string> {
  const digest = digestOf(content);
  const begun = await callRegistry("POST", `/v2/${repository}/blobs/uploads/`, login);
  const at = new URL(String(begun.headers.location), `https://${HOST}`);
  at.searchParams.set("digest", digest);
  const ended = await callRegistry("PUT", `${at.pathname}${at.search}`, login, content);
  if (ended.status !== 201) throw new Error(`The registry must take the blob, got ${ended.status}`);
  return digest;
}

function digestOf(content: string): string {
  return `sha256:${createHash("sha256").update(content).digest("hex")}`;
}
