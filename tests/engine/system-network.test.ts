import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { readImages } from "../../embedded/images/build-images.ts";
import type { MachineFacts } from "../../embedded/machines/platform.ts";
import { machinePlan } from "../../embedded/machines/layout.ts";
import { apply, kubectl, platform, until } from "../support/platform.ts";

const NAMESPACE = "system-network-probe";
const SYSTEM = "kube-system";
const STRAY = "stray";

describe("a cluster's own namespace", () => {
  let machine: MachineFacts;
  let addressOf: Readonly<Record<string, string>>;

  beforeAll(async () => {
    machine = (await platform()).machines["nl-1"];
    const { busybox } = await readImages();
    const pod = (name: string, namespace: string): object => ({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace, labels: { name } },
      spec: {
        terminationGracePeriodSeconds: 0,
        automountServiceAccountToken: false,
        containers: [
          {
            name,
            image: `${busybox.reference}@${busybox.digest}`,
            command: ["/bin/busybox", "sleep", "3600"],
          },
        ],
      },
    });
    await apply(
      machine,
      { apiVersion: "v1", kind: "Namespace", metadata: { name: NAMESPACE } },
      pod("client", NAMESPACE),
      pod(STRAY, SYSTEM),
    );
    for (const [name, namespace] of [
      ["client", NAMESPACE],
      [STRAY, SYSTEM],
    ] as const) {
      await kubectl(
        machine,
        ...["wait", "pod", name, "--namespace", namespace],
        ...["--for=condition=Ready", "--timeout=60s"],
      );
    }
    const listed = await kubectl(
      machine,
      ...["get", "pods", "--namespace", SYSTEM, "-o"],
      'jsonpath={range .items[*]}{.metadata.labels}{"\\t"}{.status.podIP}{"\\n"}{end}',
    );
    const address = (label: string): string =>
      listed
        .split("\n")
        .find((line) => line.includes(label))
        ?.split("\t")[1] ?? "";
    addressOf = { dns: address("kube-dns"), ingress: address("traefik"), stray: address(STRAY) };
  });

  afterAll(async () => {
    await kubectl(machine, "delete", "pod", STRAY, "--namespace", SYSTEM);
    await kubectl(machine, "delete", "namespace", NAMESPACE);
  });

  it("answers names to every pod, and its ingress to everyone", async () => {
    await until("a name", 10_000, async () =>
      (
        await inPod("client", NAMESPACE, "nslookup", "kubernetes.default.svc.cluster.local")
      ).includes(machinePlan("nl-1").cluster?.apiServiceAddress ?? "none"),
    );
    expect(await opens("client", NAMESPACE, addressOf["ingress"], 8443)).toBe(true);
    expect(await opens("client", NAMESPACE, addressOf["ingress"], 8883)).toBe(true);
    expect(await opens("client", NAMESPACE, addressOf["dns"], 53)).toBe(true);
  });

  it.each([
    ["the name server's metrics", "dns", 9153],
    ["the name server's health", "dns", 8080],
    ["the ingress's metrics", "ingress", 9100],
    ["the ingress's own health", "ingress", 8080],
  ])("shuts %s to pods", async (_what, pod, port) => {
    expect(await opens("client", NAMESPACE, addressOf[pod], port)).toBe(false);
  });

  it("lets a pod that is none of its services reach nothing", async () => {
    expect(await opens(STRAY, SYSTEM, machine.address, 6443)).toBe(false);
    expect(await opens(STRAY, SYSTEM, addressOf["ingress"], 8443)).toBe(false);
    // The same call from a pod that no policy selects, so that the probe itself is known to work.
    expect(await opens("client", NAMESPACE, machine.address, 6443)).toBe(true);
  });

  async function opens(
    pod: string,
    namespace: string,
    address: string | undefined,
    port: number,
  ): Promise<boolean> {
    const answer = await inPod(
      pod,
      namespace,
      ...["sh", "-c", `nc -w 2 ${String(address)} ${String(port)} -e /bin/true && echo open`],
    );
    return answer.includes("open");
  }

  /** What a program of busybox prints in a pod; nothing where it fails. */
  async function inPod(pod: string, namespace: string, ...argv: string[]): Promise<string> {
    return kubectl(
      machine,
      ...["exec", pod, "--namespace", namespace, "--", "/bin/busybox", ...argv],
    ).catch(() => "");
  }
});
