/** An image reference, taken apart. */
export interface ImageReference {
  /** Host of the registry, with its port where it has one. */
  readonly registry: string;
  /** Path in the registry. */
  readonly repository: string;
  /** `sha256:` and 64 hexadecimal digits. */
  readonly digest: string;
}

/** What an image reference must be, as errors say it. */
export const IMAGE_RULE =
  "must be <registry>/<repository>@sha256:<64 hexadecimal digits>, without a tag";

const PATTERN =
  /^(?<registry>[a-z0-9.-]+(?::[0-9]+)?)\/(?<repository>[a-z0-9]+(?:[._/-][a-z0-9]+)*)@(?<digest>sha256:[0-9a-f]{64})$/;

/** The parts of an image reference by digest, or `undefined` where the text is none. */
export function parseImage(text: string): ImageReference | undefined {
  const groups = PATTERN.exec(text)?.groups;
  if (
    groups?.["registry"] === undefined ||
    groups["repository"] === undefined ||
    groups["digest"] === undefined
  ) {
    return undefined;
  }
  return {
    registry: groups["registry"],
    repository: groups["repository"],
    digest: groups["digest"],
  };
}
