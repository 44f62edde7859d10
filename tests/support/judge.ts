import { unknownCheckingProxy } from "@pulumi/policy";
import type { Rule, Subject } from "../../policies/rule.ts";
import type { Registered } from "./construct.ts";
import { TEST_ROOT_KEY } from "./good.ts";

/** What the engine passes for a value that is not known at preview. */
export const UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";

const ROOT_KEY_VARIABLE = "SETTINGS_ENCRYPTION_KEY";

/** Gives the test's root key as a deploy does, so that the pack can look for it, and takes it back. */
export function withRootKey<Answer>(ask: () => Answer): Answer {
  const before = process.env[ROOT_KEY_VARIABLE];
  process.env[ROOT_KEY_VARIABLE] = TEST_ROOT_KEY.toString("base64");
  try {
    return ask();
  } finally {
    if (before === undefined) {
      Reflect.deleteProperty(process.env, ROOT_KEY_VARIABLE);
    } else {
      process.env[ROOT_KEY_VARIABLE] = before;
    }
  }
}

/** A resource as a rule is asked about it. */
export interface Judged {
  readonly type: string;
  readonly name: string;
  readonly props: unknown;
  /** Name of its provider. @default none */
  readonly provider?: string;
  /** Its options. @default unprotected, nothing ignored */
  readonly opts?: Subject["opts"];
}

/** What a rule says about a stack, values read as the engine's proxy gives them; each message without its way out. */
export function judge(rule: Rule, resources: readonly Judged[]): readonly string[] {
  return say(rule, resources).map((message) => {
    const wayOut = ` ${rule.remediation}`;
    return message.endsWith(wayOut) ? message.slice(0, -wayOut.length) : message;
  });
}

/** The same with the whole messages. */
export function say(rule: Rule, resources: readonly Judged[]): readonly string[] {
  const messages: string[] = [];
  const report = (message: string): void => {
    messages.push(message);
  };
  const subjects = resources.map(asSubject);
  withRootKey(() => {
    if (rule.kind === "stack") {
      rule.judge(subjects, report);
    } else {
      for (const subject of subjects) {
        rule.judge(subject, report);
      }
    }
  });
  return messages;
}

/** What a program registered, as rules are asked about it. */
export function judged(resources: readonly Registered[]): readonly Judged[] {
  return resources.map(({ type, name, inputs, provider, protect, ignoreChanges }) => {
    // <urn>::<id>, and the name is the last part of the URN.
    const providerName = provider.split("::").at(-2);
    return {
      type,
      name,
      props: inputs,
      opts: { protect, ignoreChanges },
      ...(providerName === undefined ? {} : { provider: providerName }),
    };
  });
}

/** As the engine wraps what a rule reads. The SDK exports the function without a type. */
const proxy = unknownCheckingProxy as (props: unknown) => Record<string, unknown>;

/** A resource as the engine hands it to the pack. */
export function asSubject({ type, name, props, provider, opts }: Judged): Subject {
  return {
    type,
    name,
    urn: `urn:pulumi:test::fluxbilling::${type}::${name}`,
    props: proxy(props),
    provider: provider === undefined ? undefined : { name: provider },
    opts: opts ?? { protect: false, ignoreChanges: [] },
  };
}
