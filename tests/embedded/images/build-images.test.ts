import { createHash } from "node:crypto";
import { access, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  buildImages,
  IMAGE_NAMES,
  type ImageName,
  readImages,
} from "../../../embedded/images/build-images.ts";
import { readLastStage } from "../../../embedded/images/dockerfile.ts";
import { PlatformError } from "../../../embedded/platform-error.ts";
import { openImage } from "./image-root.ts";

const SOURCES = join(import.meta.dirname, "../../../embedded/images");

let folder = "";
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "build-images-"));
});
afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

async function build(names: readonly ImageName[], targetFolder = join(folder, "images")) {
  const made: string[] = [];
  const facts = await buildImages({
    targetFolder,
    names,
    built: ({ name }) => made.push(name),
  });
  return { facts, made };
}

async function sha256(file: string): Promise<string> {
  return createHash("sha256")
    .update(await readFile(file))
    .digest("hex");
}

async function refusal(promise: Promise<unknown>): Promise<string> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  return error instanceof PlatformError ? error.message : `no refusal but ${String(error)}`;
}

describe("buildImages", () => {
  it("makes the same bytes again elsewhere, and nothing where nothing changed", async () => {
    const first = await build(["pause", "busybox", "tenant-app"]);
    const again = await build(["pause", "busybox", "tenant-app"]);
    const elsewhere = await build(["pause", "busybox", "tenant-app"], join(folder, "elsewhere"));
    expect(first.made.sort()).toEqual(["busybox", "pause", "tenant-app"]);
    expect(again).toEqual({ facts: first.facts, made: [] });
    expect(elsewhere.facts.map(({ digest }) => digest)).toEqual(
      first.facts.map(({ digest }) => digest),
    );
    for (const [index, { tarFile }] of elsewhere.facts.entries()) {
      expect(await sha256(tarFile)).toBe(await sha256(first.facts[index]?.tarFile ?? ""));
    }
  });

  it("leaves nothing beside archives and records, and makes a spoiled archive anew", async () => {
    const { facts } = await build(["pause"]);
    const [pause] = facts;
    if (pause === undefined) throw new Error("an image must be made");
    expect((await readdir(join(folder, "images"))).sort()).toEqual(["pause.json", "pause.tar"]);
    await writeFile(pause.tarFile, "cut");
    expect(await build(["pause"])).toEqual({ facts, made: ["pause"] });
    await rm(pause.tarFile);
    expect(await build(["pause"])).toEqual({ facts, made: ["pause"] });
  });

  it("refuses an image whose program was not built, and says how to build it", async () => {
    const binFolder = join(folder, "no-binaries");
    const targetFolder = join(folder, "images");
    const building = buildImages({ targetFolder, binFolder, names: ["coredns"] });
    expect(await refusal(building)).toBe(
      `Image "coredns": what goes into it must be there, got no file ${join(binFolder, "coredns")}. ` +
        'Run "npm start", which builds the toolchain.',
    );
    expect(await readdir(targetFolder)).toEqual([]);
  });
});

describe("readImages", () => {
  it("refuses where an image was never made", async () => {
    expect(await refusal(readImages(folder))).toBe(
      `Image "backup": must be built, got no whole ${join(folder, "backup.tar")}. Run "npm start", which builds it.`,
    );
  });
});

describe("the images of the platform", () => {
  it.each(IMAGE_NAMES)(
    "%s has what its Dockerfile copies, and runs as nobody's root",
    async (name) => {
      const [facts] = await buildImages({ names: [name] });
      if (facts === undefined) throw new Error("an image must be made");
      const { config, root, index } = await openImage(facts.tarFile, folder);
      const stage = readLastStage(name, await readFile(join(SOURCES, name, "Dockerfile"), "utf8"));
      expect(config.config).toEqual(stage.config);
      expect(config.config.User).toMatch(/^[1-9]\d*:[1-9]\d*$/);
      expect(Object.keys(config.config.Labels ?? {}).sort()).toEqual([
        "org.opencontainers.image.description",
        "org.opencontainers.image.title",
      ]);
      for (const path of [...stage.copied, ...(config.config.Entrypoint ?? []).slice(0, 1)]) {
        await access(join(root, path));
      }
      expect(facts.reference).toBe(`registry.flux.test/fluxbilling/${name}`);
      expect(index.manifests[0]?.annotations["io.containerd.image.name"]).toBe(
        `${facts.reference}@${facts.digest}`,
      );
    },
  );
});
