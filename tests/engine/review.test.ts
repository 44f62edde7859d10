import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { deploy, destroy } from "../../embedded/deploy.ts";
import { type LocalStack, writeTenantStack } from "../../embedded/local-fleet.ts";
import type { MachineFacts, PlatformFacts } from "../../embedded/machines/platform.ts";
import { review } from "../../embedded/review.ts";
import type { RecordSet } from "../../review/finding.ts";
import { openFailures } from "../../review/finding.ts";
import { apply, kubectl, platform, query } from "../support/platform.ts";

const NAMESPACE = "tenant-reviewed";

describe("a review of what is live", () => {
  let facts: PlatformFacts;
  let location: MachineFacts;
  let stack: LocalStack;
  let other: LocalStack;
  let folder: string;

  beforeAll(async () => {
    // These tests already run where the machines can be reached.
    process.env["FLUX_REVIEW_INSIDE"] = "1";
    folder = mkdtempSync(join(tmpdir(), "review-"));
    facts = await platform();
    location = facts.machines["nl-1"];
    stack = await writeTenantStack({ name: "reviewed", location: "nl-1", plan: "lite" });
    const more = { mqtt: true, replay: true };
    other = await writeTenantStack({ name: "neighbour", location: "nl-1", plan: "lite", ...more });
    await deploy(stack, facts);
    await deploy(other, facts);
  });

  afterAll(async () => {
    await destroy(stack, facts);
    await destroy(other, facts);
    rmSync(folder, { recursive: true });
  });

  it("finds nothing to put right in a good fleet and good tenants, wherever it looks", async () => {
    const records = await reviewed(["--only", "preview,state,live"]);
    expect(
      openFailures(records.findings).map(({ rule, message }) => `${rule}: ${message}`),
    ).toEqual([]);
    const sources = new Set(records.findings.map(({ source }) => source));
    expect([...sources].toSorted()).toEqual(["live", "preview", "state"]);
  });

  it("answers that one tenant cannot reach the other, with what it rests on", async () => {
    const records = await reviewed(["--from", "reviewed", "--to", "neighbour"]);
    expect(records.findings.filter(({ status }) => status === "fail")).toEqual([]);
    expect(records.findings.filter(({ status }) => status === "pass").length).toBeGreaterThan(15);
    expect(records.findings.filter(({ evidence }) => evidence.sha256 === "")).toEqual([]);
  });

  it("answers the same for a day", async () => {
    const day = new Date().toISOString().slice(0, 10);
    const records = await reviewed(["--from", "reviewed", "--to", "neighbour", "--as-of", day]);
    expect(records.asOf).toBe(`${day}T23:59:59.999Z`);
    expect(records.findings.filter(({ status }) => status !== "pass")).toEqual([]);
  });

  it("names each thing that was changed by hand, in one run", async () => {
    await kubectl(location, "delete", "networkpolicy", "default-deny", "--namespace", NAMESPACE);
    await kubectl(
      location,
      ...["patch", "resourcequota", "plan", "--namespace", NAMESPACE, "--type", "merge"],
      ...["--patch", '{"spec":{"hard":{"pods":"50"}}}'],
    );
    await apply(location, {
      apiVersion: "traefik.io/v1alpha1",
      kind: "TLSOption",
      metadata: { name: "default", namespace: NAMESPACE },
      spec: { minVersion: "VersionTLS12" },
    });
    await query(location, "grant connect on database tenant_reviewed to app_neighbour");
    await query(location, "alter role app_reviewed connection limit 200");
    const rules = await query<{ hba_file: string }>(location, "show hba_file");
    expect(rules).toHaveLength(1);
    const { runOn } = await import("../../embedded/machines/platform.ts");
    const file = "/etc/postgresql/15/main/pg_hba.conf";
    await runOn("nl-1", [
      "sh",
      "-c",
      `cp ${file} ${file}.good && sed -i '1i host all all 0.0.0.0/0 md5' ${file}`,
    ]);
    const mounted = "/var/lib/volumes/by-hand";
    await runOn("nl-1", [
      ...["sh", "-euc", 'mkdir "$1" && mount --bind /var/lib/containerd "$1"', "sh", mounted],
    ]);
    try {
      const said = openFailures((await reviewed(["--only", "state,live"])).findings).map(
        ({ rule, subject, message }) => `${rule} ${subject} ${message}`,
      );
      for (const expected of [
        /^namespace-has-default-deny .*namespace tenant-reviewed must have a NetworkPolicy/,
        /^state-and-live-agree .*NetworkPolicy reviewed-network-default-deny.*must be there, got nothing/,
        /^tenant-fits-its-plan .*tenant-reviewed\/plan: spec\.hard\.pods must be 3, got 50/,
        /^state-and-live-agree .*ResourceQuota reviewed-quota.*spec\.hard\.pods must be 3, got 50/,
        /^tls-option-floor-is-1-3 .*tenant-reviewed\/default: minVersion must be VersionTLS13, got VersionTLS12/,
        /^one-default-tls-option /,
        /^state-and-live-agree .*TLSOption tenant-reviewed\/default.*got made by hand/,
        /^tenant-roles-are-its-own .*app_neighbour on database tenant_reviewed: a role must be the tenant's own/,
        /^state-and-live-agree .*app_neighbour on database tenant_reviewed.*got made by hand/,
        /^tenant-fits-its-plan .*app_reviewed: connectionLimit must be 10, got 200/,
        /^server-lets-own-roles-in-only .*nl-1: line 1 must be hostssl, got host/,
        /^storage-is-encrypted .*nl-1: its storage must be proved encrypted, got: .*by-hand", mounted below "\/var\/lib\/volumes", must lie on storage encrypted/,
      ]) {
        expect(said).toContainEqual(expect.stringMatching(expected));
      }
      const answer = await reviewed(["--from", "neighbour", "--to", "reviewed"]);
      expect(
        answer.findings.filter(({ status }) => status === "fail").map(({ subject }) => subject),
      ).toEqual(["database tenant_reviewed: who may connect"]);
    } finally {
      await runOn("nl-1", ["mv", `${file}.good`, file]);
      await runOn("nl-1", ["sh", "-euc", 'umount "$1" && rmdir "$1"', "sh", mounted]);
      await kubectl(
        location,
        "delete",
        "tlsoption.traefik.io",
        "default",
        "--namespace",
        NAMESPACE,
      );
      await query(location, "revoke connect on database tenant_reviewed from app_neighbour");
    }
  });

  async function reviewed(args: readonly string[]): Promise<RecordSet> {
    await review([...args, "--output", folder]);
    return JSON.parse(readFileSync(join(folder, "review.json"), "utf8")) as RecordSet;
  }
});
