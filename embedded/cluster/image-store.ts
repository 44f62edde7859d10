import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { mustRun } from "../machines/command.ts";
import { BIN } from "../paths.ts";
import { CACHE, INSIDE, machineFolder } from "../machines/layout.ts";
import type { MachinePlan } from "../machines/layout.ts";
import { onMachine } from "../machines/machine.ts";
import { MachineError } from "../machines/machine-error.ts";

const IMAGES = join(CACHE, "images");
const TEMPLATES = join(CACHE, "containerd-template");
/** Images that the first pods of a cluster need, in the order in which they need them. */
const FIRST_IMAGES = ["pause", "coredns", "traefik"];
/** The image that holds a pod's namespaces. */
export const SANDBOX_IMAGE = "registry.flux.test/fluxbilling/pause:embedded";

/** Digests of the images in the cache, by name, first those that are needed first. */
async function cachedImages(): Promise<Readonly<Record<string, string>>> {
  if (!existsSync(join(IMAGES, "pause.tar"))) {
    throw new MachineError(`Image "pause": must be built, got no ${join(IMAGES, "pause.tar")}.`, {
      step: "prepare the images",
      wayOut: 'Run "npm start", which builds the images first.',
    });
  }
  const names = (await readdir(IMAGES))
    .filter((file) => file.endsWith(".tar"))
    .map((file) => file.slice(0, -".tar".length))
    .sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
  const digests: Record<string, string> = {};
  for (const name of names) {
    const facts = JSON.parse(await readFile(join(IMAGES, `${name}.json`), "utf8")) as {
      digest: string;
    };
    digests[name] = facts.digest;
  }
  return digests;
}

function rank(image: string): number {
  const place = FIRST_IMAGES.indexOf(image);
  return place === -1 ? FIRST_IMAGES.length : place;
}

/**
 * Makes a containerd store with all images of the cache, once per set of images. A new machine gets
 * a copy: unpacking the same images three times is what would take longest at its first start.
 */
export async function ensureImageTemplate(): Promise<string> {
  const images = await cachedImages();
  const hash = createHash("sha256").update(JSON.stringify(images)).digest("hex").slice(0, 16);
  const template = join(TEMPLATES, hash);
  if (existsSync(template)) return template;
  await rm(TEMPLATES, { recursive: true, force: true });
  const fresh = `${template}.new`;
  await mkdir(fresh, { recursive: true });
  const settings = `version = 3
root = "/run/store"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
  "io.containerd.nri.v1.nri", "io.containerd.podsandbox.controller.v1.podsandbox",
]
`;
  await writeFile(join(TEMPLATES, "containerd.toml"), settings);
  // In namespaces of its own, so that neither a mount nor a process outlives it.
  await mustRun(
    "unpack the images",
    [
      ...["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-euc"],
      `mount -t tmpfs tmpfs /run
mkdir /run/store
mount --bind "$1" /run/store
"$BIN/containerd" --config "$2" --log-level error &
store=$!
until [ -S /run/containerd/containerd.sock ]; do sleep 0.05; done
images=$3
shift 3
for name; do "$BIN/ctr" -n k8s.io images import "$images/$name.tar"; done
kill $store
wait`,
      ...["sh", fresh, join(TEMPLATES, "containerd.toml"), IMAGES, ...Object.keys(images)],
    ],
    { timeoutSeconds: 300, env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", BIN } },
  );
  await writeFile(join(fresh, "images.json"), JSON.stringify(images));
  await rename(fresh, template);
  return template;
}

function noteFileOf(machine: MachinePlan): string {
  return join(machineFolder(machine.name), "containerd", "images.json");
}

/** Gives a machine that never ran the template's images. Its containerd must not run. */
export async function copyImages(machine: MachinePlan, template: string): Promise<void> {
  const store = join(machineFolder(machine.name), "containerd");
  if (existsSync(noteFileOf(machine))) return;
  await rm(store, { recursive: true, force: true });
  // Blobs and unpacked layers are never written again: their files are shared. The two databases
  // that know them are copied.
  await mustRun(`give ${machine.name} the images`, [
    ...["sh", "-euc"],
    `cp -al "$1" "$2"
for file in images.json $(cd "$1" && find . -name '*.db'); do
  rm "$2/$file"
  cp -a "$1/$file" "$2/$file"
done`,
    ...["sh", template, store],
  ]);
}

/** Gives a running machine the images that changed since it got its own. */
export async function importImages(machine: MachinePlan): Promise<void> {
  const wanted = await cachedImages();
  const present = JSON.parse(await readFile(noteFileOf(machine), "utf8")) as Record<string, string>;
  const changed = Object.keys(wanted).filter((name) => wanted[name] !== present[name]);
  if (changed.length === 0) return;
  await mustRun(
    `import the images of ${machine.name}`,
    onMachine(machine.name, [
      ...["sh", "-euc"],
      `until [ -S /run/containerd/containerd.sock ]; do sleep 0.05; done
for name; do ctr -n k8s.io images import ${INSIDE}/images/$name.tar; done`,
      ...["sh", ...changed],
    ]),
    { timeoutSeconds: 300 },
  );
  await writeFile(noteFileOf(machine), JSON.stringify(wanted));
}

/** A fingerprint of the images in the cache. */
export async function imagesFingerprint(): Promise<string> {
  return JSON.stringify(await cachedImages());
}
