import { isTenantNamespace, metadataOf } from "../kubernetes-objects.ts";
import { TENANT_LABEL, TENANT_NAMESPACE_PREFIX } from "../../model/labels.ts";
import { stackRule } from "../rule.ts";
import type { Subject } from "../rule.ts";

/** Components that say whether their fleet's data is protected. */
const SAYS = /^fluxbilling:(tenant:Tenant|fleet:Master)$/;

/**
 * Every database, volume and tenant's namespace refuses to be deleted or replaced, unless the fleet says that it is a throw-away.
 *
 * Why: a renamed resource is a delete and a create, and with it a tenant's rows are gone.
 * Blind to: deletes themselves, which no policy is asked about; the engine refuses those of what is protected.
 */
export const whatHoldsDataIsProtected = stackRule(
  {
    name: "what-holds-data-is-protected",
    description:
      "Every database, volume and tenant's namespace refuses to be deleted or replaced, unless the fleet says that it is a throw-away.",
    group: "lifecycle",
    severity: "critical",
    claims: ["F38", "F40", "F41"],
    references: [
      "GDPR Art. 32(1)(b)",
      "SOC 2 A1.2",
      "ISO 27001:2022 A.8.10",
      "ISO 27001:2022 A.8.32",
    ],
    remediation: "Set protect on it; deleting a tenant is an operation of its own.",
    blindIn: { live: "protection is an option of the stack, not of the object" },
  },
  (subjects, report) => {
    const sayers = subjects.filter(({ type }) => SAYS.test(type));
    const throwAway =
      sayers.length > 0 &&
      sayers.every(({ props }) => (props as { protectData?: boolean }).protectData === false);
    for (const subject of sayers) {
      const { protectData } = subject.props as { protectData?: boolean };
      if (typeof protectData !== "boolean") {
        report(
          `${subject.name}: protectData must say whether the fleet keeps its data, got ${protectData ?? "none"}.`,
          subject,
        );
      }
    }
    if (throwAway) {
      return;
    }
    for (const subject of subjects.filter(holdsData)) {
      if (!subject.opts.protect) {
        report(`${subject.name}: protect must be true, for it holds data, got false.`, subject);
      }
    }
  },
);

function holdsData({ type, props }: Subject): boolean {
  return (
    type === "postgresql:index/database:Database" ||
    type === "kubernetes:core/v1:PersistentVolumeClaim" ||
    (type === "kubernetes:core/v1:Namespace" &&
      isTenantNamespace(metadataOf(props), TENANT_LABEL, TENANT_NAMESPACE_PREFIX))
  );
}
