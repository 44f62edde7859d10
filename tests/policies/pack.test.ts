import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Policies, ResourceValidationArgs, StackValidationArgs } from "@pulumi/policy";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Exception } from "../../model/exceptions.ts";
import { packShortfalls, REVIEWED_PACK } from "../../model/policy-pack.ts";
import type { PackReport } from "../../model/policy-pack.ts";
import { asPolicies, LAST_POLICY } from "../../policies/pulumi-pack.ts";
import { RULES } from "../../policies/rules.ts";
import { asSubject, withRootKey } from "../support/judge.ts";
import type { Judged } from "../support/judge.ts";
import { mutated, STACKS } from "./mutants.ts";

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "pack-"));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

describe("the pack as the engine runs it", () => {
  it("reports every rule over every resource of a good stack, and the deploy has nothing to say", () => {
    const { messages, report } = run(STACKS.tenant);
    expect(messages).toEqual([]);
    expect(report?.resources).toBe(STACKS.tenant.length);
    expect(report?.rules.map(({ name }) => name)).toEqual(RULES.map(({ name }) => name));
    expect(packShortfalls(report)).toEqual([]);
  });

  it("refuses a stack that a disabled rule was not asked about", () => {
    const { messages, report } = run(STACKS.tenant, { disabled: ["image-by-digest"] });
    expect(messages).toEqual([
      expect.stringMatching(
        /^image-by-digest: must be asked about all \d+ resources, got 0, not .+\. Enable the rule, and pass the pack without a configuration\.$/,
      ),
    ]);
    expect(packShortfalls(report)).toEqual([
      `image-by-digest must run over ${STACKS.tenant.length} resources, got 0`,
    ]);
  });

  it("leaves no report when all of it is disabled, and the deploy refuses that", () => {
    const all = [...RULES.map(({ name }) => name), LAST_POLICY];
    const { messages, report } = run(STACKS.tenant, { disabled: all });
    expect(messages).toEqual([]);
    expect(packShortfalls(report)).toEqual([
      "the pack must report, got no report: it was not passed, or its last rule is disabled",
    ]);
  });

  it("counts a violation whatever level the rule was lowered to", () => {
    const { messages, report } = run(spoiltStack());
    expect(messages).toHaveLength(1);
    expect(packShortfalls(report)).toEqual([
      "tls-option-floor-is-1-3 must refuse what violates it, got 1 violations let pass",
    ]);
  });

  it("lets a tenant off a rule while its exception holds, and says so in the report", () => {
    const { messages, report } = run(spoiltTenant(), { exceptions: [exception(10)] });
    expect(messages).toEqual([]);
    expect(report?.rules.find(({ name }) => name === "service-stays-inside")).toEqual({
      name: "service-stays-inside",
      resources: STACKS.tenant.length,
      violations: 0,
      excepted: 1,
      found: [
        {
          urn: "urn:pulumi:test::fluxbilling::kubernetes:core/v1:Service::acme-app-service",
          message: expect.stringContaining("type must be ClusterIP, got NodePort.") as string,
        },
      ],
    });
    expect(packShortfalls(report)).toEqual([]);
  });

  it("refuses both the violation and its exception once that has ended", () => {
    const { messages } = run(spoiltTenant(), { exceptions: [exception(-2)] });
    expect(messages).toEqual([
      expect.stringContaining("type must be ClusterIP, got NodePort."),
      expect.stringContaining("endDate must not have passed"),
    ]);
  });

  it("lets no other tenant off", () => {
    const { messages } = run(spoiltTenant(), {
      exceptions: [exception(10)],
      stack: "local.other",
    });
    expect(messages).toEqual([expect.stringContaining("got NodePort.")]);
  });

  it("is refused in another version and with a rule less", () => {
    const { report } = run(STACKS.tenant);
    const older = { ...(report as PackReport), version: "0.9.0" };
    expect(packShortfalls({ ...older, rules: older.rules.slice(1) })).toEqual([
      `the pack must be fluxbilling ${REVIEWED_PACK.version}, got fluxbilling 0.9.0`,
      `${RULES.length} rules must run, got ${RULES.length - 1} without ${RULES[0]?.name ?? ""}`,
    ]);
  });

  it("tells a reviewer severity, way out and link of every rule", () => {
    for (const policy of policies().slice(0, -1)) {
      expect(policy.enforcementLevel).toBe("mandatory");
      expect(policy.url).toBe(`docs/policies.md#${policy.name}`);
      expect(policy.severity).toMatch(/^(low|medium|high|critical)$/);
      expect(policy.remediationSteps).not.toBe("");
    }
  });
});

interface Run {
  readonly disabled?: readonly string[];
  readonly exceptions?: readonly Exception[];
  readonly stack?: string;
}

function policies({ exceptions = [], stack = "local.acme" }: Run = {}): Policies {
  return asPolicies(RULES, { stack, exceptions, reportFile: join(folder, "report.json") });
}

/** As the engine does: every policy that is not disabled, resource by resource, then all together. */
function run(
  resources: readonly Judged[],
  options: Run = {},
): { messages: readonly string[]; report: PackReport | undefined } {
  return withRootKey(() => runWithKey(resources, options));
}

function runWithKey(
  resources: readonly Judged[],
  options: Run = {},
): { messages: readonly string[]; report: PackReport | undefined } {
  const messages: string[] = [];
  const report = (message: string): void => {
    messages.push(message);
  };
  const subjects = resources.map(asSubject);
  const enabled = policies(options).filter(({ name }) => !(options.disabled ?? []).includes(name));
  for (const policy of enabled) {
    if ("validateStack" in policy) {
      continue;
    }
    for (const subject of subjects) {
      const { validateResource } = policy;
      (validateResource as (args: ResourceValidationArgs, report: unknown) => void)(
        subject as unknown as ResourceValidationArgs,
        report,
      );
    }
  }
  for (const policy of enabled) {
    if ("validateStack" in policy) {
      void policy.validateStack({ resources: subjects } as unknown as StackValidationArgs, report);
    }
  }
  return { messages, report: written() };
}

function written(): PackReport | undefined {
  try {
    return JSON.parse(readFileSync(join(folder, "report.json"), "utf8")) as PackReport;
  } catch {
    return undefined;
  }
}

function spoiltStack(): readonly Judged[] {
  return mutated({
    stack: "fleet",
    type: "kubernetes:traefik.io/v1alpha1:TLSOption",
    name: "nl-1-edge-tls",
    set: { "spec.minVersion": "VersionTLS12" },
    says: [],
  });
}

function spoiltTenant(): readonly Judged[] {
  return mutated({
    type: "kubernetes:core/v1:Service",
    name: "acme-app-service",
    set: { "spec.type": "NodePort" },
    says: [],
  });
}

function exception(inDays: number): Exception {
  return {
    tenant: "acme",
    rule: "service-stays-inside",
    reason: "Their old client needs a port until it is replaced.",
    approver: "security",
    endDate: new Date(Date.now() + inDays * 86_400_000).toISOString().slice(0, 10),
  };
}
