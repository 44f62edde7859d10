import { DEFAULT_CLASS, PROVISIONER } from "../volumes/volumes.ts";
import type { KubernetesObject } from "./cluster-api.ts";

/** The class of volumes out of folders of the node; embedded/volumes makes them. As K3s ships it. */
export function volumeClass(): KubernetesObject[] {
  return [
    {
      apiVersion: "storage.k8s.io/v1",
      kind: "StorageClass",
      metadata: {
        name: DEFAULT_CLASS,
        annotations: { "storageclass.kubernetes.io/is-default-class": "true" },
      },
      provisioner: PROVISIONER,
      reclaimPolicy: "Delete",
      volumeBindingMode: "WaitForFirstConsumer",
    },
  ];
}
