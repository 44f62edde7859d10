/** What a resource says about itself: its type, its object's name, and the annotations that are meant for the plugin. */
import type { CheckRequest, Properties, Value } from "../provider.ts";
import { uniqueName } from "../unique-name.ts";
import { isObject, isUnknown } from "../values.ts";
import { pick, pickText, text, without } from "./pick.ts";

/** The plugin chose the name, so a replacement may have another. */
export const AUTONAMED = "pulumi.com/autonamed";
/** Nothing is waited for. */
export const SKIP_AWAIT = "pulumi.com/skipAwait";
/** What is waited for instead of the kind's own rule. */
export const WAIT_FOR = "pulumi.com/waitFor";
/** How long is waited. */
export const TIMEOUT_SECONDS = "pulumi.com/timeoutSeconds";
/** Fields that others manage are taken over. */
export const PATCH_FORCE = "pulumi.com/patchForce";
/** Who manages the fields. */
export const PATCH_FIELD_MANAGER = "pulumi.com/patchFieldManager";
/** What happens to what the object owns. */
export const DELETION_PROPAGATION = "pulumi.com/deletionPropagationPolicy";
/** A Job that is not complete is replaced. */
export const REPLACE_UNREADY = "pulumi.com/replaceUnready";

/** `kubernetes:apps/v1:Deployment` out of a URN, whose type part may name parents. */
export function typeToken(urn: string): string {
  return (urn.split("::")[2] ?? "").split("$").at(-1) ?? "";
}

/** The last part of a type token: mostly the kind. */
export function typeName(urn: string): string {
  return typeToken(urn).split(":")[2] ?? "";
}

