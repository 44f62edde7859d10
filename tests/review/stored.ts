import type { StoredResource, StoredStack } from "../../review/state.ts";
import type { Judged } from "../support/judge.ts";
import { STACKS } from "../policies/mutants.ts";

/** A good stack as Pulumi's file backend would have recorded it; secrets are open. */
export function stored(
  name: string,
  resources: readonly Judged[] = STACKS.tenant,
  writtenAt = "2026-03-01T12:00:00Z",
): StoredStack {
  return {
    name,
    file: `${name}.json`,
    writtenAt,
    resources: resources.map(({ type, name: resource, props, provider, opts }): StoredResource => ({
      urn: `urn:pulumi:${name}::fluxbilling::${type}::${resource}`,
      type,
      // A record is JSON.
      inputs: JSON.parse(JSON.stringify(props)) as Record<string, unknown>,
      protect: opts?.protect ?? false,
      ignoreChanges: opts?.ignoreChanges ?? [],
      ...(provider === undefined
        ? {}
        : { provider: `urn:pulumi:${name}::fluxbilling::pulumi:providers:x::${provider}::id` }),
    })),
  };
}

/** The same stack of another tenant. */
export function renamed(stack: StoredStack, from: string, to: string): StoredStack {
  return JSON.parse(JSON.stringify(stack).replaceAll(from, to)) as StoredStack;
}
