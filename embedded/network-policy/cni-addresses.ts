import { readFileSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";

interface CachedResult {
  readonly ifName?: string;
  readonly cniArgs?: readonly (readonly [string, string])[];
  readonly result?: { readonly ips?: readonly { readonly address: string }[] };
}

/**
 * The address of every pod whose network is set up on this node, by the pod's uid, as libcni wrote it down.
 *
 * The kubelet reports an address a second or two after the pod's first process runs. libcni writes it before that
 * process starts, so that a pod does not begin its life cut off.
 *
 * @param folder libcni's folder of results, usually `/var/lib/cni/results`
 */
export function cniAddresses(folder: string): ReadonlyMap<string, string> {
  const results = readdirSync(folder).flatMap((name) => {
    const file = join(folder, name);
    const result = readResult(file);
    return result === undefined ? [] : [result];
  });
  // A pod whose sandbox was made anew has two results until the old one is cleared away: the younger holds.
  results.sort((a, b) => a.writtenAtMs - b.writtenAtMs);
  return new Map(results.map(({ uid, address }) => [uid, address]));
}

function readResult(
  file: string,
): { uid: string; address: string; writtenAtMs: number } | undefined {
  let cached: CachedResult;
  let writtenAtMs: number;
  try {
    writtenAtMs = statSync(file).mtimeMs;
    cached = JSON.parse(readFileSync(file, "utf8")) as CachedResult;
  } catch (error) {
    // Files come and go, and libcni does not write them in one piece: the next event brings the rest.
    if (error instanceof SyntaxError || isMissing(error)) return undefined;
    throw error;
  }
  if (cached.ifName === "lo") return undefined;
  const uid = cached.cniArgs?.find(([key]) => key === "K8S_POD_UID")?.[1];
  const address = cached.result?.ips?.[0]?.address.split("/")[0];
  return uid === undefined || address === undefined ? undefined : { uid, address, writtenAtMs };
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}
