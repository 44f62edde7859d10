import { COMPONENT_LABEL } from "../../model/labels.ts";
import { metadataOf, podSpecOf } from "../kubernetes-objects.ts";
import { shown, stackRule } from "../rule.ts";
import { ofType, tenantsOf, variableOf } from "../tenant-stack.ts";

interface CronJobSpec {
  readonly schedule?: string;
  readonly timeZone?: string;
  readonly suspend?: boolean;
  readonly concurrencyPolicy?: string;
}

/** Once a day at one minute: `<minute> <hour> * * *`. */
const DAILY = /^([0-5]?\d) ([01]?\d|2[0-3]) \* \* \*$/;

/**
 * Every tenant's database is dumped once a day, by its backup role, to a store whose host key is pinned, and never twice at once.
 *
 * Why: a dump that never ran is found when it is needed.
 * Blind to: whether a dump restores; how long the store keeps it.
 */
export const tenantIsBackedUpDaily = stackRule(
  {
    name: "tenant-is-backed-up-daily",
    description:
      "Every tenant's database is dumped once a day, by its backup role, to a store whose host key is pinned, and never twice at once.",
    group: "backup",
    severity: "critical",
    claims: ["F17", "F18", "F20", "F21"],
    references: [
      "GDPR Art. 32(1)(c)",
      "SOC 2 A1.2",
      "ISO 27001:2022 A.8.13",
      "PCI DSS 4.0.1 9.4.1",
    ],
    remediation: "Make the job by components/tenant-backup.ts.",
  },
  (subjects, report) => {
    for (const { subject: tenant, names } of tenantsOf(subjects)) {
      const jobs = ofType<{ spec?: CronJobSpec }>(subjects, "kubernetes:batch/v1:CronJob").filter(
        ({ props }) => metadataOf(props).labels?.[COMPONENT_LABEL] === "backup",
      );
      if (jobs.length === 0) {
        report(
          `${tenant.name}: a CronJob with ${COMPONENT_LABEL} backup must exist, got none.`,
          tenant,
        );
      }
      for (const { subject, props } of jobs) {
        const { schedule, timeZone, suspend, concurrencyPolicy } = props.spec ?? {};
        const must = (what: string, holds: boolean, rule: string, got: unknown): void => {
          if (!holds) {
            report(`${subject.name}: ${what} must be ${rule}, got ${shown(got)}.`, subject);
          }
        };
        must("schedule", DAILY.test(schedule ?? ""), "once a day, <minute> <hour> * * *", schedule);
        must("timeZone", timeZone === "Etc/UTC", "Etc/UTC", timeZone);
        must("suspend", suspend !== true, "false", suspend);
        must("concurrencyPolicy", concurrencyPolicy === "Forbid", "Forbid", concurrencyPolicy);
        const containers = podSpecOf(subject.type, props)?.containers ?? [];
        const variable = (name: string): string | undefined => variableOf(containers, name);
        const expected = { DATABASE_NAME: names.database, DATABASE_USER: names.backupRole };
        for (const [name, value] of Object.entries(expected)) {
          must(name, variable(name) === value, value, variable(name));
        }
        const hostKey = variable("STORE_HOST_KEY");
        must(
          "STORE_HOST_KEY",
          /^ssh-ed25519 [A-Za-z0-9+/=]+$/.test(hostKey ?? ""),
          "the store's ssh-ed25519 host key",
          hostKey,
        );
      }
    }
  },
);
