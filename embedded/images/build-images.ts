import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import {
  copyFile,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  stat,
  writeFile,
} from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { promisify } from "node:util";

import { BIN, CACHE, ROOT } from "../paths.ts";
import { PlatformError } from "../platform-error.ts";
import { buildOwn, ownEnvironment } from "../go.ts";
import { readLastStage } from "./dockerfile.ts";
import { type ImageEntry, writeOciArchive } from "./oci-archive.ts";

const run = promisify(execFile);

const REGISTRY = "registry.flux.test/fluxbilling";

/** Beside the digest, for a person's eyes and for containerd's sandbox setting; nothing else names images by it. */
const TAG = "embedded";

const RECEIVER = "receive";
const RESTORER = "restore";
const TRAEFIK_DEFINITIONS = "traefik-definitions.yml";

const BUILDS_AT_ONCE = 2;
const TRAEFIK_MODULE = "github.com/traefik/traefik/v3";
const TRAEFIK_DEFINITIONS_IN_MODULE =
  "docs/content/reference/dynamic-configuration/kubernetes-crd-definition-v1.yml";
const PG_DUMP = "/usr/lib/postgresql/15/bin/pg_dump";
const BUSYBOX = "/bin/busybox";

/** The images of the embedded platform, in the order of their names. */
export type ImageName =
  | "backup"
  | "busybox"
  | "coredns"
  | "pause"
  | "registry"
  | "suspended-page"
  | "tenant-app"
  | "traefik";

/** One image as it lies in the cache. */
export interface ImageFacts {
  readonly name: ImageName;
  /** The repository, `registry.flux.test/fluxbilling/pause`; a pod names the image `<reference>@<digest>`. */
  readonly reference: string;
  /** The manifest's digest, `sha256:…`. */
  readonly digest: string;
  /** Archive for `ctr -n k8s.io images import`, which creates `<reference>@<digest>` and `<reference>:embedded`. */
  readonly tarFile: string;
  readonly sizeBytes: number;
}

/** All images, by name. */
export type Images = { readonly [name in ImageName]: ImageFacts };

/** Where images are made; tests point elsewhere. */
export interface BuildImagesOptions {
  /** @default .cache/images */
  readonly targetFolder?: string;
  /** Folder of the toolchain's binaries. @default .cache/bin */
  readonly binFolder?: string;
  /** @default all of them */
  readonly names?: readonly ImageName[];
  /** Called when an image had to be made, with the seconds it took. @default nothing */
  readonly built?: (facts: ImageFacts, seconds: number) => void;
}

interface ImageSource {
  /** Files that the platform wants beside the archive, by name there: what each is copied from. */
  readonly besides?: (
    context: Context,
    scratch: string,
  ) => Promise<{ readonly [fileName: string]: string }>;
  /** What the files are made of, apart from the image's own folder: changes make a new image. */
  readonly inputs: (context: Context) => Promise<readonly string[]>;
  /** The files of the layer; `scratch` is a folder to build in. */
  readonly files: (context: Context, scratch: string) => Promise<readonly ImageEntry[]>;
}

interface Context {
  readonly name: ImageName;
  readonly folder: string;
  readonly binFolder: string;
}

