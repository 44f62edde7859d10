import { LEAST_RETENTION_DAYS, PLANS } from "../../model/plan.ts";
import { shown, stackRule } from "../rule.ts";
import { isPlanName, ofType, tenantsOf } from "../tenant-stack.ts";

/**
 * A tenant's dumps are kept as many days as its plan says, and never fewer than seven.
 *
 * Why: the promise is a week; a loss that is noticed on the sixth day needs the dump of the first.
 * Blind to: what the store does by the number, which its own tests show.
 */
export const backupIsKeptAsThePlanSays = stackRule(
  {
    name: "backup-is-kept-as-the-plan-says",
    description:
      "A tenant's dumps are kept as many days as its plan says, and never fewer than seven.",
    group: "backup",
    severity: "high",
    claims: ["F19"],
    references: ["SOC 2 A1.2", "ISO 27001:2022 A.8.13", "GDPR Art. 5(1)(e)", "PCI DSS 4.0.1 3.2.1"],
    remediation:
      "Make the key's command by model/backup-store.ts from the plan's backupRetentionDays.",
    blindIn: { live: "the store's host is not asked" },
  },
  (subjects, report) => {
    for (const { says } of tenantsOf(subjects)) {
      // A plan that is none is another rule's to refuse: tenant-fits-its-plan.
      const days = isPlanName(says.plan) ? PLANS[says.plan].backupRetentionDays : 0;
      const kept = Math.max(days, LEAST_RETENTION_DAYS);
      for (const { subject, props } of ofType<{ forceCommand?: string }>(
        subjects,
        "fluxbilling:tenant:TenantBackup",
      )) {
        const said = / -keep-days (\d+) /.exec(props.forceCommand ?? "")?.[1];
        if (said !== String(kept)) {
          report(
            `${subject.name}: forceCommand must keep dumps for ${kept} days, -keep-days ${kept}, got ${shown(said)}.`,
            subject,
          );
        }
      }
    }
  },
);
