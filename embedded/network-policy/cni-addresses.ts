import { readFileSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Pod } from "./ruleset.ts";

interface CachedResult {
  readonly ifName?: string;
  readonly cniArgs?: readonly (readonly [string, string])[];
  readonly result?: { readonly ips?: readonly { readonly address: string }[] };
}

/**
 * The pods under the addresses that their networks on this node have, as libcni wrote them down, and under the ones
 * that the API server reports where libcni wrote nothing.
 *
 * The kubelet reports an address a second or two after the pod's first process runs. libcni writes it before that
 * process starts, so that a pod does not begin its life cut off. And after a machine's restart the API server still
 * reports the addresses of before: one that another pod has now is taken off.
 *
 * @param folder libcni's folder of results, usually `/var/lib/cni/results`
 */
export function withCniAddresses(pods: readonly Pod[], folder: string): readonly Pod[] {
  const results = readdirSync(folder).flatMap((name) => readResult(join(folder, name)) ?? []);
  // A pod whose sandbox was made anew has two results until the old one is cleared away, and a result that nobody
  // cleared away can name an address that was given out again: the younger holds.
  const addressByUid = new Map<string, string>();
  const uidByAddress = new Map<string, string>();
  for (const { uid, address } of results.toSorted((a, b) => a.writtenAtMs - b.writtenAtMs)) {
    addressByUid.set(uid, address);
    uidByAddress.set(address, uid);
  }
  return pods.map((pod) => {
    const uid = pod.metadata.uid ?? "";
    const address = addressByUid.get(uid) ?? pod.status?.podIP;
    if (address === undefined) return pod;
    const holder = uidByAddress.get(address) ?? uid;
    const { podIP: reported, ...status } = pod.status ?? {};
    if (holder === uid) return { ...pod, status: { ...status, podIP: address } };
    return reported === undefined ? pod : { ...pod, status };
  });
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