const IMAGES: { readonly [name in ImageName]: ImageSource } = {
  backup: {
    besides: (_context, scratch) =>
      Promise.resolve({
        [RECEIVER]: join(scratch, "receive"),
        [RESTORER]: join(scratch, "restore"),
      }),
    inputs: async (context) => [
      await goVersion(),
      ...(await hashes(await pgDumpFiles(context.name))),
    ],
    files: async (context, scratch) => [
      ...(await goProgram(context, scratch, "./cmd/backup", "/backup")),
      ...(await goProgram(context, scratch, "./cmd/mirror", "/mirror")),
      ...(await goProgram(context, scratch, "./cmd/mirror-images", "/mirror-images")),
      ...(await goProgram(context, scratch, "./cmd/receive", "/receive")),
      ...(await goProgram(context, scratch, "./cmd/restore", "/restore")),
      ...(await pgDumpFiles(context.name)).map((file) => executable(file, { file })),
      {
        kind: "file",
        path: "/etc/passwd",
        mode: 0o644,
        content: Buffer.from("backup:x:65532:65532::/:/backup\n"),
      },
    ],
  },
  busybox: {
    inputs: async (context) => hashes([await needed(context.name, BUSYBOX, INSTALL_BUSYBOX)]),
    files: async (context) => {
      const busybox = await needed(context.name, BUSYBOX, INSTALL_BUSYBOX);
      const { stdout } = await run(busybox, ["--list"]);
      const applets = stdout.split("\n").filter((applet) => applet !== "" && applet !== "busybox");
      return [
        executable("/bin/busybox", { file: busybox }),
        ...applets.map((applet): ImageEntry => ({
          kind: "link",
          path: `/bin/${applet}`,
          target: "busybox",
        })),
      ];
    },
  },
  coredns: toolImage("coredns"),
  pause: {
    inputs: async () => [await goVersion()],
    files: (context, scratch) => goProgram(context, scratch, ".", "/pause"),
  },
  registry: {
    inputs: async () => [await goVersion()],
    files: (context, scratch) => goProgram(context, scratch, ".", "/bin/registry"),
  },
  "suspended-page": {
    inputs: async () => [await goVersion()],
    files: (context, scratch) => goProgram(context, scratch, ".", "/suspended-page"),
  },
  "tenant-app": {
    inputs: async () => [await goVersion()],
    files: (context, scratch) => goProgram(context, scratch, ".", "/tenant-app"),
  },
  traefik: {
    ...toolImage("traefik"),
    besides: async (context) => ({ [TRAEFIK_DEFINITIONS]: await traefikDefinitions(context.name) }),
  },
};

const INSTALL_BUSYBOX = 'Run "apt-get install busybox-static"';
const INSTALL_PG_DUMP = 'Run "apt-get install postgresql-client-15"';

/** The store's end of a backup, a static program, as made together with the image `backup`. */
export const RECEIVER_FILE = join(CACHE, "images", RECEIVER);

/** What opens a dump of the store with a private backup key, a static program, made together with `backup`. */
export const RESTORER_FILE = join(CACHE, "images", RESTORER);

/** The custom resource definitions of exactly the Traefik that is in its image, as YAML documents. */
export const TRAEFIK_DEFINITIONS_FILE = join(CACHE, "images", TRAEFIK_DEFINITIONS);

/** Every image's name. */
export const IMAGE_NAMES = Object.keys(IMAGES) as readonly ImageName[];

/**
 * Makes the images whose sources changed and says where all of them are. No docker, no registry; the Dockerfile in
 * each image's folder makes the same image with docker elsewhere.
 *
 * @throws PlatformError when a binary or package that goes into an image is missing, or a Go build fails
 */
export async function buildImages(options: BuildImagesOptions = {}): Promise<ImageFacts[]> {
  const targetFolder = options.targetFolder ?? join(CACHE, "images");
  const binFolder = options.binFolder ?? BIN;
  await mkdir(targetFolder, { recursive: true });
  const facts = new Map<ImageName, ImageFacts>();
  const waiting = [...(options.names ?? IMAGE_NAMES)];
  const order = [...waiting];
  const worker = async (): Promise<void> => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      const context = { name, folder: join(import.meta.dirname, name), binFolder };
      facts.set(name, await imageOf(context, targetFolder, options.built ?? (() => undefined)));
    }
  };
  await Promise.all(Array.from({ length: BUILDS_AT_ONCE }, worker));
  return order.map((name) => {
    const found = facts.get(name);
    if (found === undefined) throw new Error(`image "${name}" was not made`);
    return found;
  });
}

/**
 * Where the images are as they were made last; makes none, so it needs neither Go nor a network.
 *
 * @throws PlatformError when one was never made
 */
export async function readImages(targetFolder = join(CACHE, "images")): Promise<Images> {
  const records = await Promise.all(
    IMAGE_NAMES.map(async (name) => {
      const tarFile = join(targetFolder, `${name}.tar`);
      const record = await readRecord(join(targetFolder, `${name}.json`), tarFile);
      return { name, tarFile, record };
    }),
  );
  // In their order, and not as their files happen to be read: of several that are missing the same one is told each time.
  const facts = records.map(({ name, tarFile, record }) => {
    if (record === undefined) {
      throw new PlatformError(
        `Image "${name}": must be built, got no whole ${shown(tarFile)}. Run "npm start", which builds it.`,
      );
    }
    return [name, factsOf(name, tarFile, record)] as const;
  });
  return Object.fromEntries(facts) as Images;
}

