import { readFileSync, readdirSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { basename, join } from "node:path";

import type { PendingOperation, PulumiOptions, ResourceState, StackState } from "./engine.ts";
import { projectName, pulumiFailure, quiet, runPulumi, stackExport, STATE } from "./engine.ts";

/** What a file backend writes into a lock. */
interface Lock {
  readonly pid: number;
  readonly hostname: string;
  readonly timestamp: string;
}

/**
 * Removes the locks that killed runs have left on a stack, and no other: a lock is left where it is unless it was taken
 * on this host by a process that is gone.
 *
 * @returns how many were removed
 */
export function clearStaleLock(stack: string, options: PulumiOptions = {}): number {
  const folder = join(
    options.stateFolder ?? STATE,
    ".pulumi",
    "locks",
    "organization",
    projectName(options.cwd),
    stack,
  );
  let removed = 0;
  for (const name of filesIn(folder)) {
    const file = join(folder, name);
    if (!isStale(file)) continue;
    rmSync(file, { force: true });
    removed += 1;
  }
  // Only a run that holds the lock writes the record.
  if (filesIn(folder).length === 0) clearUnfinishedFiles(stack, options);
  return removed;
}

/**
 * Removes the unfinished copies that a run which was killed while it wrote has left beside a stack's record. The record
 * itself is replaced as a whole and is never torn by a kill.
 */
function clearUnfinishedFiles(stack: string, options: PulumiOptions): void {
  const folder = join(
    options.stateFolder ?? STATE,
    ...[".pulumi", "stacks", projectName(options.cwd)],
  );
  for (const name of readdirIn(folder)) {
    if (name.startsWith(`${stack}.json.`) && name.endsWith(".tmp"))
      rmSync(join(folder, name), { force: true });
  }
}

function filesIn(folder: string): string[] {
  return readdirIn(folder).filter((name) => name.endsWith(".json"));
}

function readdirIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

function isStale(file: string): boolean {
  let lock: Lock;
  try {
    lock = JSON.parse(readFileSync(file, "utf8")) as Lock;
  } catch (error) {
    // Released meanwhile; or a run that is writing it just now, or died doing so, which only a person can tell apart.
    if (error instanceof SyntaxError) return false;
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
  if (lock.hostname !== hostname()) return false;
  // The number of a dead process may have been given to another one since.
  try {
    return (
      basename(readlinkSync(`/proc/${lock.pid}/exe`)).replace(/ \(deleted\)$/, "") !== "pulumi"
    );
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return true;
    // Somebody else's process, which is alive.
    if (code === "EACCES") return false;
    throw error;
  }
}

/** What a recovery found and did. */
export interface Recovery {
  /** Locks of killed runs, removed. */
  readonly locks: number;
  /** Creations that may have happened outside the record: taken over, or found not to exist, by a refresh. */
  readonly adopted: readonly string[];
  /** Creations that leave nothing behind or may be repeated: forgotten, so that the next `up` does them again. */
  readonly forgotten: readonly string[];
  /** Updates and deletions of recorded resources: read anew, so that the next `up` starts from what is there. */
  readonly refreshed: readonly string[];
}

/**
 * Brings a stack whose run was killed back to where `up` converges, nothing doubled and nothing orphaned. A stack that
 * was not interrupted is left as it is.
 *
 * What a killed run leaves is a lock and its pending operations. The engine itself goes on with a warning, creates
 * what was being created once more (a role or database that exists makes that fail; an object with a made-up name is
 * doubled) and keeps the pending creations for ever. So each pending creation of something whose id follows from its
 * inputs is recorded as done, and a refresh of just these resources reads the truth: what exists is kept with its
 * recorded inputs, what does not leaves the record.
 *
 * @throws PlatformError when another run is at work on the stack, or the repair fails
 */
export async function recoverStack(stack: string, options: PulumiOptions = {}): Promise<Recovery> {
  const locks = clearStaleLock(stack, options);
  const state = await stackExport(stack, options);
  const operations = state.deployment.pending_operations ?? [];
  if (operations.length === 0) return { locks, adopted: [], forgotten: [], refreshed: [] };

  const { resources, adopted, forgotten, refreshed } = settle(
    state.deployment.resources ?? [],
    operations,
  );
  const deployment = { ...state.deployment, resources, pending_operations: [] };
  await importState(stack, { ...state, deployment }, options);

  const targets = [...adopted, ...refreshed];
  if (targets.length > 0) {
    const run = await runPulumi(
      [
        "refresh",
        "--stack",
        stack,
        "--yes",
        "--skip-preview",
        ...targets.flatMap((urn) => ["--target", urn]),
      ],
      options,
    );
    if (run.exitCode !== 0) throw pulumiFailure(stack, run);
  }
  return { locks, adopted, forgotten, refreshed };
}

/** Turns each pending operation into a line of the record, or into nothing. */
export function settle(
  recorded: readonly ResourceState[],
  operations: readonly PendingOperation[],
): { resources: ResourceState[]; adopted: string[]; forgotten: string[]; refreshed: string[] } {
  const resources = [...recorded];
  const adopted = new Set<string>();
  const forgotten = new Set<string>();
  const refreshed = new Set<string>();
  for (const { type, resource } of operations) {
    const { urn } = resource;
    if (type !== "creating" && type !== "importing") {
      if (resources.some((known) => known.urn === urn)) refreshed.add(urn);
      continue;
    }
    const id = resource.custom === true ? idFromInputs(resource) : undefined;
    const known = resources.findIndex((other) => other.urn === urn && other.delete !== true);
    const replaced = resources[known];
    if (id === undefined || (replaced !== undefined && replaced.pendingReplacement !== true)) {
      // A replacement beside what it replaces: the record has one line per resource, and keeps the old one's.
      if (replaced !== undefined && id !== undefined && id === replaced.id) refreshed.add(urn);
      else forgotten.add(urn);
      continue;
    }
    if (known >= 0) resources.splice(known, 1);
    resources.push({ ...resource, id, outputs: resource.outputs ?? resource.inputs ?? {} });
    adopted.add(urn);
  }
  return {
    resources,
    adopted: [...adopted],
    forgotten: [...forgotten],
    refreshed: [...refreshed],
  };
}

/** Kinds that live outside every namespace. */
const CLUSTER_WIDE = new Set([
  "APIService",
  "ClusterRole",
  "ClusterRoleBinding",
  "CSIDriver",
  "CustomResourceDefinition",
  "IngressClass",
  "MutatingWebhookConfiguration",
  "Namespace",
  "Node",
  "PersistentVolume",
  "PriorityClass",
  "RuntimeClass",
  "StorageClass",
  "ValidatingAdmissionPolicy",
  "ValidatingAdmissionPolicyBinding",
  "ValidatingWebhookConfiguration",
  "VolumeAttachment",
]);

/**
 * The id that a resource has once it exists, where its inputs alone decide it and creating it twice would fail or
 * leave a second one. Undefined for what exists only in the record (random, tls), may be run again (command) or is
 * idempotent in the database (grants, default privileges, extensions, schemas).
 */
function idFromInputs({ type, inputs = {} }: ResourceState): string | undefined {
  if (type === "postgresql:index/role:Role" || type === "postgresql:index/database:Database") {
    return text(inputs["name"]);
  }
  if (type.startsWith("kubernetes:")) {
    const metadata = inputs["metadata"] as { name?: unknown; namespace?: unknown } | undefined;
    const name = text(metadata?.name);
    const kind = type.split(":").at(-1) ?? "";
    if (name === undefined || CLUSTER_WIDE.has(kind)) return name;
    return `${text(metadata?.namespace) ?? "default"}/${name}`;
  }
  return undefined;
}

function text(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

async function importState(
  stack: string,
  state: StackState,
  options: PulumiOptions,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "stack-"));
  try {
    const file = join(folder, "state.json");
    writeFileSync(file, JSON.stringify(state), { mode: 0o600 });
    const run = await runPulumi(
      ["stack", "import", "--stack", stack, "--file", file],
      quiet(options),
    );
    if (run.exitCode !== 0) throw pulumiFailure(stack, run);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
