import {
  ARTEFACT_URL_RULE,
  isArtefactUrl,
  isPackageVersion,
  isDigest,
  k3sCommand,
  PACKAGE_VERSION_RULE,
  postgresqlCommand,
  DIGEST_RULE,
} from "../../model/prepared-host.ts";
import type { HostPlan } from "../../model/prepared-host.ts";
import { shown, stackRule } from "../rule.ts";
import { ofType } from "../tenant-stack.ts";

/** What a prepared host says of itself, before it is believed. */
interface Statement extends Omit<HostPlan, "k3s" | "cluster" | "postgresql"> {
  readonly k3s?: Partial<HostPlan["k3s"]>;
  readonly cluster?: HostPlan["cluster"];
  readonly postgresql?: Partial<HostPlan["postgresql"]>;
}

/**
 * Whatever is installed on a host is one file by its SHA-256, fetched over https, or one version of a package that Debian signs.
 *
 * Why: what is fetched as root by a name that can be moved is whatever somebody puts there.
 * Blind to: whether the checksum is the release's own; what K3s pulls by itself later, images among it; whose packages
 * the host's own list of sources lets apt trust, which decides who made the one of that version.
 */
export const hostArtefactsArePinned = stackRule(
  {
    name: "host-artefacts-are-pinned",
    description:
      "Whatever is installed on a host is one file by its SHA-256, fetched over https, or one version of a package that Debian signs.",
    group: "supply chain",
    severity: "critical",
    claims: ["F35"],
    references: [
      "PCI DSS 4.0.1 6.3.2",
      "SOC 2 CC8.1",
      "ISO 27001:2022 A.8.19",
      "ISO 27001:2022 A.5.21",
    ],
    remediation:
      "Use components/prepared-host.ts as it is, with addresses and checksums of the release.",
    blindIn: { live: "by what a host was installed is in no live system" },
  },
  (subjects, report) => {
    for (const { subject, props } of ofType<Statement>(subjects, "fluxbilling:host:PreparedHost")) {
      const must = (path: string, value: unknown, holds: boolean, rule: string): void => {
        if (!holds) {
          report(`${subject.name}: ${path} ${rule}, got ${shown(value)}.`, subject);
        }
      };
      const { k3s, postgresql } = props;
      const artefacts = {
        k3s,
        ...(k3s?.images === undefined ? {} : { "k3s.images": k3s.images }),
      };
      for (const [path, artefact] of Object.entries(artefacts)) {
        const { url, digest } = artefact ?? {};
        must(`${path}.url`, url, isArtefactUrl(url), ARTEFACT_URL_RULE);
        must(`${path}.digest`, digest, isDigest(digest), DIGEST_RULE);
      }
      const version = postgresql?.version;
      must("postgresql.version", version, isPackageVersion(version), PACKAGE_VERSION_RULE);
      for (const [program, line] of [
        ["k3s", k3sCommand],
        ["postgresql", postgresqlCommand],
      ] as const) {
        const commands = ofType<{ readonly create?: string; readonly update?: string }>(
          subjects,
          "command:remote:Command",
        ).filter((one) => one.subject.name === `${subject.name}-${program}`);
        if (commands.length !== 1) {
          report(
            `${subject.name}: exactly one command must install ${program}, got ${commands.length}.`,
            subject,
          );
        }
        for (const { subject: install, props: given } of commands) {
          const expected = line(planOf(props));
          for (const verb of ["create", "update"] as const) {
            if (given[verb] !== expected) {
              report(
                `${install.name}: ${verb} must install what ${subject.name} says, got "${given[verb] ?? "none"}".`,
                install,
              );
            }
          }
        }
      }
    }
  },
);

/** The statement as a plan; what is missing in it is missing in the command that follows. */
function planOf({ address, folders = [], k3s, cluster, postgresql }: Statement): HostPlan {
  const parts = { k3s: { ...k3s }, cluster: { ...cluster }, postgresql: { ...postgresql } };
  return { address, folders, ...parts } as HostPlan;
}
