import { resourceRule } from "../rule.ts";

/** Inputs that may differ from what is there, by type, and why no rule is deceived by it. */
const MAY_DIFFER: Readonly<Record<string, readonly string[]>> = {
  // A volume keeps the size it was made with; the quota bounds it.
  "kubernetes:core/v1:PersistentVolumeClaim": ["spec.resources"],
};

/**
 * No resource ignores changes of what rules judge.
 *
 * Why: an ignored change is judged as written while what is deployed stays as it was.
 * Blind to: changes made by hand, which the review of the live system finds.
 */
export const nothingJudgedIsIgnored = resourceRule(
  {
    name: "nothing-judged-is-ignored",
    description: "No resource ignores changes of what rules judge.",
    group: "lifecycle",
    severity: "high",
    claims: ["F42"],
    references: ["SOC 2 CC8.1", "PCI DSS 4.0.1 6.5.1", "ISO 27001:2022 A.8.32"],
    remediation: "Take the path out of ignoreChanges.",
    judges: () => true,
    blindIn: { live: "a live system knows no options of resources" },
  },
  (subject, report) => {
    for (const path of subject.opts.ignoreChanges) {
      if (!(MAY_DIFFER[subject.type] ?? []).includes(path)) {
        report(`${subject.name}: ignoreChanges must not name what is judged, got ${path}.`);
      }
    }
  },
);
