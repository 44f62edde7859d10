import { rootKeyForms } from "../root-key.ts";
import { resourceRule, texts } from "../rule.ts";
import { TENANT_TYPE } from "../tenant-stack.ts";

/**
 * The root of the tenants' keys is in no resource, in no form, and neither is its fingerprint.
 *
 * Why: from the root every tenant's key follows; one copy in a state, a Secret or a command opens all of them.
 * Blind to: a key that was cut, or encrypted with another one.
 */
export const rootKeyIsInNoResource = resourceRule(
  {
    name: "root-key-is-in-no-resource",
    description:
      "The root of the tenants' keys is in no resource, in no form, and neither is its fingerprint.",
    group: "secrets",
    severity: "critical",
    claims: ["F7", "F8", "X7", "X13"],
    references: [
      "PCI DSS 4.0.1 3.6.1",
      "GDPR Art. 32(1)(a)",
      "SOC 2 CC6.1",
      "ISO 27001:2022 A.8.24",
    ],
    remediation:
      "Hand over what is derived from the root, never the root; then rotate the root, for it is in the preview's log.",
    judges: () => true,
    blindIn: {
      state: "a review is not given the root key, so it cannot look for it",
      live: "a review is not given the root key, so it cannot look for it",
    },
  },
  (subject, report) => {
    const forms = rootKeyForms();
    if (forms === undefined) {
      if (subject.type === TENANT_TYPE) {
        report(
          `${subject.name}: SETTINGS_ENCRYPTION_KEY must be given to the pack as to the program, so that it can look for it, got none.`,
        );
      }
      return;
    }
    for (const [path, text] of texts(subject.props)) {
      if (forms.some((form) => text.includes(form))) {
        report(
          `${subject.name}: ${path.join(".")} must not hold the root key or its id, got one of them.`,
        );
      }
    }
  },
);
