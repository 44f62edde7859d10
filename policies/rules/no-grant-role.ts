import type { ResourceValidationPolicy } from "@pulumi/policy";
import { failClosed } from "../fail-closed.ts";

/**
 * No role's membership is made by a GrantRole.
 *
 * Why: the next update of the Role revokes every membership that its own `roles` does not name, and
 * nothing notices until a refresh.
 * Blind to: memberships granted by hand.
 */
export const noGrantRole: ResourceValidationPolicy = {
  name: "no-grant-role",
  description: "No role's membership is made by a GrantRole.",
  enforcementLevel: "mandatory",
  validateResource: failClosed((args, report) => {
    if (args.type === "postgresql:index/grantRole:GrantRole") {
      report(
        `${args.name}: a membership must stand in the Role's own roles, got a GrantRole. Move it there.`,
      );
    }
  }),
};
