import { metadataOf } from "../../policies/kubernetes-objects.ts";
import { stackRule } from "../../policies/rule.ts";
import type { Subject } from "../../policies/rule.ts";
import { ofType } from "../../policies/tenant-stack.ts";

/** Entries that everyone may know: certificates, and the names that go with passwords. */
const PUBLIC = /(\.crt|cert\.pub)$|^(provider-.+-id|mail-user)$/;
/** Entries with so few values that two tenants have the same one. */
const COUNTERS = /^active$/;

/**
 * No two namespaces hold the same secret.
 *
 * Why: a secret that two tenants, or two environments, share opens the one to whoever has the other.
 * Blind to: a secret that another one can be computed from.
 */
export const tenantsShareNoSecret = stackRule(
  {
    name: "tenants-share-no-secret",
    description: "No two namespaces hold the same secret.",
    group: "secrets",
    severity: "critical",
    claims: ["F8", "X3", "X19"],
    references: [
      "PCI DSS 4.0.1 3.6.1",
      "PCI DSS 4.0.1 A1.1.2",
      "SOC 2 CC6.1",
      "ISO 27001:2022 A.8.31",
    ],
    remediation: "Mint a new secret for each: raise secretGeneration or keyGeneration of both.",
    blindIn: {
      preview: "a preview knows one stack alone",
      state: "secrets are kept encrypted, each under a nonce of its own",
    },
  },
  (subjects, report) => {
    const holders = new Map<string, { readonly subject: Subject; readonly at: string }[]>();
    for (const { subject, props } of ofType<{ data?: Readonly<Record<string, string>> }>(
      subjects,
      "kubernetes:core/v1:Secret",
    )) {
      const namespace = `${subject.provider?.name ?? ""}/${metadataOf(props).namespace ?? ""}`;
      for (const [key, digest] of Object.entries(props.data ?? {})) {
        if (!PUBLIC.test(key) && !COUNTERS.test(key)) {
          holders.set(digest, [
            ...(holders.get(digest) ?? []),
            { subject, at: `${namespace} ${key}` },
          ]);
        }
      }
    }
    for (const shared of holders.values()) {
      const namespaces = new Set(shared.map(({ at }) => at.split(" ")[0]));
      if (namespaces.size > 1) {
        for (const { subject, at } of shared) {
          report(
            `${subject.name}: a secret must be one namespace's own, got one that ${shared
              .filter((other) => other.at !== at)
              .map((other) => other.at)
              .join(" and ")} has too.`,
            subject,
          );
        }
      }
    }
  },
);
