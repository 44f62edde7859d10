import { stackRule } from "../rule.ts";
import { ofType } from "../tenant-stack.ts";

/**
 * Whatever lies in a database is owned by a role that cannot log in.
 *
 * Why: an owner passes by grants and row security, so the application must not be one.
 * Blind to: tables that an application makes at run time, which the schema's owner decides.
 */
export const loginOwnsNothing = stackRule(
  {
    name: "login-owns-nothing",
    description: "Whatever lies in a database is owned by a role that cannot log in.",
    group: "isolation",
    severity: "high",
    claims: ["F3", "X1"],
    references: ["PCI DSS 4.0.1 7.2.5", "SOC 2 CC6.3", "ISO 27001:2022 A.8.2"],
    remediation: "Give it to the role without login that the stack makes for it.",
  },
  (subjects, report) => {
    const logins = new Map(
      ofType<{ name?: string; login?: boolean }>(subjects, "postgresql:index/role:Role").map(
        ({ props }) => [props.name, props.login === true],
      ),
    );
    for (const type of ["schema:Schema", "defaultPrivileges:DefaultPrivileges"]) {
      for (const { subject, props } of ofType<{ owner?: string }>(
        subjects,
        `postgresql:index/${type}`,
      )) {
        const login = logins.get(props.owner);
        if (login !== false) {
          report(
            `${subject.name}: owner must be a role of this stack without login, got ${props.owner ?? "none"}${login === true ? ", which logs in" : ""}.`,
            subject,
          );
        }
      }
    }
  },
);
