import { containersOf, makesPods, podSpecOf } from "../kubernetes-objects.ts";
import { resourceRule } from "../rule.ts";

/** Names of variables that would hold a secret; one that ends like a path or is public does not. */
const SECRET_NAME = /PASSWORD|PASSWD|SECRET|TOKEN|KEY|CREDENTIAL|SALT/i;
const PATH_NAME = /_(FILE|DIRECTORY|PATH)$/;
const PUBLIC_KEY = /^ssh-ed25519 /;

/**
 * No container gets a secret through a variable, and no ConfigMap holds one.
 *
 * Why: variables are shown by the API, by crash reports and to every child process; mounted files
 * are not.
 * Blind to: a secret under a name that does not look like one.
 */
export const secretsAreFiles = resourceRule(
  {
    name: "secrets-are-files",
    description: "No container gets a secret through a variable, and no ConfigMap holds one.",
    group: "secrets",
    severity: "high",
    claims: ["F7", "X13"],
    references: [
      "CIS Kubernetes 5.4.1",
      "PCI DSS 4.0.1 8.6.2",
      "SOC 2 CC6.1",
      "ISO 27001:2022 A.8.24",
    ],
    remediation: "Put the value into a Secret, mount it, and name its file in the variable.",
    judges: (type) => type === "kubernetes:core/v1:ConfigMap" || makesPods(type),
  },
  (subject, report) => {
    if (subject.type === "kubernetes:core/v1:ConfigMap") {
      const { data = {} } = subject.props as { data?: Readonly<Record<string, string>> };
      for (const key of Object.keys(data)) {
        if (SECRET_NAME.test(key)) {
          report(`${subject.name}: a ConfigMap must hold no secret, got key ${key}. Use a Secret.`);
        }
      }
      return;
    }
    if (!makesPods(subject.type)) {
      return;
    }
    for (const container of containersOf(podSpecOf(subject.type, subject.props) ?? {})) {
      const at = `${subject.name}: container ${container.name ?? "without a name"}`;
      if ((container.envFrom ?? []).length > 0) {
        report(`${at} must name its variables one by one, got envFrom.`);
      }
      for (const { name = "", value, valueFrom } of container.env ?? []) {
        if (valueFrom !== undefined) {
          report(`${at} must get variable ${name} as a plain value, got valueFrom.`);
        } else if (
          SECRET_NAME.test(name) &&
          !PATH_NAME.test(name) &&
          !PUBLIC_KEY.test(value ?? "")
        ) {
          report(`${at} must get secrets as files, got variable ${name}.`);
        }
      }
    }
  },
);
