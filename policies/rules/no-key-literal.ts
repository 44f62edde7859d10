import { containersOf, makesPods, podSpecOf } from "../kubernetes-objects.ts";
import { stackRule, texts } from "../rule.ts";
import type { Subject } from "../rule.ts";

/** What a key, a password or a token looks like. */
const KEYS: Readonly<Record<string, RegExp>> = {
  "a private key": /-----BEGIN [A-Z ]*PRIVATE KEY-----/,
  "a password in an address": /\b[a-z][a-z0-9+]*:\/\/[^\s:/@]+:[^\s:/@]+@/i,
  "a signed token": /\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\./,
  "an access key": /\b(AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|glpat-[A-Za-z0-9_-]{20})\b/,
  "32 bytes in base64": /(?<![A-Za-z0-9+/=])[A-Za-z0-9+/]{43}=(?![A-Za-z0-9+/=])/,
  // A digest has its algorithm before it, or two spaces and a path behind it.
  "32 bytes in hexadecimal": /(?<![0-9a-zA-Z:])[0-9a-fA-F]{64}(?![0-9a-fA-F]|\s+\/)/,
};

/**
 * No key, password or token stands in a ConfigMap, a variable, a command, a label, a component or an output.
 *
 * Why: each of these is shown by tools, logs and people that may not see a secret.
 * Blind to: a secret that looks like an ordinary word.
 */
export const noKeyLiteral = stackRule(
  {
    name: "no-key-literal",
    description:
      "No key, password or token stands in a ConfigMap, a variable, a command, a label, a component or an output.",
    group: "secrets",
    severity: "critical",
    claims: ["F7", "X7", "X13"],
    references: [
      "PCI DSS 4.0.1 8.6.2",
      "SOC 2 CC6.1",
      "ISO 27001:2022 A.8.24",
      "CIS Kubernetes 5.4.1",
    ],
    remediation:
      "Put it into a Secret, mount it or hand it over on standard input, and make a new one: this one was shown.",
  },
  (subjects, report) => {
    for (const subject of subjects) {
      for (const [path, text] of texts(openPartOf(subject))) {
        const found = Object.entries(KEYS).find(([, pattern]) => pattern.test(text));
        if (found !== undefined) {
          report(
            `${subject.name}: ${path.join(".")} must hold no secret, got ${found[0]}.`,
            subject,
          );
        }
      }
    }
  },
);

/** What of a resource is not treated as a secret by everything that handles it. */
function openPartOf({ type, props }: Subject): unknown {
  if (type === "kubernetes:core/v1:Secret") {
    return { metadata: (props as { metadata?: unknown }).metadata };
  }
  if (type.startsWith("command:remote:")) {
    const {
      create,
      update,
      delete: remove,
      environment,
      triggers,
    } = known(props, ["create", "update", "delete", "environment", "triggers"]);
    return { create, update, delete: remove, environment, triggers };
  }
  if (makesPods(type)) {
    // Read here, so that an unknown variable or argument is a violation.
    for (const { env, command, args } of containersOf(podSpecOf(type, props) ?? {})) {
      known(env ?? [], [...(env ?? []).keys()].map(String));
      (env ?? []).forEach(({ value }) => value);
      known(command ?? [], [...(command ?? []).keys()].map(String));
      known(args ?? [], [...(args ?? []).keys()].map(String));
    }
    return props;
  }
  if (type === "kubernetes:core/v1:ConfigMap") {
    const { data } = known(props, ["data"]);
    known(data ?? {}, Object.keys(data ?? {}));
    return props;
  }
  return /^(kubernetes:|fluxbilling:|pulumi:pulumi:Stack$)/.test(type) ? props : undefined;
}

/** Fields that are read one by one, so that none of them can be unknown. */
function known(value: unknown, fields: readonly string[]): Readonly<Record<string, unknown>> {
  return Object.fromEntries(
    fields.map((field) => [field, (value as Readonly<Record<string, unknown>>)[field]]),
  );
}
