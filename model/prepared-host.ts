/** Folder of the shell programs that this program installs on hosts. */
export const HOST_PROGRAMS = "/usr/local/lib/fluxbilling";

/** A file that a host fetches: from where, and what it must be. */
export interface Artefact {
  readonly url: string;
  /** `sha256:` and 64 hexadecimal digits. */
  readonly digest: string;
}

/** What a bare host is made into; each value is of the plain characters that its setting allows. */
export interface HostPlan {
  readonly address: string;
  /**
   * Folders with data; neither K3s nor PostgreSQL starts while what systemd would mount there is not. What they write is
   * always among them (`CLUSTER_FOLDERS`).
   */
  readonly folders: readonly string[];
  readonly k3s: Artefact & {
    /** Release, as in `v1.33.5+k3s1`; what is fetched must call itself so. */
    readonly version: string;
    /** The images that K3s needs, where the host cannot reach their registry. @default it pulls them */
    readonly images?: Artefact;
    /** Raised by one: K3s's certificates are renewed, it starts anew, and its kubeconfig is read anew. */
    readonly kubeconfigGeneration: number;
  };
  readonly cluster: {
    readonly apiPort: number;
    readonly podRange: string;
    /** Folder of the volumes that K3s makes. */
    readonly volumesFolder: string;
  };
  readonly postgresql: {
    /** Exact version of Debian's package, as in `15.18-0+deb12u1`. */
    readonly version: string;
    readonly port: number;
    readonly adminUser: string;
    readonly maxConnections: number;
  };
}

/** What an artefact's address must be, as errors say it. */
export const ARTEFACT_URL_RULE =
  "must be an https address of a file, of plain characters, without a user or a query";
/** What a digest must be, as errors say it. */
export const DIGEST_RULE = "must be sha256:<64 hexadecimal digits>";
/** What PostgreSQL's version must be, as errors say it. */
export const PACKAGE_VERSION_RULE =
  "must be the exact version of Debian's package of PostgreSQL 15 or later, with Debian's own +deb<release>u<number>, as in 15.18-0+deb12u1";
/** What K3s's release must be, as errors say it. */
export const K3S_RELEASE_RULE = "must be a release of K3s, as in v1.33.5+k3s1";
/** What it must be beside that. */
export const K3S_SECRETBOX_RULE =
  "must be v1.33.0 or later: an earlier release may drop the setting by which Secrets are encrypted";

/** Whether a text is an {@link ARTEFACT_URL_RULE address}. A shell reads it as it stands. */
export function isArtefactUrl(text: unknown): boolean {
  return (
    typeof text === "string" && /^https:\/\/[a-z0-9.-]+(:\d+)?(\/[A-Za-z0-9._%+-]+)+$/.test(text)
  );
}

/** Whether a text is a {@link DIGEST_RULE digest}. */
export function isDigest(text: unknown): boolean {
  return typeof text === "string" && /^sha256:[0-9a-f]{64}$/.test(text);
}

/** Whether a text is a {@link K3S_RELEASE_RULE release of K3s}. */
export function isK3sRelease(text: unknown): text is string {
  return typeof text === "string" && /^v1\.\d+\.\d+\+k3s\d+$/.test(text);
}

/** Whether that release {@link K3S_SECRETBOX_RULE encrypts} as it is told to. */
export function encryptsBySecretbox(release: string): boolean {
  return Number(release.split(".")[1]) >= 33;
}

/**
 * Whether a text is an exact {@link PACKAGE_VERSION_RULE version}: a tag such as `15` can be moved, and a version of
 * another form is a third party's.
 */
export function isPackageVersion(text: unknown): boolean {
  return typeof text === "string" && /^(1[5-9]|[2-9]\d)\.\d+-\d+(\.\d+)*[+~]deb\d+u\d+$/.test(text);
}

/** The command that makes a host a K3s server by `components/host/k3s.sh`. It holds no secret. */
export function k3sCommand({ address, folders, k3s, cluster }: HostPlan): string {
  const { version, url, digest, images, kubeconfigGeneration } = k3s;
  return command("k3s", "install", {
    VERSION: version,
    URL: url,
    DIGEST: digest,
    ...(images === undefined ? {} : { IMAGES_URL: images.url, IMAGES_DIGEST: images.digest }),
    GENERATION: kubeconfigGeneration,
    ADDRESS: address,
    API_PORT: cluster.apiPort,
    POD_RANGE: cluster.podRange,
    VOLUMES: cluster.volumesFolder,
    FOLDERS: `'${folders.join(" ")}'`,
  });
}

/** The command that tells the kubeconfig of K3s's administrator. It must be run anew when its generation is raised. */
export function kubeconfigCommand({ address, k3s, cluster }: HostPlan): string {
  return command("k3s", "kubeconfig", {
    GENERATION: k3s.kubeconfigGeneration,
    ADDRESS: address,
    API_PORT: cluster.apiPort,
  });
}

/**
 * The command that makes a host a PostgreSQL server by `components/host/postgresql.sh`. Its secrets are its standard
 * input.
 */
export function postgresqlCommand({ address, folders, postgresql }: HostPlan): string {
  return command("postgresql", "install", {
    VERSION: postgresql.version,
    ADDRESS: address,
    PORT: postgresql.port,
    ADMIN: postgresql.adminUser,
    MAX_CONNECTIONS: postgresql.maxConnections,
    FOLDERS: `'${folders.join(" ")}'`,
  });
}

function command(
  program: "k3s" | "postgresql",
  verb: string,
  variables: Readonly<Record<string, string | number>>,
): string {
  const words = Object.entries(variables).map(([name, value]) => `${name}=${value}`);
  return [...words, `${HOST_PROGRAMS}/${program}`, verb].join(" ");
}
