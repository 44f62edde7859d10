import { unknownCheckingProxy } from "@pulumi/policy";
import type {
  PolicyProviderResource,
  PolicyResource,
  ReportViolation,
  ResourceValidationPolicy,
  StackValidationPolicy,
} from "@pulumi/policy";
import type { Registered } from "./construct.ts";

/** What the engine passes for a value that is not known at preview. */
export const UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";

/** A resource as a rule is asked about it. */
export interface Judged {
  readonly type: string;
  readonly name: string;
  readonly props: unknown;
  /** Name of its provider. @default none */
  readonly provider?: string;
}

/** What a rule says about one resource, run as the engine runs it. */
export async function judge(
  policy: ResourceValidationPolicy,
  resource: Judged,
): Promise<readonly string[]> {
  const { validateResource } = policy;
  if (typeof validateResource !== "function") {
    throw new TypeError(`${policy.name} must have one validation`);
  }
  const { report, messages } = collector();
  await validateResource({ ...asResource(resource), stackTags: new Map(), ...UNUSED }, report);
  return messages;
}

/** What a rule says about a stack, run as the engine runs it. */
export async function judgeStack(
  policy: StackValidationPolicy,
  resources: readonly Judged[],
): Promise<readonly string[]> {
  const { report, messages } = collector();
  await policy.validateStack(
    { resources: resources.map(asResource), stackTags: new Map(), ...UNUSED },
    report,
  );
  return messages;
}

/** What a program registered, as rules are asked about it. */
export function judged(resources: readonly Registered[]): readonly Judged[] {
  return resources.map(({ type, name, inputs, provider }) => {
    // <urn>::<id>, and the name is the last part of the URN.
    const providerName = provider.split("::").at(-2);
    return {
      type,
      name,
      props: inputs,
      ...(providerName === undefined ? {} : { provider: providerName }),
    };
  });
}

const UNUSED = {
  asType: (): never => {
    throw new Error("no rule of this pack asks for a class");
  },
  getConfig: (): never => {
    throw new Error("no rule of this pack has a configuration");
  },
  notApplicable: (): never => {
    throw new Error("a rule of this pack must not call notApplicable");
  },
};

function collector(): { report: ReportViolation; messages: string[] } {
  const messages: string[] = [];
  return {
    messages,
    report: (message: string) => {
      messages.push(message);
    },
  };
}

/** As the engine wraps what a rule reads. The SDK exports the function without a type. */
const proxy = unknownCheckingProxy as (props: unknown) => Record<string, unknown>;

function asResource({ type, name, props, provider }: Judged): PolicyResource {
  const isType: PolicyResource["isType"] = (resourceClass) =>
    (resourceClass as { __pulumiType?: string }).__pulumiType === type;
  const proxied = proxy(props);
  return {
    type,
    name,
    props: proxied,
    urn: `urn:pulumi:test::fluxbilling::${type}::${name}`,
    opts: {
      protect: false,
      ignoreChanges: [],
      aliases: [],
      additionalSecretOutputs: [],
      customTimeouts: { createSeconds: 0, updateSeconds: 0, deleteSeconds: 0 },
    },
    dependencies: [],
    propertyDependencies: {},
    isType,
    asType: UNUSED.asType,
    ...(provider === undefined ? {} : { provider: asProvider(type, provider) }),
  };
}

function asProvider(type: string, name: string): PolicyProviderResource {
  const kind = `pulumi:providers:${type.split(":")[0] ?? ""}`;
  return { type: kind, name, urn: `urn:pulumi:test::fluxbilling::${kind}::${name}`, props: {} };
}
