/** The name of the policy pack, as reports and the engine say it. */
export const POLICY_PACK_NAME = "fluxbilling";

/**
 * The policy pack that was reviewed: whoever deploys refuses a run that another one judged.
 *
 * It stands apart from `policies/`, so that an older or shortened pack cannot bring its own measure.
 * Raise the version here and in `policies/package.json` with every change of a rule.
 */
export const REVIEWED_PACK = {
  version: "1.6.0",
  /** Every rule, by its name. */
  rules: [
    "access-stays-in-its-namespace",
    "backup-is-kept-as-the-plan-says",
    "backup-key-only-adds",
    "connection-proves-its-peer",
    "data-stays-in-its-zone",
    "database-refuses-public-connect",
    "files-lie-on-encrypted-volumes",
    "grant-is-least",
    "headers-insist-on-https",
    "host-artefacts-are-pinned",
    "host-is-the-tenants-own",
    "host-proves-its-encryption",
    "image-by-digest",
    "image-from-an-allowed-registry",
    "ingress-speaks-tls-only",
    "login-owns-nothing",
    "namespace-has-default-deny",
    "namespace-names-its-zone",
    "network-peer-is-exact",
    "network-policy-selects-a-pod",
    "no-exception-has-ended",
    "no-grant-role",
    "no-key-literal",
    "nothing-judged-is-ignored",
    "one-default-tls-option",
    "pods-run-restricted",
    "provider-is-the-locations-own",
    "redirect-goes-to-https",
    "replay-reaches-nothing",
    "role-has-no-power",
    "root-key-is-in-no-resource",
    "route-stays-in-its-namespace",
    "secrets-are-files",
    "service-stays-inside",
    "suspended-is-answered-402",
    "system-namespace-is-shut",
    "tcp-route-is-a-tenants-mqtt",
    "tenant-fits-its-plan",
    "tenant-holds-tenant-types",
    "tenant-is-backed-up-daily",
    "tenant-is-whole",
    "tenant-objects-are-its-own",
    "tenant-reaches-only-its-own",
    "tenant-roles-are-its-own",
    "tenant-secret-is-immutable",
    "tenant-uses-its-locations-providers",
    "tls-option-floor-is-1-3",
    "type-is-known",
    "what-holds-data-is-protected",
  ],
} as const;

/** Variable that names the file into which the pack writes its {@link PackReport}. */
export const PACK_REPORT_VARIABLE = "FLUX_POLICY_REPORT";

/** What a pack says of one run: which rules it ran over how many resources. */
export interface PackReport {
  readonly pack: string;
  readonly version: string;
  /** Resources of the stack. */
  readonly resources: number;
  /** Their URNs. */
  readonly urns: readonly string[];
  readonly rules: readonly {
    readonly name: string;
    /** Resources that it was asked about. */
    readonly resources: number;
    readonly violations: number;
    /** Violations that an exception let pass. */
    readonly excepted: number;
    /** Every violation, excepted or not; without a URN where it is the whole stack's. */
    readonly found: readonly { readonly urn?: string; readonly message: string }[];
  }[];
}

/**
 * What a report falls short of the reviewed pack by, one sentence each; nothing where it is whole.
 *
 * @param report `undefined` where no pack has written one.
 */
export function packShortfalls(report: PackReport | undefined): readonly string[] {
  if (report === undefined) {
    return ["the pack must report, got no report: it was not passed, or its last rule is disabled"];
  }
  const shortfalls: string[] = [];
  if (report.pack !== POLICY_PACK_NAME || report.version !== REVIEWED_PACK.version) {
    shortfalls.push(
      `the pack must be ${POLICY_PACK_NAME} ${REVIEWED_PACK.version}, got ${report.pack} ${report.version}`,
    );
  }
  const ran = new Map(report.rules.map((rule) => [rule.name, rule]));
  const missing = REVIEWED_PACK.rules.filter((name) => !ran.has(name));
  if (missing.length > 0 || ran.size !== REVIEWED_PACK.rules.length) {
    shortfalls.push(
      `${REVIEWED_PACK.rules.length} rules must run, got ${ran.size}${missing.length > 0 ? ` without ${missing.join(", ")}` : ""}`,
    );
  }
  for (const { name, resources, violations } of report.rules) {
    if (resources !== report.resources) {
      shortfalls.push(`${name} must run over ${report.resources} resources, got ${resources}`);
    }
    if (violations > 0) {
      shortfalls.push(
        `${name} must refuse what violates it, got ${violations} violations let pass`,
      );
    }
  }
  return shortfalls;
}
