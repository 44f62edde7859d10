import { CLUSTER_FOLDERS, liesIn, storageCheck } from "../../model/encrypted-storage.ts";
import { stackRule } from "../rule.ts";
import { ofType } from "../tenant-stack.ts";

/** What makes a bare host's cluster and PostgreSQL. */
const PREPARED = "fluxbilling:host:PreparedHost";

/** Components with data on a host of their own. */
const HOLDERS = [
  "fluxbilling:fleet:BackupStore",
  "fluxbilling:fleet:Location",
  "fluxbilling:fleet:Master",
  "fluxbilling:fleet:Standby",
  PREPARED,
] as const;

const STORAGE = "fluxbilling:fleet:EncryptedStorage";

interface Holder {
  readonly address?: string;
  /** Of a backup store. */
  readonly path?: string;
  /** Of a host that is prepared. */
  readonly folders?: readonly string[];
}

interface Storage {
  readonly address?: string;
  readonly folders?: readonly string[];
}

/**
 * Every host with data proves over SSH that each folder with data lies encrypted.
 *
 * Why: PostgreSQL and Kubernetes encrypt no files by themselves, and a disk that is thrown away is read by whoever finds
 * it.
 * Blind to: what the host answers, which decides whether the deploy goes on; what is changed there later, about which
 * the review asks again.
 */
export const hostProvesItsEncryption = stackRule(
  {
    name: "host-proves-its-encryption",
    description: "Every host with data proves over SSH that each folder with data lies encrypted.",
    group: "secrets",
    severity: "critical",
    claims: ["P4", "W8", "W9"],
    references: [
      "PCI DSS 4.0.1 3.5.1",
      "SOC 2 CC6.1",
      "ISO 27001:2022 A.8.24",
      "GDPR Art. 32(1)(a)",
    ],
    remediation: "Use components/encrypted-storage.ts as it is, with every folder that holds data.",
    blindIn: { live: "the live review asks each host itself: storage-is-encrypted" },
  },
  (subjects, report) => {
    const storages = ofType<Storage>(subjects, STORAGE);
    for (const type of HOLDERS) {
      for (const { subject, props } of ofType<Holder>(subjects, type)) {
        const storage = storages.find((one) => one.subject.name === `${subject.name}-storage`);
        if (storage === undefined) {
          report(`${subject.name}: its storage must be proved encrypted, got no proof.`, subject);
          continue;
        }
        const { address, folders = [] } = storage.props;
        if (address === undefined || address !== props.address) {
          report(
            `${subject.name}: the host that proves its storage must be its own, ${props.address ?? "none"}, got ${address ?? "none"}.`,
            subject,
          );
        }
        const held = [
          ...(props.path === undefined ? [] : [props.path]),
          // What is installed there writes to these, whatever the settings name.
          ...(type === PREPARED ? new Set([...CLUSTER_FOLDERS, ...(props.folders ?? [])]) : []),
        ];
        for (const folder of held.filter((one) => !liesIn(one, folders))) {
          report(
            `${subject.name}: its folder ${folder} must be among those that are proved, got ${folders.join(", ") || "none"}.`,
            subject,
          );
        }
      }
    }
    for (const { subject, props } of storages) {
      const { address, folders = [] } = props;
      const checks = ofType<{
        readonly connection?: { readonly host?: string };
        readonly create?: string;
        readonly update?: string;
      }>(subjects, "command:remote:Command").filter(
        ({ subject: check }) => check.name === `${subject.name}-check`,
      );
      const expected = storageCheck(folders);
      for (const check of checks) {
        const { connection, create, update = create } = check.props;
        for (const line of new Set([create, update])) {
          if (folders.length === 0 || line !== expected) {
            report(
              `${check.subject.name}: its command must check the folders that it stands for, got "${line ?? "none"}".`,
              check.subject,
            );
          }
        }
        // A stored state keeps the connection encrypted; one that is missing is another rule's to refuse.
        if (typeof connection === "object" && connection.host !== address) {
          report(
            `${check.subject.name}: it must ask ${address ?? "none"}, got ${connection.host ?? "none"}.`,
            check.subject,
          );
        }
      }
      if (checks.length !== 1) {
        report(
          `${subject.name}: exactly one command must prove it, got ${checks.length}.`,
          subject,
        );
      }
    }
  },
);
