import { PUBLIC_ROLE } from "../../model/database.ts";
import { resourceRule, shown } from "../rule.ts";

interface Grant {
  readonly role?: string;
  readonly objectType?: string;
  readonly privileges?: readonly string[];
  readonly withGrantOption?: boolean;
}

/** What a login may be given, by the kind of object. Nobody may create, own, truncate or pass on. */
const LEAST: Readonly<Record<string, readonly string[]>> = {
  database: ["CONNECT"],
  schema: ["USAGE"],
  table: ["SELECT", "INSERT", "UPDATE", "DELETE"],
  sequence: ["SELECT", "USAGE"],
};

/**
 * Every grant is one that an application needs, and none can be passed on.
 *
 * Why: with CREATE a login makes objects that others run; with the grant option it lets others in.
 * Blind to: what the owner of an object grants by itself.
 */
export const grantIsLeast = resourceRule(
  {
    name: "grant-is-least",
    description: "Every grant is one that an application needs, and none can be passed on.",
    group: "isolation",
    severity: "high",
    claims: ["F3", "X1"],
    references: ["PCI DSS 4.0.1 7.2.5", "SOC 2 CC6.3", "ISO 27001:2022 A.8.2"],
    remediation: "Grant CONNECT, USAGE, reading and writing rows, and nothing else.",
    judges: (type) =>
      type === "postgresql:index/grant:Grant" ||
      type === "postgresql:index/defaultPrivileges:DefaultPrivileges",
  },
  (subject, report) => {
    const { role, objectType = "", privileges, withGrantOption } = subject.props as Grant;
    if (withGrantOption === true) {
      report(`${subject.name}: withGrantOption must be false, got true.`);
    }
    const least = LEAST[objectType];
    if (least === undefined) {
      report(
        `${subject.name}: objectType must be one of ${Object.keys(LEAST).join(", ")}, got ${objectType || "none"}.`,
      );
      return;
    }
    // What PUBLIC has is another rule's: nothing.
    const allowed = role === PUBLIC_ROLE ? [] : least;
    const more = (privileges ?? []).filter(
      (privilege) => !allowed.includes(privilege.toUpperCase()),
    );
    if (more.length > 0) {
      report(
        `${subject.name}: privileges on a ${objectType} must be of ${shown(allowed)}, got ${more.join(", ")}.`,
      );
    }
  },
);
