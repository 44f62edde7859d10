/** The namespace in which K3s keeps its own parts. */
export const SYSTEM_NAMESPACE = "kube-system";

/** What Pod Security's level `restricted` asks of a pod, but for the rules that a part says it needs broken. */
export const POD_SECURITY = {
  runAsNonRoot: true,
  runAsUser: 65532,
  runAsGroup: 65532,
  seccompProfile: { type: "RuntimeDefault" },
} as const;

/** The same for a container, with a root that nobody writes. */
export const CONTAINER_SECURITY = {
  allowPrivilegeEscalation: false,
  readOnlyRootFilesystem: true,
  capabilities: { drop: ["ALL"] },
} as const;

/** What every add-on's pod has: it goes before tenants and runs on a node that is under pressure. */
export const SYSTEM_POD = {
  priorityClassName: "system-cluster-critical",
  tolerations: [
    { key: "CriticalAddonsOnly", operator: "Exists" },
    { key: "node-role.kubernetes.io/control-plane", operator: "Exists", effect: "NoSchedule" },
  ],
  enableServiceLinks: false,
} as const;

/** Labels that say who made an object. */
export function ownLabels(name: string): { readonly [label: string]: string } {
  return { "app.kubernetes.io/name": name, "app.kubernetes.io/managed-by": "embedded" };
}
