import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { readImages } from "../../embedded/images/build-images.ts";
import type { MachineFacts } from "../../embedded/machines/platform.ts";
import { apply, kubectl, platform, until } from "../support/platform.ts";

const NAMESPACE = "packets";

/** What the platform promises: packets follow a policy within this time. */
const WITHIN_MS = 2_000;

describe("a NetworkPolicy between two pods", () => {
  let machine: MachineFacts;
  let address: string;

  beforeAll(async () => {
    machine = (await platform()).machines["nl-1"];
    const { busybox } = await readImages();
    const pod = (name: string, command: string[]): object => ({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace: NAMESPACE, labels: { name } },
      spec: {
        terminationGracePeriodSeconds: 0,
        automountServiceAccountToken: false,
        containers: [{ name, image: `${busybox.reference}@${busybox.digest}`, command }],
      },
    });
    await apply(
      machine,
      { apiVersion: "v1", kind: "Namespace", metadata: { name: NAMESPACE } },
      pod("server", [
        "/bin/busybox",
        "nc",
        "-ll",
        "-p",
        "8080",
        "-e",
        "/bin/busybox",
        "echo",
        "heard",
      ]),
      pod("client", ["/bin/busybox", "sleep", "3600"]),
    );
    await kubectl(
      machine,
      ...["wait", "pod", "--all", "--namespace", NAMESPACE],
      ...["--for=condition=Ready", "--timeout=60s"],
    );
    address = await kubectl(
      machine,
      ...["get", "pod", "server", "--namespace", NAMESPACE, "-o", "jsonpath={.status.podIP}"],
    );
  });

  afterAll(() => kubectl(machine, "delete", "namespace", NAMESPACE));

  it("stops packets within two seconds, and lets them flow within two of its removal", async () => {
    await until("packets at first", 10_000, connects);
    await apply(machine, {
      apiVersion: "networking.k8s.io/v1",
      kind: "NetworkPolicy",
      metadata: { name: "shut", namespace: NAMESPACE },
      spec: { podSelector: { matchLabels: { name: "server" } }, policyTypes: ["Ingress"] },
    });
    const stoppedMs = await until("packets stop", WITHIN_MS, async () => !(await connects()));
    // Still shut: not a lost packet.
    expect(await connects()).toBe(false);
    await kubectl(machine, "delete", "networkpolicy", "shut", "--namespace", NAMESPACE);
    const flowingMs = await until("packets flow", WITHIN_MS, connects);
    process.stdout.write(
      `stopped after ${stoppedMs.toFixed(0)} ms, flowing after ${flowingMs.toFixed(0)} ms\n`,
    );
  });

  /** A connection from inside the client pod. */
  async function connects(): Promise<boolean> {
    const told = await kubectl(
      machine,
      ...["exec", "client", "--namespace", NAMESPACE, "--"],
      ...["/bin/busybox", "timeout", "1", "/bin/busybox", "nc", "-w", "1", address, "8080"],
    ).catch(() => "");
    return told.includes("heard");
  }
});
