import { liesIn, VOLUME_CLASS } from "../../model/encrypted-storage.ts";
import { makesPods, metadataOf, podSpecOf } from "../kubernetes-objects.ts";
import { stackRule } from "../rule.ts";
import type { Subject } from "../rule.ts";
import { ofType } from "../tenant-stack.ts";

const CLASS = "kubernetes:storage.k8s.io/v1:StorageClass";
const CLAIM = "kubernetes:core/v1:PersistentVolumeClaim";

interface ClaimSpec {
  readonly storageClassName?: string;
}

/**
 * Every file that outlives its pod lies on a volume of the one class whose folder is proved to be encrypted.
 *
 * Why: "files on AES-256 encrypted volumes" is as true as the class of the one volume that has another.
 * Blind to: what the provisioner makes of the class.
 */
export const filesLieOnEncryptedVolumes = stackRule(
  {
    name: "files-lie-on-encrypted-volumes",
    description:
      "Every file that outlives its pod lies on a volume of the one class whose folder is proved to be encrypted.",
    group: "secrets",
    severity: "critical",
    claims: ["P4", "W9"],
    references: [
      "PCI DSS 4.0.1 3.5.1",
      "SOC 2 CC6.1",
      "ISO 27001:2022 A.8.24",
      "GDPR Art. 32(1)(a)",
    ],
    remediation: `Name the class ${VOLUME_CLASS} of model/encrypted-storage.ts; components/encrypted-storage.ts makes it.`,
  },
  (subjects, report) => {
    for (const { subject, spec } of claims(subjects)) {
      if (spec?.storageClassName !== VOLUME_CLASS) {
        report(
          `${subject.name}: storageClassName must be ${VOLUME_CLASS}, got ${spec?.storageClassName ?? "none"}.`,
          subject,
        );
      }
    }
    for (const { subject, props } of ofType<{ parameters?: Readonly<Record<string, string>> }>(
      subjects,
      CLASS,
    )) {
      const { name } = metadataOf(props);
      if (name !== VOLUME_CLASS) {
        report(
          `${subject.name}: a StorageClass must be called ${VOLUME_CLASS}, got ${name ?? "none"}.`,
          subject,
        );
      }
      const machine = subject.provider?.name.replace(/-cluster$/, "") ?? "none";
      const storage = subjects.find(
        ({ type, name: other }) =>
          type === "fluxbilling:fleet:EncryptedStorage" && other === `${machine}-storage`,
      );
      const { folders = [] } = (storage?.props ?? {}) as { folders?: readonly string[] };
      const { nodePath, ...others } = props.parameters ?? {};
      if (nodePath === undefined || !liesIn(nodePath, folders)) {
        report(
          `${subject.name}: parameters.nodePath must lie in a folder that is proved encrypted, got ${nodePath ?? "none"}.`,
          subject,
        );
      }
      // A pattern of the path leads out of the folder.
      if (Object.keys(others).length > 0) {
        report(
          `${subject.name}: parameters must hold nodePath alone, got ${Object.keys(others).join(", ")} too.`,
          subject,
        );
      }
    }
  },
);

/** Every claim on a volume: by itself, of a set's replicas, or of a pod for its own life. */
function claims(
  subjects: readonly Subject[],
): readonly { readonly subject: Subject; readonly spec: ClaimSpec | undefined }[] {
  return subjects.flatMap((subject) => {
    const { type, props } = subject;
    if (type === CLAIM) {
      return [{ subject, spec: (props as { spec?: ClaimSpec }).spec }];
    }
    if (!makesPods(type)) {
      return [];
    }
    const { spec } = props as { spec?: { volumeClaimTemplates?: readonly { spec?: ClaimSpec }[] } };
    const ofPods = (podSpecOf(type, props)?.volumes ?? []).flatMap(({ ephemeral }) =>
      ephemeral === undefined ? [] : [ephemeral.volumeClaimTemplate ?? {}],
    );
    return [...(spec?.volumeClaimTemplates ?? []), ...ofPods].map((template) => ({
      subject,
      spec: template.spec,
    }));
  });
}
