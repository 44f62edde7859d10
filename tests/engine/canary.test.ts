import { randomBytes, randomUUID } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { deploy, destroy, runOnStack } from "../../embedded/deploy.ts";
import { STATE } from "../../embedded/engine/engine.ts";
import { writeTenantStack } from "../../embedded/local-fleet.ts";
import type { PlatformFacts } from "../../embedded/machines/platform.ts";
import { deriveTenantKey, parseRootKey, type RootKey } from "../../model/settings-key.ts";
import { tenantName } from "../../model/tenant-name.ts";
import { formsInClear, openedDump } from "../support/clear-text.ts";
import { apply, kubectl } from "../support/platform.ts";
import {
  askAsOperator,
  neighbours,
  onMachine,
  secretsOf,
  type TestTenant,
} from "../support/tenants.ts";

describe("a canary in a tenant's settings, and the keys that guard it", () => {
  let facts: PlatformFacts;
  let a: TestTenant;
  let rootKey: RootKey;
  let rootBytes: Buffer;
  /** What must show where it was planted, or the search finds nothing at all. */
  const bait = Buffer.from(`bait-${randomUUID()}`);
  const canary = Buffer.from(`canary-${randomUUID()}`);
  let databaseDump: Buffer;
  let storeDump: Buffer;
  let secrets: [name: string, value: Buffer][];

  beforeAll(async () => {
    ({ facts, a } = await neighbours());
    const text = readFileSync(a.stack.environment.SETTINGS_ENCRYPTION_KEY_FILE, "utf8").trim();
    rootKey = parseRootKey(text, "the test");
    rootBytes = Buffer.from(text, "base64");
    expect(rootBytes).toHaveLength(32);
    const put = await askAsOperator(a, {
      ...{ method: "PUT", path: "/settings/canary", body: canary.toString() },
    });
    expect(put.status).toBe(204);
    const add = await askAsOperator(a, {
      ...{
        method: "POST",
        path: "/records?subject=bait",
        body: JSON.stringify({ word: String(bait) }),
      },
    });
    expect(add.status).toBe(200);
    await apply(a.location, {
      ...{
        apiVersion: "v1",
        kind: "ConfigMap",
        metadata: { name: "bait", namespace: a.namespace },
      },
      data: { word: String(bait) },
    });
    secrets = [...(await secretsOf(a))].flatMap(([secret, files]) =>
      [...files]
        // No secrets: the authority that everybody trusts, the number of a version, a certificate.
        .filter(([file]) => !["ca.crt", "active", "id_ed25519-cert.pub"].includes(file))
        .map(([file, value]): [string, Buffer] => [
          `${secret}/${file}`,
          // Of a key in lines the fourth, which is nothing but key: line ends are written in many ways.
          value.includes("PRIVATE KEY") ? Buffer.from(String(value).split("\n")[3] ?? "") : value,
        ]),
    );
    const dump = (...args: string[]): Promise<string> =>
      onMachine(a.location, ["pg_dump", ...args]);
    databaseDump = openedDump(await dump("--username=admin", a.database));
    storeDump = openedDump(await dump("--username=kine", "kine"));
  });

  afterAll(async () => {
    await kubectl(a.location, "delete", "configmap", "bait", "--namespace", a.namespace);
  });

  it("reads back what was written", async () => {
    expect((await askAsOperator(a, { path: "/settings/canary" })).body).toBe(canary.toString());
  });

  it("is nowhere in clear in a dump of the tenant's database", () => {
    expect(formsInClear(bait, databaseDump)).toEqual(["as it is"]);
    expect(formsInClear(canary, databaseDump)).toEqual([]);
    expect(shownIn(databaseDump)).toEqual([]);
    expect(formsInClear(rootBytes, databaseDump)).toEqual([]);
  });

  it("is nowhere in clear in a dump of the cluster's store, and neither is any Secret", () => {
    // As it is in the bytes, in hexadecimal as the dump writes them.
    expect(formsInClear(bait, storeDump)).toEqual(["as it is", "hexadecimal"]);
    expect(formsInClear(canary, storeDump)).toEqual([]);
    expect(secrets.length).toBeGreaterThanOrEqual(10);
    expect(shownIn(storeDump)).toEqual([]);
    expect(formsInClear(rootBytes, storeDump)).toEqual([]);
  });

  it("is nowhere in clear in what the engine keeps, and neither is any Secret", async () => {
    const kept = filesBelow(STATE).filter((file) => file.includes(a.stack.name));
    expect(kept.length).toBeGreaterThan(0);
    const content = Buffer.concat(kept.map((file) => readFileSync(file)));
    expect(content.includes(a.namespace)).toBe(true);
    expect(formsInClear(canary, content)).toEqual([]);
    expect(shownIn(content)).toEqual([]);
    expect(formsInClear(rootBytes, content)).toEqual([]);

    // The search does find what is there: the derived keys, once the engine is told to show secrets.
    const shown = await runOnStack(["stack", "export", "--show-secrets"], a.stack, facts);
    expect(shownIn(shown.stdout)).toEqual(secrets.map(([name]) => name));
    expect(formsInClear(rootBytes, shown.stdout)).toEqual([]);
  });

  it("is nowhere in what the engine prints, and neither is any key", async () => {
    let printed = "";
    const onLine = (line: string): void => void (printed += `${line}\n`);
    await deploy(a.stack, facts, { onLine });
    const name = tenantName("canary-preview");
    const fresh = await writeTenantStack({ name, location: "nl-1", plan: "lite" });
    try {
      const run = await runOnStack(["preview", "--diff"], fresh, facts, { onLine });
      expect(run.exitCode).toBe(0);
    } finally {
      await destroy(fresh, facts);
    }
    expect(printed).toContain("tenant-canary-preview");
    expect(printed).toContain("[secret]");
    expect(formsInClear(canary, printed)).toEqual([]);
    expect(formsInClear(rootBytes, printed)).toEqual([]);
    expect(shownIn(printed)).toEqual([]);
    expect(formsInClear(deriveTenantKey(rootKey, name, "settings", 1), printed)).toEqual([]);
  });

  it("leaves the root key out of every object of the cluster and every process of its pods", async () => {
    const objects = await kubectl(
      a.location,
      ...["get", "secrets,configmaps,pods,deployments,cronjobs,jobs", "--all-namespaces"],
      ...["-o", "json"],
    );
    const derived = deriveTenantKey(rootKey, a.name, "settings", 1);
    expect(formsInClear(derived, objects)).toEqual(["base64 at 0"]);
    expect(formsInClear(rootBytes, objects)).toEqual([]);

    const ofPods = readdirSync("/proc")
      .filter((pid) => /^\d+$/.test(pid))
      .filter((pid) => /\/pod[0-9a-f-]{36}/.test(read(`/proc/${pid}/cgroup`).toString()));
    expect(ofPods.length).toBeGreaterThan(0);
    const seen = Buffer.concat(
      ofPods.flatMap((pid) => [
        ...["environ", "cmdline"].map((file) => read(`/proc/${pid}/${file}`)),
        ...filesBelow(`/proc/${pid}/root/run/secrets`).map(read),
      ]),
    );
    expect(seen.includes(derived)).toBe(true);
    expect(formsInClear(rootBytes, seen)).toEqual([]);
  });

  it("is in no log of the application", async () => {
    const log = await kubectl(
      a.location,
      ...["logs", "deployment/app", "--namespace", a.namespace, "--tail=-1"],
    );
    expect(log).toContain("/settings/canary");
    expect(formsInClear(canary, log)).toEqual([]);
    expect(shownIn(log)).toEqual([]);
  });

  /** The names of the tenant's secrets that show in a text. */
  function shownIn(text: Buffer | string): string[] {
    return secrets
      .filter(([, value]) => formsInClear(value, text).length > 0)
      .map(([name]) => name);
  }
});

