/** Class of the volumes that hold files: the one of a cluster whose volumes are proved to lie encrypted. */
export const VOLUME_CLASS = "encrypted";

/** Tells the provisioner of a claim's volume on which node to make it: the scheduler writes it, or who knows already. */
export const NODE_ANNOTATION = "volume.kubernetes.io/selected-node";

/**
 * Annotations of a claim whose volume is made before any pod asks for it.
 *
 * @param nodeName The machine's node. @default the volume is made once the scheduler has placed a pod
 */
export function volumeAhead(nodeName: string | undefined): Readonly<Record<string, string>> {
  return nodeName === undefined ? {} : { [NODE_ANNOTATION]: nodeName };
}

/** Folders that hold data on a machine with K3s and Debian's PostgreSQL. */
export const CLUSTER_FOLDERS = [
  "/var/lib/rancher",
  "/var/lib/kubelet",
  "/var/lib/postgresql",
  // What pods and servers log may quote what they were given.
  "/var/log",
] as const;

/** Those folders, and what settings name beside them. */
export function clusterFolders(further: readonly string[]): readonly string[] {
  return [...new Set([...CLUSTER_FOLDERS, ...further])];
}

/** Folders that hold data on a standby: the copy of the master's PostgreSQL, and of stores and images. */
export const STANDBY_FOLDERS = ["/var/lib/postgresql", "/var/lib/fluxbilling", "/var/log"] as const;

/**
 * The command that proves of each folder that it lies encrypted, for a shell that is given the program
 * `components/host/encrypted-storage.sh` as its standard input.
 *
 * @param folders Absolute paths of plain characters.
 */
export function storageCheck(folders: readonly string[]): string {
  return `sh -s check ${folders.join(" ")}`;
}

/** Whether a path is one of these folders or lies in one. */
export function liesIn(path: string, folders: readonly string[]): boolean {
  return folders.some((folder) => path === folder || path.startsWith(`${folder}/`));
}
