/** Shell lines for a host, of which the first that fails ends the whole. They hold no secret. */
export function remoteScript(...lines: readonly string[]): string {
  return ["set -eu", ...lines].join("\n");
}
