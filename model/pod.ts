/** User and group of every pod of ours: not root, and above the range that hosts use. */
export const POD_USER = 10_001;

/** Security settings of a pod: Pod Security's level `restricted`, and no token of the cluster. */
export const POD_SECURITY = {
  runAsNonRoot: true,
  runAsUser: POD_USER,
  runAsGroup: POD_USER,
  fsGroup: POD_USER,
  fsGroupChangePolicy: "OnRootMismatch",
  seccompProfile: { type: "RuntimeDefault" },
} as const;

/** Security settings of a container. */
export const CONTAINER_SECURITY = {
  allowPrivilegeEscalation: false,
  readOnlyRootFilesystem: true,
  runAsNonRoot: true,
  capabilities: { drop: ["ALL"] },
};

/** Labels that hold a namespace to Pod Security's level `restricted`, at a fixed version of it. */
export const POD_SECURITY_LABELS = {
  "pod-security.kubernetes.io/enforce": "restricted",
  "pod-security.kubernetes.io/enforce-version": "v1.36",
  "pod-security.kubernetes.io/audit": "restricted",
  "pod-security.kubernetes.io/audit-version": "v1.36",
  "pod-security.kubernetes.io/warn": "restricted",
  "pod-security.kubernetes.io/warn-version": "v1.36",
} as const;

/** Mode of mounted secret files: the pod's user and group read, nobody writes. */
export const SECRET_FILE_MODE = 0o440;

/**
 * What a container is sure of and what it may use. Memory and disk are the same in both, so that no
 * neighbour's need ends it; CPU that nobody uses may be borrowed.
 */
export function containerResources(
  cpuRequestMilli: number,
  cpuLimitMilli: number,
  memoryMib: number,
): { readonly requests: Record<string, string>; readonly limits: Record<string, string> } {
  const firm = { memory: `${memoryMib}Mi`, "ephemeral-storage": "512Mi" };
  return {
    requests: { cpu: `${cpuRequestMilli}m`, ...firm },
    limits: { cpu: `${cpuLimitMilli}m`, ...firm },
  };
}
