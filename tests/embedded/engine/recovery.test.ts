import { describe, expect, it } from "vitest";

import type { PendingOperation, ResourceState } from "../../../embedded/engine/engine.ts";
import { settle } from "../../../embedded/engine/recovery.ts";

function resource(type: string, inputs: ResourceState["inputs"] = {}): ResourceState {
  return { urn: `urn:pulumi:s::p::${type}::one`, type, custom: true, inputs };
}

function creating(state: ResourceState): PendingOperation {
  return { type: "creating", resource: state };
}

/** The id under which a pending creation is recorded. */
function idOf(type: string, inputs: ResourceState["inputs"]): string | undefined {
  return settle([], [creating(resource(type, inputs))]).resources[0]?.id;
}

describe("settle", () => {
  it("records the pending creation of what exists outside the record, with its inputs", () => {
    const role = resource("postgresql:index/role:Role", { name: "tenant_acme" });
    expect(settle([], [creating(role)])).toEqual({
      resources: [{ ...role, id: "tenant_acme", outputs: { name: "tenant_acme" } }],
      adopted: [role.urn],
      forgotten: [],
      refreshed: [],
    });
  });

  it("names objects as the providers do", () => {
    expect([
      idOf("postgresql:index/database:Database", { name: "tenant_acme" }),
      idOf("kubernetes:core/v1:Namespace", { metadata: { name: "acme" } }),
      idOf("kubernetes:core/v1:Secret", { metadata: { name: "key", namespace: "acme" } }),
      idOf("kubernetes:batch/v1:CronJob", { metadata: { name: "backup" } }),
      idOf("kubernetes:rbac.authorization.k8s.io/v1:ClusterRole", { metadata: { name: "all" } }),
      idOf("kubernetes:traefik.io/v1alpha1:Middleware", {
        metadata: { name: "limit", namespace: "acme" },
      }),
    ]).toEqual(["tenant_acme", "acme", "acme/key", "default/backup", "all", "acme/limit"]);
  });

  it("forgets the pending creation of what lives in the record alone, or may be made again", () => {
    const operations = [
      "random:index/randomBytes:RandomBytes",
      "tls:index/privateKey:PrivateKey",
      "command:local:Command",
      "postgresql:index/grant:Grant",
    ].map((type) => creating(resource(type, { name: "one" })));
    expect(settle([], operations)).toEqual({
      resources: [],
      adopted: [],
      forgotten: operations.map((operation) => operation.resource.urn),
      refreshed: [],
    });
  });

  it("puts a creation in the place of what was deleted for it", () => {
    const old = {
      ...resource("kubernetes:apps/v1:Deployment", { metadata: { name: "app", namespace: "a" } }),
      id: "a/app",
      pendingReplacement: true,
    };
    const created = resource("kubernetes:apps/v1:Deployment", {
      metadata: { name: "app", namespace: "a" },
      spec: {},
    });
    expect(settle([old], [creating(created)])).toEqual({
      resources: [{ ...created, id: "a/app", outputs: created.inputs }],
      adopted: [old.urn],
      forgotten: [],
      refreshed: [],
    });
  });

  it("reads anew what was being updated or deleted, where the record still has it", () => {
    const known = { ...resource("kubernetes:core/v1:Namespace"), id: "acme" };
    const gone = resource("kubernetes:core/v1:Secret");
    expect(
      settle(
        [known],
        [
          { type: "updating", resource: known },
          { type: "deleting", resource: known },
          { type: "deleting", resource: gone },
        ],
      ),
    ).toEqual({ resources: [known], adopted: [], forgotten: [], refreshed: [known.urn] });
  });
});
