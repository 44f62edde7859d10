import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { KubernetesObject } from "../../../embedded/addons/cluster-api.ts";
import type { Properties } from "../../../embedded/plugins/provider.ts";
import { startTestCluster } from "../../support/api-server.ts";
import {
  type Claim,
  keepVolumes,
  PROVISIONER,
  type Volume,
  type VolumeClass,
} from "../../../embedded/volumes/volumes.ts";

const CLASS = "files";
const CLAIM = {
  metadata: {
    name: "files",
    namespace: "tenant-acme",
    uid: "0001",
    annotations: { "volume.kubernetes.io/selected-node": "nl-1" },
  },
  spec: {
    storageClassName: CLASS,
    accessModes: ["ReadWriteOnce"],
    resources: { requests: { storage: "5Gi" } },
  },
} satisfies Claim;
const VOLUME: Volume = {
  metadata: { name: "pvc-0001", annotations: { "pv.kubernetes.io/provisioned-by": PROVISIONER } },
  spec: { storageClassName: CLASS, persistentVolumeReclaimPolicy: "Delete" },
  status: { phase: "Bound" },
};

let folder = "";
let applied: KubernetesObject[] = [];
let removed: string[] = [];
const api = {
  apply: (object: KubernetesObject): Promise<void> => {
    applied.push(object);
    return Promise.resolve();
  },
  remove: ({ metadata }: { metadata: { name: string } }): Promise<void> => {
    removed.push(metadata.name);
    return Promise.resolve();
  },
};

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "volumes-"));
  applied = [];
  removed = [];
});
afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

async function keep(
  claims: readonly Claim[],
  volumes: readonly Volume[],
  { provisioner = PROVISIONER, nodePath = folder } = {},
): Promise<void> {
  const parameters = { nodePath };
  const classes: VolumeClass[] = [{ metadata: { name: CLASS }, provisioner, parameters }];
  await keepVolumes(claims, volumes, classes, { name: "nl-1", folder }, api);
}

describe("keepVolumes", () => {
  it("makes a folder and a volume that only this claim on this node can take", async () => {
    await keep([CLAIM], []);
    expect((await stat(join(folder, "pvc-0001"))).isDirectory()).toBe(true);
    expect(applied).toMatchObject([
      {
        kind: "PersistentVolume",
        metadata: { name: "pvc-0001" },
        spec: {
          capacity: { storage: "5Gi" },
          claimRef: { namespace: "tenant-acme", name: "files", uid: "0001" },
          local: { path: join(folder, "pvc-0001") },
        },
      },
    ]);
    expect(JSON.stringify(applied)).toContain('"values":["nl-1"]');
  });

  it("sends what a real API server takes", async () => {
    const cluster = await startTestCluster();
    try {
      await keep([CLAIM], []);
      const made = await cluster.api.request("POST", "/api/v1/persistentvolumes", {
        body: applied[0] as unknown as Properties,
      });
      expect(made).toMatchObject({ metadata: { name: "pvc-0001" } });
    } finally {
      await cluster.stop();
    }
  });

  it("has nothing to do for claims of classes that are not served here, bound ones, ones of no node or of another, and ones that are going", async () => {
    const { metadata, spec } = CLAIM;
    await keep(
      [
        { metadata, spec: { ...spec, storageClassName: "encrypted" } },
        { metadata, spec: { ...spec, volumeName: "pvc-0001" } },
        { metadata: { ...metadata, deletionTimestamp: "2026-01-01T00:00:00Z" }, spec },
        { metadata: { ...metadata, annotations: {} }, spec },
        {
          metadata: {
            ...metadata,
            annotations: { "volume.kubernetes.io/selected-node": "fi-1" },
          },
          spec,
        },
      ],
      [],
    );
    await keep([CLAIM], [VOLUME]);
    await keep([CLAIM], [], { provisioner: "rancher.io/local-path" });
    await keep([CLAIM], [], { nodePath: "/elsewhere" });
    expect(applied).toEqual([]);
    expect(await readdir(folder)).toEqual([]);
  });

  it("clears a volume with its files once its claim is gone, and none before", async () => {
    await keep([CLAIM], []);
    await writeFile(join(folder, "pvc-0001", "a-file"), "rows");
    await keep([], [VOLUME]);
    expect(await readdir(folder)).toEqual(["pvc-0001"]);
    await keep([], [{ ...VOLUME, status: { phase: "Released" } }]);
    expect(await readdir(folder)).toEqual([]);
    expect(removed).toEqual(["pvc-0001"]);
  });

  it("leaves released volumes alone that another made, or that are to be kept", async () => {
    const released = { phase: "Released" };
    await keep(
      [],
      [
        { ...VOLUME, status: released, metadata: { name: "pvc-0001" } },
        { ...VOLUME, status: released, spec: { persistentVolumeReclaimPolicy: "Retain" } },
      ],
    );
    expect(removed).toEqual([]);
  });
});
