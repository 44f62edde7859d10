/** What a program's package.json, lock file and node_modules say about the packages it uses. */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** A package that needs a provider plugin. */
export interface RequiredPackage {
  readonly name: string;
  readonly kind: "resource";
  /** With a leading v. */
  readonly version: string;
  /** Where the plugin is fetched from; empty for the usual place. */
  readonly server: string;
}

interface Manifest {
  readonly name?: string;
  readonly version?: string;
  readonly dependencies?: { readonly [name: string]: string };
  readonly devDependencies?: { readonly [name: string]: string };
  readonly optionalDependencies?: { readonly [name: string]: string };
  readonly pulumi?: {
    readonly resource?: boolean;
    readonly name?: string;
    readonly version?: string;
    readonly server?: string;
  };
}

/**
 * The provider plugins that the program's direct dependencies name, sorted by name.
 *
 * The official host walks every folder below the program instead, `.cache` and all that lies in it included; for
 * a program that lists what it uses, both give the same answer.
 */
export function requiredPackages(programDirectory: string): RequiredPackage[] {
  const found = new Map<string, RequiredPackage>();
  for (const dependency of directDependencies(programDirectory)) {
    const manifest = installedManifest(programDirectory, dependency);
    if (manifest?.pulumi?.resource !== true) continue;
    const name = manifest.pulumi.name ?? manifest.name?.replace(/^@pulumi\//, "");
    const version = manifest.pulumi.version ?? manifest.version;
    if (name === undefined || version === undefined) continue;
    found.set(name, {
      name,
      kind: "resource",
      version: `v${version.replace(/^v/, "")}`,
      server: manifest.pulumi.server ?? "",
    });
  }
  return [...found.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** The version of an installed package as the program would load it; undefined when it is not installed. */
export function installedVersion(programDirectory: string, name: string): string | undefined {
  return installedManifest(programDirectory, name)?.version;
}

/**
 * The packages that npm's lock file names, sorted by name; the direct dependencies alone unless `transitive`.
 *
 * @throws when neither the folder nor one above it holds a package-lock.json.
 */
export function lockedPackages(
  programDirectory: string,
  transitive: boolean,
): { readonly name: string; readonly version: string }[] {
  const directory = folderWith(programDirectory, "package-lock.json");
  if (directory === undefined) {
    throw new Error(
      `no package-lock.json found (searching upwards from ${programDirectory}). Run npm install there.`,
    );
  }
  const lock = readJson(join(directory, "package-lock.json")) as
    { packages?: { [path: string]: { version?: string } } } | undefined;
  const direct = new Set(directDependencies(directory));
  return Object.entries(lock?.packages ?? {})
    .map(([path, { version }]) => ({
      name: path.split("node_modules/").at(-1) ?? "",
      depth: path.split("node_modules/").length - 1,
      version: version ?? "",
    }))
    .filter(({ name, depth }) => name !== "" && (transitive || (depth === 1 && direct.has(name))))
    .map(({ name, version }) => ({ name, version }))
    .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}

/** The packages that a program needs to run, by the `dependencies` of its package.json. */
export function runtimeDependencies(programDirectory: string): string[] {
  return Object.keys(manifestOf(programDirectory)?.dependencies ?? {});
}

function directDependencies(programDirectory: string): string[] {
  const manifest = manifestOf(programDirectory);
  return Object.keys({
    ...manifest?.dependencies,
    ...manifest?.devDependencies,
    ...manifest?.optionalDependencies,
  });
}

function manifestOf(programDirectory: string): Manifest | undefined {
  const directory = folderWith(programDirectory, "package.json");
  if (directory === undefined) return undefined;
  return readJson(join(directory, "package.json")) as Manifest | undefined;
}

/** Looks as Node does: in every node_modules from the folder upwards. */
function installedManifest(directory: string, name: string): Manifest | undefined {
  for (const folder of upwards(directory)) {
    const manifest = readJson(join(folder, "node_modules", name, "package.json"));
    if (manifest !== undefined) return manifest as Manifest;
  }
  return undefined;
}

/** The folder itself or the nearest one above it that holds the file. */
export function folderWith(directory: string, file: string): string | undefined {
  for (const folder of upwards(directory)) {
    try {
      readFileSync(join(folder, file));
      return folder;
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
  }
  return undefined;
}

function* upwards(directory: string): Generator<string> {
  for (let folder = directory; ; folder = dirname(folder)) {
    yield folder;
    if (dirname(folder) === folder) return;
  }
}

function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

function isMissing(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code;
  return code === "ENOENT" || code === "ENOTDIR";
}
