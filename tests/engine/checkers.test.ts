import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { deploy, destroy, runOnStack } from "../../embedded/deploy.ts";
import { readImages } from "../../embedded/images/build-images.ts";
import { type LocalStack, writeFleetStack, writeTenantStack } from "../../embedded/local-fleet.ts";
import type { PlatformFacts } from "../../embedded/machines/platform.ts";
import {
  checkov,
  kubeconform,
  kubeScore,
  type Manifest,
  writeObjects,
} from "../support/checkers.ts";
import { kubectl, platform } from "../support/platform.ts";

/** Findings that are as they should be, and why: `<check>: <object>`, where a star ends it for any more. */
const ACCEPTED: { readonly [finding: string]: string } = {
  "container-image-pull-policy*":
    "An image is named by its digest: what is there is what was named, and asking again could only fail.",
  "deployment-replicas: Deployment/apps/v1/tenant-judged/app":
    "The plan lite has one pod; plans that promise more have more.",
  "deployment-replicas: Deployment/apps/v1/fluxbilling-edge/suspended-page":
    "Without the page the answer is the same 402: one pod that comes back by itself is enough.",
  "pod-probes-identical: Deployment/apps/v1/fluxbilling-edge/suspended-page":
    "There is one thing to ask a page: whether it answers.",
  "networkpolicy-targets-pod: NetworkPolicy/networking.k8s.io/v1/kube-system/*":
    "The pods of the cluster's own namespace are made by the cluster, not by a stack.",
  "networkpolicy-targets-pod: NetworkPolicy/networking.k8s.io/v1/fluxbilling-control-plane/allow-panel":
    "The panels are products of their own, whose pods are in no stack of this program.",
  "service-targets-pod: Service/v1/fluxbilling-control-plane/*":
    "The panels are products of their own, whose pods are in no stack of this program.",
  "deployment-replicas: Deployment/apps/v1/fluxbilling-control-plane/registry":
    "Its volume is for one pod at a time; clusters have the images that they run.",
  "deployment-strategy: Deployment/apps/v1/fluxbilling-control-plane/registry":
    "Its volume is for one pod at a time, so the former one ends first.",
  "pod-probes-identical: Deployment/apps/v1/fluxbilling-control-plane/registry":
    "There is one thing to ask a registry: whether it answers.",
};

describe("the objects of a fleet and a tenant, judged by others", () => {
  let facts: PlatformFacts;
  let folder: string;
  let objects: readonly Manifest[];
  let files: readonly string[];
  let tenant: LocalStack;

  beforeAll(async () => {
    facts = await platform();
    folder = await mkdtemp(join(tmpdir(), "checkers-"));
    const fleet = await writeFleetStack(facts, await readImages());
    tenant = await writeTenantStack({ name: "judged", location: "nl-1", plan: "lite" });
    await deploy(tenant, facts);
    objects = [...(await objectsOf(fleet, facts)), ...(await objectsOf(tenant, facts))];
    files = await writeObjects(join(folder, "objects"), objects);
  });

  afterAll(async () => {
    await destroy(tenant, facts);
    await rm(folder, { recursive: true });
  });

  it("fit the API server's own schemas to the field", async () => {
    const openApi = await kubectl(facts.machines["nl-1"], "get", "--raw", "/openapi/v2");
    expect(await kubeconform(folder, files, openApi)).toEqual([]);
  });

  it("have no finding of kube-score without a reason", async () => {
    const findings = await kubeScore(files);
    const unexplained = findings.filter(
      (finding) => !Object.keys(ACCEPTED).some((accepted) => matches(finding, accepted)),
    );
    expect(unexplained).toEqual([]);
    // A reason for what is no longer found has to go.
    const unused = Object.keys(ACCEPTED).filter(
      (accepted) => !findings.some((finding) => matches(finding, accepted)),
    );
    expect(unused).toEqual([]);
  });

  it("have no finding of checkov, which has one where a pod is spoilt", async () => {
    expect(await checkov(files)).toEqual([]);

    let spoilt = 0;
    const others = objects.map((object) => {
      if (object.kind !== "Deployment" || object.metadata.namespace !== "tenant-judged") {
        return object;
      }
      spoilt += 1;
      const text = JSON.stringify(object);
      return JSON.parse(
        text.replace('"readOnlyRootFilesystem":true', '"readOnlyRootFilesystem":false'),
      ) as Manifest;
    });
    expect(spoilt).toBe(1);
    const spoiltFiles = await writeObjects(join(folder, "spoilt"), others);
    expect(await checkov(spoiltFiles)).toEqual([
      "CKV_K8S_22: Deployment.tenant-judged.app: Use read-only filesystem for containers where possible",
    ]);
  });
});

function matches(finding: string, accepted: string): boolean {
  return accepted.endsWith("*")
    ? finding.startsWith(accepted.slice(0, -1))
    : finding.startsWith(`${accepted}:`);
}

/** The Kubernetes objects that a stack has recorded, as they were sent; what is secret is replaced. */
async function objectsOf(stack: LocalStack, facts: PlatformFacts): Promise<Manifest[]> {
  const { stdout } = await runOnStack(["stack", "export"], stack, facts);
  const { deployment } = JSON.parse(stdout) as {
    deployment: { resources: { type: string; inputs?: Manifest }[] };
  };
  return deployment.resources
    .filter(({ type }) => type.startsWith("kubernetes:"))
    .map(({ inputs }) => withoutMarks(inputs) as Manifest);
}

/** Stands for what the record holds encrypted. */
const SECRET = Buffer.from("secret").toString("base64");

function isSecretMap(key: string, value: unknown): boolean {
  if (key !== "data" && key !== "stringData") return false;
  return typeof value === "object" && value !== null && "ciphertext" in value;
}

function withoutMarks(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutMarks);
  if (typeof value !== "object" || value === null) return value;
  if ("ciphertext" in value) return SECRET;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key]) => !key.startsWith("__"))
      .map(([key, entry]) => [
        key,
        isSecretMap(key, entry) ? { key: SECRET } : withoutMarks(entry),
      ]),
  );
}
