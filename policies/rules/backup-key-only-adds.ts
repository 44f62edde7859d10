import { RECEIVER_PATH } from "../../model/backup-store.ts";
import { resourceRule, shown } from "../rule.ts";

/** A line of `authorized_keys`, as a store's host gets it. */
const AUTHORITY_LINE = /printf '%s\\n' '(?<options>[^' ]*) ssh-ed25519 [A-Za-z0-9+/=]+'/;

/**
 * A backup key opens the one command that takes dumps in, for one tenant, from the location's own addresses.
 *
 * Why: whoever breaks into a tenant must not be able to read or delete the copies of any.
 * Blind to: the certificate itself, which is known after the key is made; what the receiving program does.
 */
export const backupKeyOnlyAdds = resourceRule(
  {
    name: "backup-key-only-adds",
    description:
      "A backup key opens the one command that takes dumps in, for one tenant, from the location's own addresses.",
    group: "backup",
    severity: "critical",
    claims: ["F20", "F21"],
    references: [
      "PCI DSS 4.0.1 10.3.3",
      "SOC 2 CC6.1",
      "ISO 27001:2022 A.8.13",
      "GDPR Art. 32(1)(b)",
    ],
    remediation:
      "Certify the key for model/backup-store.ts's command, and trust the authority with cert-authority,restrict.",
    judges: (type) =>
      type === "fluxbilling:tenant:TenantBackup" || type === "command:remote:Command",
    blindIn: { live: "the store's host is not asked" },
  },
  (subject, report) => {
    if (subject.type === "command:remote:Command") {
      const { create = "" } = subject.props as { create?: string };
      if (!create.includes("authorized_keys")) {
        return;
      }
      const options = AUTHORITY_LINE.exec(create)?.groups?.["options"];
      if (options !== "cert-authority,restrict") {
        report(
          `${subject.name}: keys must be trusted by cert-authority,restrict alone, got ${options ?? "another line"}.`,
        );
      }
      return;
    }
    const { tenant, forceCommand, sourceAddresses } = subject.props as {
      tenant?: string;
      forceCommand?: string;
      sourceAddresses?: readonly string[];
    };
    const command = new RegExp(
      `^${RECEIVER_PATH} -root /[A-Za-z0-9._/-]+ -keep-days \\d+ -tenant ${tenant ?? "none"}$`,
    );
    if (!command.test(forceCommand ?? "")) {
      report(
        `${subject.name}: forceCommand must be ${RECEIVER_PATH} -root <folder> -keep-days <days> -tenant ${tenant ?? "<tenant>"}, got ${shown(forceCommand)}.`,
      );
    }
    const single = (sourceAddresses ?? []).filter((address) => /^\d+(\.\d+){3}\/32$/.test(address));
    if (single.length === 0 || single.length !== (sourceAddresses ?? []).length) {
      report(
        `${subject.name}: sourceAddresses must be single addresses, at least one, got ${shown(sourceAddresses)}.`,
      );
    }
  },
);
