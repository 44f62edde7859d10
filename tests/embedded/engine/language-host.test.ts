import { spawn, type ChildProcessWithoutNullStreams } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import grpc from "@grpc/grpc-js";
import emptyProto from "google-protobuf/google/protobuf/empty_pb.js";
import structProto from "google-protobuf/google/protobuf/struct_pb.js";
import languageService from "@pulumi/pulumi/proto/language_grpc_pb.js";
import languageProto from "@pulumi/pulumi/proto/language_pb.js";
import type * as message from "@pulumi/pulumi/proto/language_pb.js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { nodeProgram } from "../../../embedded/engine/plugins.ts";
import { ROOT } from "../../../embedded/paths.ts";

const HOST = join(ROOT, "embedded", "plugins", "nodejs", "main.ts");
/** The recorded calls of a preview to the official host, out of the recording beside the plugins.*/
const RECORDING = join(import.meta.dirname, "official-language-host.jsonl");

let host: ChildProcessWithoutNullStreams;
let client: InstanceType<typeof languageService.LanguageRuntimeClient>;

beforeAll(async () => {
  host = spawn(nodeProgram(), [HOST, "127.0.0.1:1"]);
  const [port] = (await once(createInterface({ input: host.stdout }), "line")) as [string];
  client = new languageService.LanguageRuntimeClient(
    `127.0.0.1:${port}`,
    grpc.credentials.createInsecure(),
  );
});
afterAll(() => {
  client.close();
  host.kill("SIGKILL");
});

/** What the official host answered to the recorded call of this name. */
function recorded(method: string): unknown {
  const call = readFileSync(RECORDING, "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as { method: string; response: unknown })
    .find((line) => line.method === `/pulumirpc.LanguageRuntime/${method}`);
  if (call === undefined) throw new Error(`no recorded call of ${method}`);
  return call.response;
}

/** The project itself as a program: it depends on the packages of the recorded one. */
function project(options: { [name: string]: string | boolean } = {}): message.ProgramInfo {
  const info = new languageProto.ProgramInfo();
  info.setRootDirectory(ROOT);
  info.setProgramDirectory(ROOT);
  info.setEntryPoint("index.ts");
  info.setOptions(structProto.Struct.fromJavaScript({ typescript: false, ...options }));
  return info;
}

type Callback<T> = (error: grpc.ServiceError | null, response: T) => void;
async function answer<T>(call: (callback: Callback<T>) => unknown): Promise<T> {
  return new Promise((resolve, reject) => {
    call((error, response) => (error === null ? resolve(response) : reject(error)));
  });
}

describe("the embedded Node language host", () => {
  it("names the version of the official host that it stands for", async () => {
    const info = await answer<{ getVersion(): string }>((callback) =>
      client.getPluginInfo(new emptyProto.Empty(), callback),
    );
    expect({ version: info.getVersion() }).toEqual(recorded("GetPluginInfo"));
    const sdk = JSON.parse(
      readFileSync(join(ROOT, "node_modules", "@pulumi", "pulumi", "package.json"), "utf8"),
    ) as { version: string };
    expect(info.getVersion()).toBe(`v${sdk.version}`);
  });

  it("requires the packages that the official host required, in its order", async () => {
    const request = new languageProto.GetRequiredPackagesRequest();
    request.setInfo(project());
    const found = await answer<message.GetRequiredPackagesResponse>((callback) =>
      client.getRequiredPackages(request, callback),
    );
    const packages = found.getPackagesList().map((dependency) => ({
      name: dependency.getName(),
      kind: dependency.getKind(),
      version: dependency.getVersion(),
    }));
    expect({ packages }).toEqual(recorded("GetRequiredPackages"));
  });

  it("tells about its Node and the project's tools what the official host told", async () => {
    const request = new languageProto.AboutRequest();
    request.setInfo(project());
    const about = await answer<message.AboutResponse>((callback) =>
      client.about(request, callback),
    );
    const official = recorded("About") as { version: string; metadata: object };
    const metadata = Object.fromEntries(about.getMetadataMap().toArray());
    expect(about.getExecutable()).toBe(nodeProgram());
    expect(about.getVersion()).toBe(official.version);
    expect(metadata["packagemanagerVersion"]).toMatch(/^\d+\.\d+\.\d+$/);
    expect({ ...metadata, packagemanagerVersion: "any" }).toEqual({
      ...official.metadata,
      packagemanagerVersion: "any",
    });
  });

  it("lists direct dependencies with the versions that the lock file names", async () => {
    const request = new languageProto.GetProgramDependenciesRequest();
    request.setInfo(project());
    const found = await answer<message.GetProgramDependenciesResponse>((callback) =>
      client.getProgramDependencies(request, callback),
    );
    const manifest = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
      dependencies: { [name: string]: string };
    };
    const versions = Object.fromEntries(
      found
        .getDependenciesList()
        .map((dependency) => [dependency.getName(), dependency.getVersion()]),
    );
    expect(versions).toMatchObject(manifest.dependencies);
  });

  it("refuses runtime options of a wrong type with the official host's words", async () => {
    const request = new languageProto.RunRequest();
    request.setInfo(project({ typescript: "no" }));
    const response = await answer<message.RunResponse>((callback) => client.run(request, callback));
    expect([response.getError(), response.getBail()]).toEqual([
      "typescript option must be a boolean",
      false,
    ]);
  });

  it("answers what it cannot do with 'unimplemented', so that the engine goes on without", async () => {
    const request = new languageProto.PackRequest();
    const error = await answer((callback) => client.pack(request, callback)).catch(
      (reason: grpc.ServiceError) => reason.code,
    );
    expect(error).toBe(grpc.status.UNIMPLEMENTED);
  });

  it("ends with the engine that holds its standard input", async () => {
    const other = spawn(nodeProgram(), [HOST, "127.0.0.1:1"]);
    await once(createInterface({ input: other.stdout }), "line");
    other.stdin.end();
    const [code] = (await once(other, "exit")) as [number | null];
    expect(code).toBe(0);
  });
});
