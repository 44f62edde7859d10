import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { lstat, mkdtemp, readFile, readlink, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type ImageEntry, writeOciArchive } from "../../../embedded/images/oci-archive.ts";
import { openImage } from "./image-root.ts";

const run = promisify(execFile);

let folder = "";
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "oci-archive-"));
});
afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

function image(entries: readonly ImageEntry[]) {
  return {
    config: { User: "65532:65532", Entrypoint: ["/bin/program"] },
    entries,
    architecture: "amd64",
    repository: "registry.example/thing",
    tag: "test",
  };
}

async function entries(): Promise<ImageEntry[]> {
  const file = join(folder, "program");
  // No multiple of a tar's block, and larger than one read.
  await writeFile(file, Buffer.alloc(2_500_001, "program"));
  return [
    { kind: "file", path: "/bin/program", mode: 0o755, content: { file } },
    { kind: "folder", path: "/bin", mode: 0o755 },
    { kind: "link", path: "/bin/alias", target: "program" },
    { kind: "file", path: "/etc/empty", mode: 0o640, content: Buffer.alloc(0) },
    { kind: "folder", path: "/etc", mode: 0o755 },
    { kind: "folder", path: "/tmp", mode: 0o1777 },
  ];
}

async function sha256(file: string): Promise<string> {
  return createHash("sha256")
    .update(await readFile(file))
    .digest("hex");
}

describe("writeOciArchive", () => {
  it("writes files, modes, links and owners as the system's tar reads them", async () => {
    await writeOciArchive(join(folder, "image.tar"), image(await entries()));
    const { root } = await openImage(join(folder, "image.tar"), join(folder, "opened"));
    expect(await readFile(join(root, "bin/program"))).toEqual(
      await readFile(join(folder, "program")),
    );
    expect(await readlink(join(root, "bin/alias"))).toBe("program");
    const facts = await Promise.all(
      ["bin", "bin/program", "etc/empty", "tmp"].map(async (path) => {
        const { mode, uid, gid, mtimeMs } = await lstat(join(root, path));
        return [path, (mode & 0o7777).toString(8), uid, gid, mtimeMs];
      }),
    );
    expect(facts).toEqual([
      ["bin", "755", 0, 0, 0],
      ["bin/program", "755", 0, 0, 0],
      ["etc/empty", "640", 0, 0, 0],
      ["tmp", "1777", 0, 0, 0],
    ]);
  });

  it("names every blob by its own hash, and the manifest by digest and by tag", async () => {
    const digest = await writeOciArchive(join(folder, "image.tar"), image(await entries()));
    const opened = await openImage(join(folder, "image.tar"), join(folder, "opened"));
    const { stdout } = await run("find", [join(folder, "opened/archive/blobs"), "-type", "f"]);
    const blobs = stdout.trim().split("\n");
    expect(blobs).toHaveLength(3);
    for (const blob of blobs) expect(blob.endsWith(`/sha256/${await sha256(blob)}`)).toBe(true);
    expect(
      opened.index.manifests.map((manifest) => [
        manifest.digest,
        manifest.annotations["io.containerd.image.name"],
      ]),
    ).toEqual([
      [digest, `registry.example/thing@${digest}`],
      [digest, "registry.example/thing:test"],
    ]);
    expect(opened.config.rootfs.diff_ids).toEqual(
      opened.manifest.layers.map((layer) => layer.digest),
    );
    expect(opened.config.config).toEqual({
      User: "65532:65532",
      Entrypoint: ["/bin/program"],
    });
  });

  it("writes the same bytes for the same content, whatever its order, time and place", async () => {
    const first = await entries();
    await writeOciArchive(join(folder, "first.tar"), image(first));
    await utimes(join(folder, "program"), 1, 1);
    await writeOciArchive(join(folder, "second.tar"), image([...first].reverse()));
    expect(await sha256(join(folder, "second.tar"))).toBe(await sha256(join(folder, "first.tar")));
  });

  it("gives another digest for another byte, mode or user", async () => {
    const good = await entries();
    const digests = new Set([
      await writeOciArchive(join(folder, "a.tar"), image(good)),
      await writeOciArchive(join(folder, "b.tar"), {
        ...image(good),
        config: { User: "0:0", Entrypoint: ["/bin/program"] },
      }),
      await writeOciArchive(
        join(folder, "c.tar"),
        image(good.map((entry) => (entry.path === "/tmp" ? { ...entry, mode: 0o755 } : entry))),
      ),
      await writeOciArchive(
        join(folder, "d.tar"),
        image([
          ...good.filter((entry) => entry.path !== "/etc/empty"),
          { kind: "file", path: "/etc/empty", mode: 0o640, content: Buffer.from("x") },
        ]),
      ),
    ]);
    expect(digests.size).toBe(4);
  });

  it("refuses a path that no tar header holds", async () => {
    const path = `/${"x".repeat(101)}`;
    await expect(
      writeOciArchive(join(folder, "image.tar"), image([{ kind: "folder", path, mode: 0o755 }])),
    ).rejects.toThrow(new Error(`"${path.slice(1)}/" must fit a tar header of 100 bytes`));
  });
});
