/** What went wrong with a request, and what that means for the call that made it. */
import { ApiError, Unreachable } from "./api-server.ts";
import { PATCH_FORCE } from "./identity.ts";
import { pick } from "./pick.ts";

/** An error in its own words. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** A failure in the words of the official plugin, with the way out where it has one. */
export function explained(error: unknown): string {
  if (error instanceof Unreachable) {
    return `configured Kubernetes cluster is unreachable: ${error.message}`;
  }
  if (error instanceof ApiError && error.reason === "Conflict") {
    return `Server-Side Apply field conflict detected: ${error.message}. Set the annotation ${PATCH_FORCE} or the provider's enablePatchForce to take the fields over.`;
  }
  if (error instanceof ApiError && error.reason === "AlreadyExists") {
    return `${error.message}. Import it, or set the provider's upsertExistingObjects to adopt what exists.`;
  }
  return messageOf(error);
}

/** The user may not do that. */
export function isForbidden(error: unknown): boolean {
  return error instanceof ApiError && error.code === 403;
}

/** A dry run cannot foresee what the same run will have made or deleted by then. */
export function isPreviewTolerated(error: unknown): boolean {
  if (error instanceof Unreachable) return true;
  if (!(error instanceof ApiError)) return false;
  const namespaceMissing =
    error.code === 404 && pick(error.status, "details", "kind") === "namespaces";
  const noDryRun = error.code === 400 && error.message.includes("does not support dry run");
  return error.code === 403 || error.reason === "AlreadyExists" || namespaceMissing || noDryRun;
}

/** The change is one that the kind does not take. */
export function isImmutable(error: unknown): boolean {
  return (
    error instanceof ApiError && error.code === 422 && error.message.includes("field is immutable")
  );
}