describe("the search for what is in clear", () => {
  it("finds a secret in each of its forms, wherever it stands", () => {
    const secret = randomBytes(32);
    for (const before of [0, 1, 2, 3, 4, 5]) {
      const bytes = Buffer.concat([randomBytes(before), secret, randomBytes(7)]);
      expect(formsInClear(secret, bytes)).toEqual(["as it is"]);
      expect(formsInClear(secret, bytes.toString("hex"))).toEqual(["hexadecimal"]);
      expect(formsInClear(secret, bytes.toString("base64"))).toEqual([`base64 at ${before % 3}`]);
    }
    expect(formsInClear(secret, randomBytes(4096))).toEqual([]);
  });

  it("finds it inside a bytea of a dump", () => {
    const secret = randomBytes(32);
    const encoded = Buffer.from(`{"key":"${secret.toString("base64")}"}`).toString("hex");
    expect(formsInClear(secret, `1\t\\x${encoded}\n`)).toEqual([]);
    expect(formsInClear(secret, openedDump(`1\t\\\\x${encoded}\n`))).toEqual(["base64 at 0"]);
  });
});

/** Every file below a folder that may not be there; links are followed. */
function filesBelow(folder: string): string[] {
  let entries;
  try {
    entries = readdirSync(folder, { recursive: true, withFileTypes: true });
  } catch (error) {
    if (["ENOENT", "ENOTDIR", "ESRCH"].includes((error as NodeJS.ErrnoException).code ?? ""))
      return [];
    throw error;
  }
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

/** A process may end between the listing and the reading. */
function read(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    if (["ENOENT", "ESRCH"].includes((error as NodeJS.ErrnoException).code ?? "")) {
      return Buffer.alloc(0);
    }
    throw error;
  }
}
