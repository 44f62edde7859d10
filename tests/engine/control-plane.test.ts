import { beforeAll, describe, expect, it } from "vitest";

import { PANEL_DOMAIN } from "../../embedded/local-fleet.ts";
import type { MachineFacts } from "../../embedded/machines/platform.ts";
import { controlPlaneHost } from "../../model/panels.ts";
import { ask, handshake, platform } from "../support/platform.ts";
import { callRegistry, pullManifest, pushImage, registryLogin } from "../support/registry.ts";

describe("the control plane's hosts", () => {
  let master: MachineFacts;
  let login: string;

  beforeAll(async () => {
    master = (await platform()).machines.master;
    login = await registryLogin();
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
    const anonymous = await callRegistry("GET", "/v2/_catalog");
    expect([anonymous.status, anonymous.headers["www-authenticate"]]).toEqual([
      401,
      'Basic realm="fleet"',
    ]);
    expect((await callRegistry("GET", "/v2/_catalog", "fleet:wrong")).status).toBe(401);
    expect((await callRegistry("GET", "/v2/_catalog", login)).status).toBe(200);
  });

  it("takes an image in, gives it out by digest and deletes none", async () => {
    const { digest, manifest } = await pushImage("probe", `layer of ${String(Date.now())}`, login);
    const pulled = await pullManifest("probe", digest, login);
    expect([pulled.status, pulled.body]).toEqual([200, manifest]);
    expect((await pullManifest("probe", digest)).status).toBe(401);
    const path = `/v2/probe/manifests/${digest}`;
    expect((await callRegistry("DELETE", path, login)).status).toBe(405);
  });
});