async function imageOf(
  context: Context,
  targetFolder: string,
  built: (facts: ImageFacts, seconds: number) => void,
): Promise<ImageFacts> {
  const startedAt = performance.now();
  const source = IMAGES[context.name];
  const tarFile = join(targetFolder, `${context.name}.tar`);
  const recordFile = join(targetFolder, `${context.name}.json`);
  const key = await keyOf(context, await source.inputs(context));
  const record = await readRecord(recordFile, tarFile);
  const isThere = (fileName: string): boolean => existsSync(join(targetFolder, fileName));
  if (record?.key === key && record.besides.every(isThere)) {
    return factsOf(context.name, tarFile, record);
  }

  const scratch = await mkdtemp(join(targetFolder, `.${context.name}-`));
  try {
    const { config } = readLastStage(
      context.name,
      await readFile(join(context.folder, "Dockerfile"), "utf8"),
    );
    const entries = await source.files(context, scratch);
    const unfinished = join(scratch, "image.tar");
    const digest = await writeOciArchive(unfinished, {
      config,
      entries: withParents(entries),
      architecture: architecture(),
      repository: `${REGISTRY}/${context.name}`,
      tag: TAG,
    });
    const { size: sizeBytes } = await stat(unfinished);
    // The record goes first and comes last: a tar without its record is made again.
    await rm(recordFile, { force: true });
    const besides = (await source.besides?.(context, scratch)) ?? {};
    for (const [fileName, file] of Object.entries(besides)) {
      const copy = join(scratch, "beside");
      await copyFile(file, copy);
      await rename(copy, join(targetFolder, fileName));
    }
    await rename(unfinished, tarFile);
    await writeFile(
      join(scratch, "record"),
      JSON.stringify({ key, digest, sizeBytes, besides: Object.keys(besides) }),
    );
    await rename(join(scratch, "record"), recordFile);
    const facts = factsOf(context.name, tarFile, { digest, sizeBytes });
    built(facts, (performance.now() - startedAt) / 1000);
    return facts;
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

interface ImageRecord {
  readonly key: string;
  readonly digest: string;
  readonly sizeBytes: number;
  readonly besides: readonly string[];
}

async function readRecord(recordFile: string, tarFile: string): Promise<ImageRecord | undefined> {
  try {
    const record = JSON.parse(await readFile(recordFile, "utf8")) as ImageRecord;
    return (await stat(tarFile)).size === record.sizeBytes ? record : undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

function factsOf(
  name: ImageName,
  tarFile: string,
  { digest, sizeBytes }: Pick<ImageRecord, "digest" | "sizeBytes">,
): ImageFacts {
  return { name, reference: `${REGISTRY}/${name}`, digest, tarFile, sizeBytes };
}

/** Hash of all that decides what comes out: this builder, the image's folder but for its tests, the inputs. */
async function keyOf(context: Context, inputs: readonly string[]): Promise<string> {
  const own = await readdir(context.folder, { recursive: true, withFileTypes: true });
  const files = [
    ...["build-images.ts", "dockerfile.ts", "oci-archive.ts"].map((file) =>
      join(import.meta.dirname, file),
    ),
    ...own
      .filter((entry) => entry.isFile() && !entry.name.endsWith("_test.go"))
      .map((entry) => join(entry.parentPath, entry.name))
      .sort(),
  ];
  const hash = createHash("sha256");
  for (const file of files) {
    const content = await readFile(file);
    hash.update(`${relative(import.meta.dirname, file)} ${content.length}\n`).update(content);
  }
  return hash.update(JSON.stringify([architecture(), ...inputs])).digest("hex");
}

/** An image of one program of the toolchain. */
function toolImage(binary: string): ImageSource {
  const wayOut = 'Run "npm start", which builds the toolchain';
  return {
    // Size and time stand for the content: hashing a hundred megabytes at every start would be felt.
    inputs: async (context) => {
      const file = await needed(context.name, join(context.binFolder, binary), wayOut);
      const { size, mtimeMs } = await stat(file);
      return [`${size} ${mtimeMs}`];
    },
    files: async (context) => [
      executable(`/${binary}`, {
        file: await needed(context.name, join(context.binFolder, binary), wayOut),
      }),
    ],
  };
}

async function goProgram(
  context: Context,
  scratch: string,
  command: string,
  path: string,
): Promise<ImageEntry[]> {
  const file = join(scratch, path.slice(1));
  try {
    await buildOwn(context.folder, command, file);
  } catch (error) {
    throw new PlatformError(
      `Image "${context.name}": its Go build must succeed, got "${(error as Error).message}". ` +
        `Run "go build ./..." in ${relative(ROOT, context.folder)} to see all of it.`,
      { cause: error },
    );
  }
  return [executable(path, { file })];
}

/** The file out of Traefik's pinned module; Go checks the module against its sum. */
async function traefikDefinitions(name: ImageName): Promise<string> {
  const folder = join(ROOT, "embedded", "toolchain", "traefik");
  const args = ["mod", "download", "-json", TRAEFIK_MODULE];
  let output: string;
  try {
    output = (await run("go", args, { cwd: folder, env: ownEnvironment() })).stdout;
  } catch (error) {
    throw new PlatformError(
      `Image "${name}": its Go module must be had, got a failed download. ` +
        `Run "go ${args.join(" ")}" in ${shown(folder)} to see why.`,
      { cause: error },
    );
  }
  return join((JSON.parse(output) as { Dir: string }).Dir, TRAEFIK_DEFINITIONS_IN_MODULE);
}

async function goVersion(): Promise<string> {
  return (await run("go", ["env", "GOVERSION"], { env: ownEnvironment() })).stdout.trim();
}

/** pg_dump, the libraries that it is linked with, and their loader: absolute paths as the program looks them up. */
async function pgDumpFiles(name: ImageName): Promise<string[]> {
  await needed(name, PG_DUMP, INSTALL_PG_DUMP);
  const { stdout } = await run("ldd", [PG_DUMP]);
  const libraries: string[] = [];
  for (const line of stdout.split("\n")) {
    if (line.includes("not found")) {
      throw new PlatformError(
        `Image "${name}": every library of pg_dump must be there, got "${line.trim()}". ${INSTALL_PG_DUMP}.`,
      );
    }
    const path = /(?:=> )?(\/\S+) \(0x/.exec(line)?.[1];
    if (path !== undefined) libraries.push(path);
  }
  return [PG_DUMP, ...libraries];
}

async function needed(name: ImageName, file: string, wayOut: string): Promise<string> {
  try {
    return await realpath(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    throw new PlatformError(
      `Image "${name}": what goes into it must be there, got no file ${shown(file)}. ${wayOut}.`,
    );
  }
}

function shown(file: string): string {
  return file.startsWith(ROOT) ? relative(ROOT, file) : file;
}

async function hashes(files: readonly string[]): Promise<string[]> {
  return Promise.all(
    files.map(async (file) => {
      const hash = createHash("sha256")
        .update(await readFile(file))
        .digest("hex");
      return `${file} ${hash}`;
    }),
  );
}

function executable(path: string, content: { readonly file: string }): ImageEntry {
  return { kind: "file", path, mode: 0o755, content };
}

/** The entries with every folder above them, and a /tmp that any user may write where the root is writable. */
function withParents(entries: readonly ImageEntry[]): ImageEntry[] {
  const folders = new Map<string, ImageEntry>([
    ["/tmp", { kind: "folder", path: "/tmp", mode: 0o1777 }],
  ]);
  for (const entry of entries) {
    for (let path = dirname(entry.path); path !== "/"; path = dirname(path)) {
      folders.set(path, { kind: "folder", path, mode: 0o755 });
    }
  }
  return [...folders.values(), ...entries];
}

function architecture(): string {
  if (process.arch === "x64") return "amd64";
  if (process.arch === "arm64") return "arm64";
  throw new PlatformError(
    `Images: the machine must be x64 or arm64, got ${process.arch}. Use such a machine.`,
  );
}

if (import.meta.main) {
  const facts = await buildImages({
    built: ({ name }, seconds) =>
      process.stdout.write(`built ${name} in ${seconds.toFixed(1)} s\n`),
  });
  for (const { name, digest, sizeBytes } of facts) {
    const megabytes = `${(sizeBytes / 1e6).toFixed(1)} MB`;
    process.stdout.write(`${name.padEnd(24)} ${digest} ${megabytes.padStart(9)}\n`);
  }
}