/** The kind that a URN names, for an object of which nothing else is known. */
export function kindOf(urn: string): Properties {
  const [, version = "", kind = ""] = typeToken(urn).split(":");
  return { apiVersion: version.replace(/^core\//, ""), kind: kind.replace(/Patch$/, "") };
}

/** A resource that manages some fields of an object which somebody else owns. */
export function isPatch(type: string, object: Properties): boolean {
  return type.endsWith("Patch") && !text(object["kind"]).endsWith("Patch");
}

/** Whether the inputs name their object; a name that is not known yet counts. */
export function isNamed(object: Properties): boolean {
  const name = pick(object, "metadata", "name");
  return name !== undefined && name !== "";
}

/** `namespace/name`, or the name alone for what belongs to no namespace. */
export function idOf(object: Properties): string {
  const namespace = pickText(object, "metadata", "namespace");
  const name = pickText(object, "metadata", "name");
  return namespace === "" ? name : `${namespace}/${name}`;
}

/** The parts of what `idOf` made. */
export function parseId(id: string): [namespace: string, name: string] {
  const slash = id.indexOf("/");
  return slash < 0 ? ["", id] : [id.slice(0, slash), id.slice(slash + 1)];
}

/** An object's annotations that are known. */
export function annotations(object: Properties): { [key: string]: string } {
  const found = pick(object, "metadata", "annotations");
  if (!isObject(found)) return {};
  return Object.fromEntries(
    Object.entries(found)
      .filter(([, value]) => !isUnknown(value))
      .map(([key, value]) => [key, text(value)]),
  );
}

/** Sets or, with undefined, removes a key of the metadata, in place. Metadata that is not known yet stays as it is. */
export function setMetadata(object: Properties, key: string, value: Value | undefined): void {
  const metadata = object["metadata"];
  if (metadata !== undefined && !isObject(metadata)) return;
  if (metadata === undefined && value === undefined) return;
  const rest = without(metadata ?? {}, key);
  object["metadata"] = value === undefined ? rest : { ...rest, [key]: value };
}

/** Deleted, but something still holds it. */
export function isDying(object: Properties): boolean {
  return pick(object, "metadata", "deletionTimestamp") !== undefined;
}

/** How long a user lets an object take, in seconds; undefined: as long as its kind may. */
export function timeoutSeconds(given: number | undefined, inputs: Properties): number | undefined {
  if (given !== undefined && given !== 0) return given;
  const annotated = annotations(inputs)[TIMEOUT_SECONDS];
  return annotated !== undefined && /^\d+$/.test(annotated) ? Number(annotated) : undefined;
}

/** What happens to what an object owns when it is deleted; the API's own word for it. */
export function propagation(annotation: string | undefined): string {
  const policies: { readonly [annotation: string]: string } = {
    orphan: "Orphan",
    background: "Background",
  };
  return policies[annotation?.toLowerCase() ?? ""] ?? "Foreground";
}

export function refuseType(request: CheckRequest, type: string): void {
  const token = typeToken(request.urn);
  if (token.startsWith("kubernetes:helm.sh/") || token.startsWith("kubernetes:kustomize")) {
    throw new Error(
      `Resource "${request.name}": the embedded kubernetes plugin only makes plain objects, got ${token}. Use the official provider plugin for it.`,
    );
  }
  if (type.endsWith("List") && text(request.news["kind"]) === type) {
    throw new Error(
      "list resources exist for compatibility with YAML manifests and Helm charts, and cannot be created directly. Use the underlying resource type instead",
    );
  }
}

/** Gives the inputs a name when they have none: the old automatic one, or a new one. */
export function nameObject(request: CheckRequest, olds: Properties, news: Properties): void {
  const metadata = news["metadata"] ?? {};
  if (!isObject(metadata) || isNamed(news)) return;
  let name: string;
  if (Object.keys(olds).length > 0) {
    if (annotations(olds)[AUTONAMED] !== "true") return;
    name = pickText(olds, "metadata", "name");
  } else {
    if (metadata["generateName"] !== undefined) return;
    const { mode, proposedName } = request.autonaming ?? {};
    if (mode === "DISABLE") {
      throw new Error(
        `autonaming is disabled, but no name was provided for resource ${JSON.stringify(request.urn)}`,
      );
    }
    const proposed = mode === undefined ? "" : (proposedName ?? "");
    name =
      proposed === ""
        ? uniqueName({ prefix: `${request.name}-`, randomSeed: request.randomSeed })
        : proposed;
  }
  const known = metadata["annotations"] ?? {};
  news["metadata"] = {
    ...metadata,
    name,
    ...(isObject(known) ? { annotations: { ...known, [AUTONAMED]: "true" } } : {}),
  };
}

/** Built-in kinds that belong to no namespace. */
const CLUSTER_SCOPED: ReadonlySet<string> = new Set([
  "APIService",
  "CSIDriver",
  "CSINode",
  "CertificateSigningRequest",
  "ClusterRole",
  "ClusterRoleBinding",
  "ClusterTrustBundle",
  "ComponentStatus",
  "CustomResourceDefinition",
  "DeviceClass",
  "FlowSchema",
  "IPAddress",
  "IngressClass",
  "MutatingAdmissionPolicy",
  "MutatingAdmissionPolicyBinding",
  "MutatingWebhookConfiguration",
  "Namespace",
  "Node",
  "PersistentVolume",
  "PriorityClass",
  "PriorityLevelConfiguration",
  "ResourceSlice",
  "RuntimeClass",
  "SelfSubjectAccessReview",
  "SelfSubjectReview",
  "SelfSubjectRulesReview",
  "ServiceCIDR",
  "StorageClass",
  "SubjectAccessReview",
  "TokenReview",
  "ValidatingAdmissionPolicy",
  "ValidatingAdmissionPolicyBinding",
  "ValidatingWebhookConfiguration",
  "VolumeAttachment",
  "VolumeAttributesClass",
]);

/** Whether a built-in kind belongs to no namespace. */
export function isClusterScoped(object: Properties): boolean {
  return CLUSTER_SCOPED.has(text(object["kind"]));
}
