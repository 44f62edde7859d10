import type { StackValidationPolicy } from "@pulumi/policy";
import {
  CONTROL_PLANE_NAMESPACE,
  TENANT_LABEL,
  TENANT_NAMESPACE_PREFIX,
} from "../../model/labels.ts";
import { failClosedStack } from "../fail-closed.ts";
import { isTenantNamespace, metadataOf, selectsAll } from "../kubernetes-objects.ts";
import type { NetworkPolicySpec } from "../kubernetes-objects.ts";

/**
 * Every tenant's namespace and the control plane's have a policy that shuts every pod both ways.
 *
 * Why: without it a pod that no other policy selects reaches, and is reached by, every other pod.
 * Blind to: whether the cluster enforces network policies at all.
 */
export const tenantNamespaceHasDefaultDeny: StackValidationPolicy = {
  name: "tenant-namespace-has-default-deny",
  description:
    "Every tenant's namespace and the control plane's have a policy that shuts every pod both ways.",
  enforcementLevel: "mandatory",
  validateStack: failClosedStack((args, report) => {
    const shut = new Set(
      args.resources
        .filter(({ type }) => type === "kubernetes:networking.k8s.io/v1:NetworkPolicy")
        .filter(({ props }) => deniesAll((props as { spec?: NetworkPolicySpec }).spec))
        .map(({ props }) => metadataOf(props).namespace),
    );
    for (const resource of args.resources) {
      if (resource.type !== "kubernetes:core/v1:Namespace") {
        continue;
      }
      const metadata = metadataOf(resource.props);
      const judged =
        isTenantNamespace(metadata, TENANT_LABEL, TENANT_NAMESPACE_PREFIX) ||
        metadata.name === CONTROL_PLANE_NAMESPACE;
      if (judged && !shut.has(metadata.name)) {
        report(
          `${resource.name}: namespace ${metadata.name ?? "without a name"} must have a NetworkPolicy that selects every pod and allows nothing either way, got none.`,
          resource.urn,
        );
      }
    }
  }),
};

function deniesAll(spec: NetworkPolicySpec | undefined): boolean {
  return (
    spec !== undefined &&
    selectsAll(spec.podSelector) &&
    (spec.policyTypes ?? []).includes("Ingress") &&
    (spec.policyTypes ?? []).includes("Egress") &&
    (spec.ingress ?? []).length === 0 &&
    (spec.egress ?? []).length === 0
  );
}
