import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { exceptionTenant } from "../model/exceptions.ts";
import type { Subject } from "../policies/rule.ts";
import { HIDDEN } from "./assess.ts";
import type { Scope } from "./assess.ts";
import { ReviewError } from "./review-error.ts";

/** A stack's record as Pulumi's file backend keeps it. */
export interface StoredStack {
  readonly name: string;
  readonly file: string;
  /** When the record was written, ISO 8601. */
  readonly writtenAt: string;
  readonly resources: readonly StoredResource[];
}

/** A resource of a record. */
export interface StoredResource {
  readonly urn: string;
  readonly type: string;
  readonly id?: string;
  readonly inputs?: Readonly<Record<string, unknown>>;
  readonly outputs?: Readonly<Record<string, unknown>>;
  readonly provider?: string;
  readonly protect?: boolean;
  readonly ignoreChanges?: readonly string[];
  readonly delete?: boolean;
}

const SIGNATURE = "4dabf18193072939515e22adb298388d";
const SECRET = "1b47061264138c4ac30d75fd1eb44270";

/**
 * The stacks of a project in a file backend, as they are now or as they were recorded at a moment: no
 * program is run, no provider asked and no secret opened.
 *
 * @param asOf The moment, from the history that every update leaves. @default now
 * @throws ReviewError when there is no record, or none that old.
 */
export async function storedStacks(
  stateFolder: string,
  project: string,
  asOf?: Date,
): Promise<readonly StoredStack[]> {
  const root = join(stateFolder, ".pulumi");
  if (asOf === undefined) {
    const folder = join(root, "stacks", project);
    const files = (await entries(folder)).filter((file) => file.endsWith(".json"));
    if (files.length === 0) {
      throw new ReviewError(
        `State "${folder}": must hold the record of a stack, got none. Deploy first, or name the folder by --state.`,
      );
    }
    return Promise.all(
      files.map((file) => storedStack(join(folder, file), file.slice(0, -".json".length))),
    );
  }
  const history = join(root, "history", project);
  const found = await Promise.all(
    (await entries(history)).map(async (name) => {
      const records = await Promise.all(
        (await entries(join(history, name)))
          .filter((file) => file.endsWith(".checkpoint.json"))
          .map((file) => storedStack(join(history, name, file), name)),
      );
      return records
        .filter(({ writtenAt }) => Date.parse(writtenAt) <= asOf.getTime())
        .toSorted((a, b) => a.writtenAt.localeCompare(b.writtenAt))
        .at(-1);
    }),
  );
  const stacks = found.filter((stack) => stack !== undefined);
  if (stacks.length === 0) {
    throw new ReviewError(
      `State "${history}": must hold a record of ${asOf.toISOString()} or before, got none. Name a later moment by --as-of.`,
    );
  }
  return stacks;
}

async function entries(folder: string): Promise<readonly string[]> {
  return readdir(folder).then(
    (files) => files.toSorted(),
    () => [],
  );
}

async function storedStack(file: string, name: string): Promise<StoredStack> {
  const { checkpoint } = JSON.parse(await readFile(file, "utf8")) as {
    readonly checkpoint?: {
      readonly latest?: {
        readonly manifest?: { readonly time?: string };
        readonly resources?: readonly StoredResource[];
      };
    };
  };
  return {
    name,
    file,
    writtenAt: checkpoint?.latest?.manifest?.time ?? "0001-01-01T00:00:00Z",
    // What waits for its deletion is not what the stack holds.
    resources: (checkpoint?.latest?.resources ?? []).filter((resource) => resource.delete !== true),
  };
}

/** A stored stack as rules judge it: the inputs that it was last brought to. */
export function stateScope(stack: StoredStack): Scope {
  const files = new Map<Subject, string>();
  const subjects = stack.resources.map((resource): Subject => {
    const subject = {
      type: resource.type,
      name: nameOf(resource.urn),
      urn: resource.urn,
      // A stack's own outputs stand where others have inputs.
      props:
        hidden(resource.type === "pulumi:pulumi:Stack" ? resource.outputs : resource.inputs) ?? {},
      provider:
        resource.provider === undefined
          ? undefined
          : { name: resource.provider.split("::").at(-2) ?? "none" },
      opts: {
        protect: resource.protect ?? false,
        ignoreChanges: resource.ignoreChanges ?? [],
      },
    };
    files.set(subject, `${stack.name} as of ${stack.writtenAt}, ${resource.urn}`);
    return subject;
  });
  return {
    source: "state",
    name: stack.name,
    tenant: exceptionTenant(stack.name),
    subjects,
    readFrom: (subject) => files.get(subject) ?? stack.name,
  };
}

/** The last part of a URN. */
export function nameOf(urn: string): string {
  return urn.split("::").at(-1) ?? urn;
}

/** A value with its secrets told as such. */
export function hidden(value: unknown): unknown {
  if (Array.isArray(value)) {
    return value.map(hidden);
  }
  if (typeof value !== "object" || value === null) {
    return value;
  }
  if ((value as Record<string, unknown>)[SIGNATURE] === SECRET) {
    return HIDDEN;
  }
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, hidden(inner)]));
}

/** Paths of a resource's inputs that are kept encrypted, and a digest of what they hold. */
export function isEncrypted(value: unknown): boolean {
  return (
    typeof value === "object" &&
    value !== null &&
    (value as Record<string, unknown>)[SIGNATURE] === SECRET &&
    typeof (value as Record<string, unknown>)["ciphertext"] === "string"
  );
}
