import { createHash } from "node:crypto";
import { request } from "node:https";
import { beforeAll, describe, expect, it } from "vitest";

import { PANEL_DOMAIN } from "../../embedded/local-fleet.ts";
import type { MachineFacts } from "../../embedded/machines/platform.ts";
import { controlPlaneHost } from "../../model/panels.ts";
import { ask, handshake, kubectl, platform } from "../support/platform.ts";

const REGISTRY = controlPlaneHost("registry", PANEL_DOMAIN);

describe("the control plane's hosts", () => {
  let master: MachineFacts;
  let login: string;

  beforeAll(async () => {
    master = (await platform()).machines.master;
    const secret = JSON.parse(
      await kubectl(
        master,
        ...["get", "secret", "registry-login-1", "--namespace", "fluxbilling-control-plane"],
        ...["-o", "json"],
      ),
    ) as { data: { username: string; password: string } };
    const text = (part: string): string => Buffer.from(part, "base64").toString();
    login = `${text(secret.data.username)}:${text(secret.data.password)}`;
  });

  it.each(["operator", "customer", "registry"] as const)(
    "speaks TLS 1.3 alone and sends HSTS as %s",
    async (name) => {
      const host = controlPlaneHost(name, PANEL_DOMAIN);
      expect(await handshake(master.address, host, "TLSv1.3")).toBe("TLSv1.3");
      expect(await handshake(master.address, host, "TLSv1.2")).toBe(
        "ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION",
      );
      const { status, headers } = await ask(master.address, host);
      // The panels' pods come with the control plane itself.
      expect(status).toBe(name === "registry" ? 200 : 503);
      expect(headers["strict-transport-security"]).toBe("max-age=31536000; includeSubDomains");
      expect(headers["x-content-type-options"]).toBe("nosniff");
      expect(headers["x-frame-options"]).toBe("DENY");
    },
  );

  it("asks for the password before it tells what the registry holds", async () => {
    const anonymous = await call("GET", "/v2/_catalog");
    expect([anonymous.status, anonymous.headers["www-authenticate"]]).toEqual([
      401,
      'Basic realm="fleet"',
    ]);
    expect((await call("GET", "/v2/_catalog", "fleet:wrong")).status).toBe(401);
    expect((await call("GET", "/v2/_catalog", login)).status).toBe(200);
  });

  it("takes an image in, gives it out by digest and deletes none", async () => {
    const put = async (content: string): Promise<string> => {
      const digest = `sha256:${createHash("sha256").update(content).digest("hex")}`;
      const begun = await call("POST", "/v2/probe/blobs/uploads/", login);
      expect(begun.status).toBe(202);
      const at = new URL(String(begun.headers.location), `https://${REGISTRY}`);
      at.searchParams.set("digest", digest);
      const ended = await call("PUT", `${at.pathname}${at.search}`, login, content);
      expect(ended.status).toBe(201);
      return digest;
    };
    const config = JSON.stringify({ architecture: "amd64", os: "linux" });
    const layer = `a layer of ${String(Date.now())}`;
    const manifest = JSON.stringify({
      schemaVersion: 2,
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      config: {
        mediaType: "application/vnd.oci.image.config.v1+json",
        digest: await put(config),
        size: config.length,
      },
      layers: [
        {
          mediaType: "application/vnd.oci.image.layer.v1.tar",
          digest: await put(layer),
          size: layer.length,
        },
      ],
    });
    const digest = `sha256:${createHash("sha256").update(manifest).digest("hex")}`;
    const path = `/v2/probe/manifests/${digest}`;
    const type = { "content-type": "application/vnd.oci.image.manifest.v1+json" };
    expect((await call("PUT", path, login, manifest, type)).status).toBe(201);
    const pulled = await call("GET", path, login, "", { accept: type["content-type"] });
    expect([pulled.status, pulled.body]).toEqual([200, manifest]);
    expect((await call("GET", path)).status).toBe(401);
    expect((await call("DELETE", path, login)).status).toBe(405);
  });

  interface Reply {
    readonly status: number;
    readonly headers: { readonly location?: string | undefined; readonly [name: string]: unknown };
    readonly body: string;
  }

  async function call(
    method: string,
    path: string,
    as?: string,
    content = "",
    headers: Readonly<Record<string, string>> = {},
  ): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const sent = request(
        {
          host: master.address,
          port: 443,
          servername: REGISTRY,
          method,
          path,
          agent: false,
          rejectUnauthorized: false,
          headers: {
            host: REGISTRY,
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
});
