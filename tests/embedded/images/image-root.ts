import { execFile } from "node:child_process";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import type { ImageConfig } from "../../../embedded/images/dockerfile.ts";

const run = promisify(execFile);

/** What an archive holds, read as its own JSON says, with nothing of the builder's code. */
export interface OpenedImage {
  readonly index: {
    readonly manifests: readonly {
      readonly digest: string;
      readonly annotations: { readonly [name: string]: string };
    }[];
  };
  readonly manifest: {
    readonly layers: readonly { readonly digest: string; readonly size: number }[];
  };
  readonly config: {
    readonly architecture: string;
    readonly config: ImageConfig;
    readonly rootfs: { readonly diff_ids: readonly string[] };
  };
  /** Folder with the files of the layer, as root's tar unpacks them. */
  readonly root: string;
}

/** Unpacks an image archive with the system's own tar into `folder`. */
export async function openImage(tarFile: string, folder: string): Promise<OpenedImage> {
  const archive = join(folder, "archive");
  const root = join(folder, "root");
  await mkdir(archive, { recursive: true });
  await mkdir(root, { recursive: true });
  await run("tar", ["-xf", tarFile, "-C", archive]);
  const blob = (digest: string): string => join(archive, "blobs", digest.replace(":", "/"));
  const read = async <T>(file: string): Promise<T> => JSON.parse(await readFile(file, "utf8")) as T;
  const index = await read<OpenedImage["index"]>(join(archive, "index.json"));
  const [first] = index.manifests;
  if (first === undefined) throw new Error("the index must name a manifest");
  const manifest = await read<
    OpenedImage["manifest"] & { readonly config: { readonly digest: string } }
  >(blob(first.digest));
  const config = await read<OpenedImage["config"]>(blob(manifest.config.digest));
  for (const layer of manifest.layers) {
    await run("tar", ["-xf", blob(layer.digest), "-C", root, "--same-permissions"]);
  }
  return { index, manifest, config, root };
}
