import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, stat } from "node:fs/promises";

import type { ImageConfig } from "./dockerfile.ts";

/** One entry of an image's only layer. Everything belongs to root: the images run as other users and may only read. */
export type ImageEntry =
  | { readonly kind: "folder"; readonly path: string; readonly mode: number }
  | { readonly kind: "link"; readonly path: string; readonly target: string }
  | {
      readonly kind: "file";
      readonly path: string;
      readonly mode: number;
      readonly content: Buffer | { readonly file: string };
    };

/** What an image is, and the names under which it is imported. */
export interface ImageContent {
  readonly config: ImageConfig;
  readonly entries: readonly ImageEntry[];
  /** As Go and OCI call it: amd64, arm64. */
  readonly architecture: string;
  /** Repository without tag, `registry.flux.test/fluxbilling/pause`. */
  readonly repository: string;
  readonly tag: string;
}

const BLOCK_BYTES = 512;
const COPY_BYTES = 1024 * 1024;

/**
 * Writes the image as an archive that is both an OCI image layout and what `docker save` writes.
 *
 * The index names the one manifest twice, by digest and by tag, as containerd's own annotation: an import creates
 * both names, and a pod may name the image by digest though it never came from a registry. The layer is not
 * compressed, so that bytes depend on no zlib and an import spends no time on it. Same content, same bytes.
 *
 * @returns the manifest's digest, `sha256:…`
 */
export async function writeOciArchive(file: string, image: ImageContent): Promise<string> {
  const layer = await digestOf(layerChunks(image.entries));
  const config = json({
    created: "1970-01-01T00:00:00Z",
    architecture: image.architecture,
    os: "linux",
    config: image.config,
    rootfs: { type: "layers", diff_ids: [layer.digest] },
    history: [{ created: "1970-01-01T00:00:00Z", created_by: "embedded/images/build-images.ts" }],
  });
  const manifest = json({
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    config: descriptor("application/vnd.oci.image.config.v1+json", config),
    layers: [{ mediaType: "application/vnd.oci.image.layer.v1.tar", ...layer }],
  });
  const target = descriptor("application/vnd.oci.image.manifest.v1+json", manifest);
  const names = [`${image.repository}@${target.digest}`, `${image.repository}:${image.tag}`];
  const index = json({
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.index.v1+json",
    manifests: names.map((name) => ({
      ...target,
      platform: { architecture: image.architecture, os: "linux" },
      annotations: { "io.containerd.image.name": name },
    })),
  });
  const dockerManifest = json([
    {
      Config: blobPath(sha256(config)),
      RepoTags: [`${image.repository}:${image.tag}`],
      Layers: [blobPath(layer.digest)],
    },
  ]);

  const handle = await open(file, "w");
  try {
    const put = async (path: string, content: Buffer): Promise<void> => {
      await handle.writeFile(
        Buffer.concat([header(path, "0", 0o444, content.length), padded(content)]),
      );
    };
    await put("oci-layout", json({ imageLayoutVersion: "1.0.0" }));
    await put("index.json", index);
    await put("manifest.json", dockerManifest);
    await put(blobPath(target.digest), manifest);
    await put(blobPath(sha256(config)), config);
    await handle.writeFile(header(blobPath(layer.digest), "0", 0o444, layer.size));
    const written = await digestOf(layerChunks(image.entries), (chunk) => handle.writeFile(chunk));
    if (written.digest !== layer.digest) {
      throw new Error(`${image.repository}: an input changed while the image was being written`);
    }
    await handle.writeFile(Buffer.concat([padding(layer.size), Buffer.alloc(2 * BLOCK_BYTES)]));
    await handle.sync();
  } finally {
    await handle.close();
  }
  return target.digest;
}

/** The layer as a tar, entry by entry in the order of their paths, parents before what they hold. */
async function* layerChunks(entries: readonly ImageEntry[]): AsyncGenerator<Buffer> {
  const sorted = [...entries].sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
  for (const entry of sorted) {
    const path = entry.path.replace(/^\//, "");
    switch (entry.kind) {
      case "folder":
        yield header(`${path}/`, "5", entry.mode, 0);
        break;
      case "link":
        yield header(path, "2", 0o777, 0, entry.target);
        break;
      case "file":
        if (Buffer.isBuffer(entry.content)) {
          yield header(path, "0", entry.mode, entry.content.length);
          yield padded(entry.content);
        } else {
          const { size } = await stat(entry.content.file);
          yield header(path, "0", entry.mode, size);
          for await (const chunk of createReadStream(entry.content.file, {
            highWaterMark: COPY_BYTES,
          })) {
            yield chunk as Buffer;
          }
          yield padding(size);
        }
    }
  }
  yield Buffer.alloc(2 * BLOCK_BYTES);
}

/** A POSIX ustar header without time, owner names and anything else that differs between two machines. */
function header(
  path: string,
  type: "0" | "2" | "5",
  mode: number,
  size: number,
  link = "",
): Buffer {
  if (Buffer.byteLength(path) > 100 || Buffer.byteLength(link) > 100) {
    throw new Error(`"${path}" must fit a tar header of 100 bytes`);
  }
  const block = Buffer.alloc(BLOCK_BYTES);
  const octal = (value: number, offset: number, length: number): void => {
    block.write(`${value.toString(8).padStart(length - 1, "0")}\0`, offset, "latin1");
  };
  block.write(path, 0);
  octal(mode, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(size, 124, 12);
  octal(0, 136, 12);
  block.write("        ", 148, "latin1");
  block.write(type, 156, "latin1");
  block.write(link, 157);
  block.write("ustar\u000000", 257, "latin1");
  let sum = 0;
  for (const byte of block) sum += byte;
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return block;
}

async function digestOf(
  chunks: AsyncIterable<Buffer>,
  each: (chunk: Buffer) => Promise<void> = () => Promise.resolve(),
): Promise<{ digest: string; size: number }> {
  const hash = createHash("sha256");
  let size = 0;
  for await (const chunk of chunks) {
    hash.update(chunk);
    size += chunk.length;
    await each(chunk);
  }
  return { digest: `sha256:${hash.digest("hex")}`, size };
}

function descriptor(
  mediaType: string,
  content: Buffer,
): { mediaType: string; digest: string; size: number } {
  return { mediaType, digest: sha256(content), size: content.length };
}

function sha256(content: Buffer): string {
  return `sha256:${createHash("sha256").update(content).digest("hex")}`;
}

function blobPath(digest: string): string {
  return `blobs/${digest.replace(":", "/")}`;
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}

function padding(size: number): Buffer {
  return Buffer.alloc((BLOCK_BYTES - (size % BLOCK_BYTES)) % BLOCK_BYTES);
}

function padded(content: Buffer): Buffer {
  return Buffer.concat([content, padding(content.length)]);
}
