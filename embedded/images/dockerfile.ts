/** The part of an OCI image configuration that says how to run it, in OCI's spelling. */
export interface ImageConfig {
  readonly User?: string;
  readonly ExposedPorts?: { readonly [port: string]: object };
  readonly Env?: readonly string[];
  readonly Entrypoint?: readonly string[];
  readonly Cmd?: readonly string[];
  readonly WorkingDir?: string;
  readonly Labels?: { readonly [name: string]: string };
}

/** What the last stage of a Dockerfile says: how to run the image, and where its COPY lines put things. */
export interface LastStage {
  readonly config: ImageConfig;
  /** Targets of COPY, as written. */
  readonly copied: readonly string[];
}

/**
 * Reads the last stage of a Dockerfile, so that user, entry point, ports and labels are written in one place.
 *
 * RUN and FROM are docker's alone: what they make, the builder makes its own way.
 *
 * @throws Error naming the line, for an instruction that this reader does not know
 */
export function readLastStage(name: string, dockerfile: string): LastStage {
  const config: { -readonly [key in keyof ImageConfig]: ImageConfig[key] } = {};
  let copied: string[] = [];
  for (const line of logicalLines(dockerfile)) {
    const [instruction = "", rest = ""] = split(line);
    switch (instruction) {
      case "FROM":
        for (const key of Object.keys(config) as (keyof ImageConfig)[]) delete config[key];
        copied = [];
        break;
      case "RUN":
      case "ARG":
        break;
      case "COPY":
        copied.push(rest.split(/\s+/).at(-1) ?? "");
        break;
      case "USER":
        config.User = rest;
        break;
      case "WORKDIR":
        config.WorkingDir = rest;
        break;
      case "EXPOSE":
        config.ExposedPorts = {
          ...config.ExposedPorts,
          ...Object.fromEntries(rest.split(/\s+/).map((port) => [port, {}])),
        };
        break;
      case "ENV":
        config.Env = [
          ...(config.Env ?? []),
          ...assignments(rest).map(([key, value]) => `${key}=${value}`),
        ];
        break;
      case "LABEL":
        config.Labels = { ...config.Labels, ...Object.fromEntries(assignments(rest)) };
        break;
      case "ENTRYPOINT":
        config.Entrypoint = words(name, line, rest);
        break;
      case "CMD":
        config.Cmd = words(name, line, rest);
        break;
      default:
        throw new Error(
          `Dockerfile of "${name}": every instruction must be a known one, got "${line}".`,
        );
    }
  }
  return { config, copied };
}

function logicalLines(dockerfile: string): string[] {
  return dockerfile
    .split("\n")
    .filter((line) => !line.trimStart().startsWith("#"))
    .join("\n")
    .replace(/\\\n/g, " ")
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
}

function split(line: string): [string, string] {
  const at = line.search(/\s/);
  return at < 0 ? [line, ""] : [line.slice(0, at).toUpperCase(), line.slice(at).trim()];
}

function words(name: string, line: string, rest: string): string[] {
  if (!rest.startsWith("[")) {
    throw new Error(`Dockerfile of "${name}": a command must be a JSON list, got "${line}".`);
  }
  return JSON.parse(rest) as string[];
}

/** `a=b c="d e"` as pairs. */
function assignments(rest: string): [string, string][] {
  return [...rest.matchAll(/([^\s=]+)=(?:"([^"]*)"|(\S*))/g)].map((match) => [
    match[1] ?? "",
    match[2] ?? match[3] ?? "",
  ]);
}
