import { generateKeyPairSync, randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { stringify } from "yaml";
import { ensureAuthority, ensureCertificate } from "../machines/authority.ts";
import type { KeyPair, Subject } from "../machines/authority.ts";
import { DOMAIN } from "../machines/layout.ts";
import { writeSettings } from "../machines/settings-file.ts";
import type { ClusterPlan, MachinePlan } from "../machines/layout.ts";

export const API_PORT = 6443;

/** Who talks to the API server with a kubeconfig of its own. */
const CLIENTS = {
  admin: { commonName: "admin", organization: "system:masters", usage: "client" },
  "controller-manager": { commonName: "system:kube-controller-manager", usage: "client" },
  scheduler: { commonName: "system:kube-scheduler", usage: "client" },
  "kube-proxy": { commonName: "system:kube-proxy", usage: "client" },
  // The network policy enforcer reads namespaces, pods and policies, as the scheduler's peers may.
  "network-policy": {
    commonName: "flux:network-policy",
    organization: "system:masters",
    usage: "client",
  },
  volumes: { commonName: "flux:volumes", organization: "system:masters", usage: "client" },
} as const satisfies Record<string, Subject>;

/** A key pair of a cluster by its name, in the folder that holds them all. */
export function clusterKeyPair(folder: string, name: string): KeyPair {
  return { certificateFile: join(folder, `${name}.crt`), keyFile: join(folder, `${name}.key`) };
}

/**
 * Makes the keys, certificates and kubeconfigs of one machine's cluster, as far as they are not
 * there. Every cluster has an authority of its own: a key of one opens nothing in another.
 */
export async function ensureClusterKeys(
  machine: MachinePlan,
  cluster: ClusterPlan,
  folder: string,
): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const authority = clusterKeyPair(folder, "ca");
  await ensureAuthority(authority, `${machine.name} cluster`);
  const node: Subject = {
    commonName: `system:node:${machine.name}`,
    organization: "system:nodes",
    usage: "both",
    dnsNames: [machine.name, `${machine.name}.${DOMAIN}`],
    addresses: [machine.address],
  };
  await Promise.all([
    ensureCertificate(authority, clusterKeyPair(folder, "apiserver"), {
      commonName: "kube-apiserver",
      usage: "server",
      dnsNames: [
        ...["kubernetes", "kubernetes.default", "kubernetes.default.svc"],
        ...["kubernetes.default.svc.cluster.local", "localhost"],
        ...[machine.name, `${machine.name}.${DOMAIN}`],
      ],
      addresses: [machine.address, "127.0.0.1", cluster.apiServiceAddress],
    }),
    ensureCertificate(authority, clusterKeyPair(folder, "apiserver-kubelet"), {
      commonName: "kube-apiserver-kubelet-client",
      organization: "system:masters",
      usage: "client",
    }),
    ensureCertificate(authority, clusterKeyPair(folder, "kubelet"), node),
    ...Object.entries(CLIENTS).map(async ([name, subject]) =>
      ensureCertificate(authority, clusterKeyPair(folder, name), subject),
    ),
  ]);
  for (const name of [...Object.keys(CLIENTS), "kubelet"]) {
    await writeKubeconfig(machine, folder, name);
  }

  const serviceAccountKey = join(folder, "service-account.key");
  if (!existsSync(serviceAccountKey)) {
    const pair = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
    await writeFile(
      join(folder, "service-account.pub"),
      pair.publicKey.export({ type: "spki", format: "pem" }),
    );
    const pem = pair.privateKey.export({ type: "sec1", format: "pem" });
    await writeFile(serviceAccountKey, pem, { mode: 0o600 });
  }

  const encryption = join(folder, "encryption.yaml");
  if (!existsSync(encryption)) {
    const key = { name: "key-1", secret: randomBytes(32).toString("base64") };
    const content = stringify({
      kind: "EncryptionConfiguration",
      apiVersion: "apiserver.config.k8s.io/v1",
      // No "identity" behind it: what is not encrypted is not read either.
      resources: [{ resources: ["secrets"], providers: [{ secretbox: { keys: [key] } }] }],
    });
    await writeFile(encryption, content, { mode: 0o600 });
  }
}

async function writeKubeconfig(machine: MachinePlan, folder: string, user: string): Promise<void> {
  const base64 = async (file: string): Promise<string> => (await readFile(file)).toString("base64");
  const pair = clusterKeyPair(folder, user);
  const content = stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [
      {
        name: machine.name,
        cluster: {
          server: `https://${machine.address}:${String(API_PORT)}`,
          "certificate-authority-data": await base64(clusterKeyPair(folder, "ca").certificateFile),
        },
      },
    ],
    users: [
      {
        name: user,
        user: {
          "client-certificate-data": await base64(pair.certificateFile),
          "client-key-data": await base64(pair.keyFile),
        },
      },
    ],
    contexts: [{ name: machine.name, context: { cluster: machine.name, user } }],
    "current-context": machine.name,
  });
  await writeSettings(join(folder, `${user}.kubeconfig`), content, 0o600);
}
