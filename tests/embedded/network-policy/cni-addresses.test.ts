import { mkdtemp, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { withCniAddresses } from "../../../embedded/network-policy/cni-addresses.ts";
import type { Pod } from "../../../embedded/network-policy/ruleset.ts";

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "cni-addresses-"));
});

afterEach(async () => {
  await rm(folder, { recursive: true });
});

/** A result as libcni 1.3 writes it, without what is not read. */
async function result(
  sandbox: string,
  uid: string,
  address: string,
  { ageSeconds = 0, ifName = "eth0" } = {},
): Promise<void> {
  const file = join(folder, `pods-${sandbox}-${ifName}`);
  const cniArgs = [
    ["IgnoreUnknown", "1"],
    ["K8S_POD_NAMESPACE", "acme"],
    ["K8S_POD_UID", uid],
  ];
  await writeFile(
    file,
    JSON.stringify({
      kind: "cniCacheV1",
      containerId: sandbox,
      ifName,
      cniArgs,
      result: { cniVersion: "1.0.0", ips: [{ address, gateway: "10.42.9.1", interface: 1 }] },
    }),
  );
  const written = Date.now() / 1000 - ageSeconds;
  await utimes(file, written, written);
}

function pod(uid: string, podIP?: string): Pod {
  return {
    metadata: { namespace: "acme", name: uid, uid },
    spec: { containers: [] },
    status: { phase: "Running", ...(podIP === undefined ? {} : { podIP }) },
  };
}

describe("withCniAddresses", () => {
  it("gives a pod the address of its network before the API server reports one", async () => {
    await result("s1", "app", "10.42.9.2/24");
    expect(withCniAddresses([pod("app")], folder)).toEqual([pod("app", "10.42.9.2")]);
  });

  it("keeps the reported address of a pod that libcni says nothing of", () => {
    const pods = [pod("app", "10.42.9.2"), pod("waiting")];
    expect(withCniAddresses(pods, folder)).toEqual(pods);
  });

  it("takes the younger sandbox of a pod that has two, over what is reported", async () => {
    await result("s1", "app", "10.42.9.2/24", { ageSeconds: 60 });
    await result("s2", "app", "10.42.9.7/24");
    expect(withCniAddresses([pod("app", "10.42.9.2")], folder)).toEqual([pod("app", "10.42.9.7")]);
  });

  it("takes an address off a pod that had it before the one that has it now", async () => {
    await result("s1", "old", "10.42.9.2/24", { ageSeconds: 60 });
    await result("s2", "new", "10.42.9.2/24");
    expect(withCniAddresses([pod("old"), pod("older", "10.42.9.2"), pod("new")], folder)).toEqual([
      pod("old"),
      pod("older"),
      pod("new", "10.42.9.2"),
    ]);
  });

  it("passes over half a file and the loopback interface", async () => {
    await writeFile(join(folder, "pods-s1-eth0"), '{"kind":"cniCacheV1","cniArgs":[["K8S_POD');
    await result("s2", "app", "127.0.0.1/8", { ifName: "lo" });
    expect(withCniAddresses([pod("app")], folder)).toEqual([pod("app")]);
  });
});
