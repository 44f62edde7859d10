import { execFile } from "node:child_process";
import { access, mkdir, rm, writeFile } from "node:fs/promises";
import { promisify } from "node:util";

import { PlatformError } from "./platform-error.ts";
import type { Progress } from "./steps.ts";

const run = promisify(execFile);

/** What the platform takes from the distribution: the package, and why. */
export const DEBIAN_PACKAGES: { readonly [name: string]: string } = {
  "busybox-static": "the shell of pods that look around",
  conntrack: "kube-proxy ends connections to services that are gone",
  e2fsprogs: "a file system that encrypts",
  iproute2: "network namespaces and links",
  iptables: "port mapping of pods",
  nftables: "network policies and services",
  "openssh-client": "looking inside a machine",
  "openssh-server": "every machine is reached over SSH",
  "postgresql-15": "the databases",
  "postgresql-client-15": "pg_dump, psql",
  runc: "containers, with seccomp",
  s6: "supervises the services of a machine",
};

/** Names of the packages that are not installed. */
export async function missingPackages(
  packages: Readonly<Record<string, string>> = DEBIAN_PACKAGES,
): Promise<string[]> {
  const names = Object.keys(packages);
  const format = "${Package} ${db:Status-Status}\n";
  // dpkg-query exits with 1 as soon as one name is unknown, and still tells about the others.
  const listing = await run("dpkg-query", ["-W", `-f=${format}`, ...names]).then(
    (result) => result.stdout,
    (error: { code?: unknown; stdout?: string }) => {
      if (error.code === "ENOENT") {
        throw new PlatformError(
          "Distribution: must be Debian or one with dpkg, got none. " +
            "Use Debian 12, or point the fleet at clusters and databases of your own (docs/own-clusters.md).",
        );
      }
      return error.stdout ?? "";
    },
  );
  const installed = new Set(
    listing
      .split("\n")
      .map((line) => line.split(" "))
      .filter(([, status]) => status === "installed")
      .map(([name]) => name),
  );
  return names.filter((name) => !installed.has(name));
}

/**
 * Installs what is missing.
 *
 * @throws PlatformError with the command to run by hand when it cannot
 */
export async function installMissingPackages(
  progress: Progress,
  packages: Readonly<Record<string, string>> = DEBIAN_PACKAGES,
): Promise<void> {
  const missing = await missingPackages(packages);
  if (missing.length === 0) {
    progress("all there");
    return;
  }
  progress(missing.join(" "));
  const environment = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const apt = (...args: string[]): Promise<unknown> =>
    run("apt-get", ["-q", ...args], { env: environment, maxBuffer: 64 * 1024 * 1024 });
  try {
    await apt("update");
    // Debian starts a cluster and a daemon of its own on install; neither is wanted on the host.
    await withoutServiceStarts(() => apt("install", "-y", "--no-install-recommends", ...missing));
  } catch (error) {
    throw new PlatformError(
      `Debian packages: must be installed, got none of ${missing.join(", ")}. ` +
        `Run "apt-get update && apt-get install ${missing.join(" ")}" and start again.`,
      { cause: error },
    );
  }
}

async function withoutServiceStarts(install: () => Promise<unknown>): Promise<void> {
  const policyFile = "/usr/sbin/policy-rc.d";
  const present = await access(policyFile).then(
    () => true,
    () => false,
  );
  if (!present) await writeFile(policyFile, "#!/bin/sh\nexit 101\n", { mode: 0o755 });
  await mkdir("/etc/postgresql-common/createcluster.d", { recursive: true });
  const noCluster = "/etc/postgresql-common/createcluster.d/flux.conf";
  await writeFile(noCluster, "create_main_cluster = false\n");
  try {
    await install();
  } finally {
    if (!present) await rm(policyFile, { force: true });
    await rm(noCluster, { force: true });
  }
}
