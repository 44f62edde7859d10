import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { NODE_ANNOTATION } from "../../model/encrypted-storage.ts";
import type { KubernetesObject } from "../addons/cluster-api.ts";

/** The class that every cluster has, as K3s does; a fleet brings one of its own. */
export const DEFAULT_CLASS = "local-path";
/** Who makes volumes here, as their class says. */
export const PROVISIONER = "fluxbilling.dev/embedded-volumes";

/** A claim, as far as it matters here. */
export interface Claim {
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly deletionTimestamp?: string;
    readonly annotations?: { readonly [name: string]: string };
  };
  readonly spec?: {
    readonly storageClassName?: string;
    readonly volumeName?: string;
    readonly accessModes?: readonly string[];
    readonly resources?: { readonly requests?: { readonly storage?: string } };
  };
}

/** A class of volumes, as far as it matters here. */
export interface VolumeClass {
  readonly metadata: { readonly name: string };
  readonly provisioner?: string;
  /** As K3s's own provisioner takes them: `nodePath` must be the node's folder, where it is named. */
  readonly parameters?: { readonly nodePath?: string };
}

/** A volume, as far as it matters here. */
export interface Volume {
  readonly metadata: {
    readonly name: string;
    readonly annotations?: { readonly [name: string]: string };
  };
  readonly spec?: {
    readonly storageClassName?: string;
    readonly persistentVolumeReclaimPolicy?: string;
  };
  readonly status?: { readonly phase?: string };
}

/** What the cluster is told. */
export interface VolumeApi {
  apply(object: KubernetesObject): Promise<void>;
  remove(object: Pick<KubernetesObject, "apiVersion" | "kind" | "metadata">): Promise<void>;
}

const MADE_BY = "pv.kubernetes.io/provisioned-by";

/**
 * One look at the cluster: makes a folder and a volume for every claim that has none, and clears away the volumes
 * whose claim is gone. Doing it again changes nothing; what was half done is finished.
 *
 * @param classes a claim of one that is not served here, or that names another folder, waits
 * @param node its folder holds all volumes; a claim that does not say that it is for this node waits, as with K3s's own
 *     provisioner, whatever its class says
 * @returns one line for each volume made or cleared
 */
export async function keepVolumes(
  claims: readonly Claim[],
  volumes: readonly Volume[],
  classes: readonly VolumeClass[],
  node: { readonly name: string; readonly folder: string },
  api: VolumeApi,
): Promise<readonly string[]> {
  const served = new Set(
    classes
      .filter(
        ({ provisioner, parameters }) =>
          provisioner === PROVISIONER && (parameters?.nodePath ?? node.folder) === node.folder,
      )
      .map(({ metadata }) => metadata.name),
  );
  const present = new Set(volumes.map(({ metadata }) => metadata.name));
  const wanted = claims.filter(
    ({ metadata, spec }) =>
      spec?.storageClassName !== undefined &&
      served.has(spec.storageClassName) &&
      spec.volumeName === undefined &&
      metadata.deletionTimestamp === undefined &&
      metadata.annotations?.[NODE_ANNOTATION] === node.name &&
      !present.has(volumeName(metadata)),
  );
  const released = volumes.filter(
    ({ metadata, spec, status }) =>
      metadata.annotations?.[MADE_BY] === PROVISIONER &&
      spec?.persistentVolumeReclaimPolicy === "Delete" &&
      (status?.phase === "Released" || status?.phase === "Failed"),
  );
  return Promise.all([
    ...wanted.map(async (claim) => {
      const name = volumeName(claim.metadata);
      const path = join(node.folder, name);
      // For whoever the pod runs as, as K3s's own makes it; other pods never see the folder.
      await mkdir(path, { recursive: true, mode: 0o777 });
      await api.apply(volumeFor(claim, name, path, node.name));
      return `made ${name} for ${claim.metadata.namespace ?? ""}/${claim.metadata.name}`;
    }),
    ...released.map(async ({ metadata: { name } }) => {
      await rm(join(node.folder, name), { recursive: true, force: true });
      await api.remove({ apiVersion: "v1", kind: "PersistentVolume", metadata: { name } });
      return `cleared ${name}`;
    }),
  ]);
}

function volumeName({ uid }: Claim["metadata"]): string {
  return `pvc-${uid ?? ""}`;
}

function volumeFor(
  { metadata, spec }: Claim,
  name: string,
  path: string,
  nodeName: string,
): KubernetesObject {
  return {
    apiVersion: "v1",
    kind: "PersistentVolume",
    metadata: { name, annotations: { [MADE_BY]: PROVISIONER } },
    spec: {
      capacity: { storage: spec?.resources?.requests?.storage },
      accessModes: spec?.accessModes,
      persistentVolumeReclaimPolicy: "Delete",
      storageClassName: spec?.storageClassName,
      claimRef: {
        apiVersion: "v1",
        kind: "PersistentVolumeClaim",
        namespace: metadata.namespace,
        name: metadata.name,
        uid: metadata.uid,
      },
      local: { path },
      nodeAffinity: {
        required: {
          nodeSelectorTerms: [
            {
              matchExpressions: [
                { key: "kubernetes.io/hostname", operator: "In", values: [nodeName] },
              ],
            },
          ],
        },
      },
    },
  };
}
