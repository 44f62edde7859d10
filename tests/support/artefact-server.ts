/** Serves files over HTTPS with a certificate of its own, as the place that releases are fetched from. */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { ensureAuthority, ensureCertificate } from "../../embedded/machines/authority.ts";

export interface ArtefactServer {
  /** PEM of the authority that a host must trust to fetch from here. */
  readonly authority: string;
  /** Paths that were asked for, in order. */
  readonly asked: readonly string[];
  /** Serves a text from now on; tells where it is and what it is. */
  serve(name: string, content: string): { readonly url: string; readonly sha256: string };
  /** Has what is asked for from now on wait until this is called again, with false. */
  hold(isHeld: boolean): void;
  stop(): Promise<void>;
}

/** Starts a server at an address of this network namespace. */
export async function startArtefactServer(address: string): Promise<ArtefactServer> {
  const folder = mkdtempSync(join(tmpdir(), "artefacts-"));
  const pair = (name: string) => ({
    certificateFile: join(folder, `${name}.crt`),
    keyFile: join(folder, `${name}.key`),
  });
  await ensureAuthority(pair("ca"), "Artefacts of a test");
  await ensureCertificate(pair("ca"), pair("server"), {
    ...{ commonName: address, usage: "server", addresses: [address] },
  });
  const files = new Map<string, string>();
  const asked: string[] = [];
  let released = Promise.resolve();
  let release: () => void = () => undefined;
  const server = createServer(
    {
      cert: readFileSync(pair("server").certificateFile),
      key: readFileSync(pair("server").keyFile),
    },
    (request, response) => {
      const path = request.url ?? "";
      asked.push(path);
      const content = files.get(path);
      void released.then(() => {
        response.writeHead(content === undefined ? 404 : 200).end(content ?? "");
      });
    },
  ).listen(0, address);
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    authority: readFileSync(pair("ca").certificateFile, "utf8"),
    asked,
    serve: (name, content) => {
      files.set(`/${name}`, content);
      const sha256 = createHash("sha256").update(content).digest("hex");
      return { url: `https://${address}:${port}/${name}`, sha256 };
    },
    hold: (isHeld) => {
      release();
      if (isHeld) {
        ({ promise: released, resolve: release } = Promise.withResolvers<void>());
      }
    },
    stop: async () => {
      release();
      server.closeAllConnections();
      server.close();
      await once(server, "close");
      rmSync(folder, { recursive: true });
    },
  };
}
