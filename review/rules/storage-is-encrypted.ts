import { liesIn } from "../../model/encrypted-storage.ts";
import { stackRule } from "../../policies/rule.ts";
import { ofType } from "../../policies/tenant-stack.ts";
import { STORAGE_TYPE } from "../live-host.ts";
import { SERVER_TYPE } from "../live-server.ts";

interface Storage {
  readonly folders?: readonly string[];
  /** Folders of volumes, by their names. */
  readonly volumes?: Readonly<Record<string, string>>;
  /** Why the host could not prove it. */
  readonly refusal?: string;
}

/**
 * Every folder of a host that holds data lies encrypted, and volumes and databases lie in such a folder.
 *
 * Why: a deploy proves it once; a disk is added and a folder moved by hand later.
 * Blind to: who has the key; what the host's own programs pretend.
 */
export const storageIsEncrypted = stackRule(
  {
    name: "storage-is-encrypted",
    description:
      "Every folder of a host that holds data lies encrypted, and volumes and databases lie in such a folder.",
    group: "secrets",
    severity: "critical",
    claims: ["P4", "W8", "W9"],
    references: [
      "PCI DSS 4.0.1 3.5.1",
      "SOC 2 CC6.1",
      "ISO 27001:2022 A.8.24",
      "GDPR Art. 32(1)(a)",
    ],
    remediation: "Put the folder on an encrypted disk: docs/runbooks/encrypted-storage.md.",
    blindIn: {
      preview: "what a host says is in no stack",
      state: "what a host says is in no stack",
    },
  },
  (subjects, report) => {
    const storages = ofType<Storage>(subjects, STORAGE_TYPE);
    for (const { subject, props } of storages) {
      const { folders = [], refusal, volumes = {} } = props;
      if (refusal !== undefined) {
        report(`${subject.name}: its storage must be proved encrypted, got: ${refusal}`, subject);
      }
      for (const [volume, path] of Object.entries(volumes)) {
        if (!liesIn(path, folders)) {
          report(
            `${subject.name}: volume ${volume} must lie in a folder that is proved encrypted, ${folders.join(", ")}, got ${path}.`,
            subject,
          );
        }
      }
    }
    for (const { subject, props } of ofType<{ settings?: { data_directory?: string } }>(
      subjects,
      SERVER_TYPE,
    )) {
      const storage = storages.find((one) => one.subject.name === subject.name);
      const folders = storage?.props.folders ?? [];
      const path = props.settings?.data_directory;
      if (path === undefined || !liesIn(path, folders)) {
        report(
          `${subject.name}: its databases must lie in a folder that is proved encrypted, ${folders.join(", ") || "none"}, got ${path ?? "none"}.`,
          subject,
        );
      }
    }
  },
);
