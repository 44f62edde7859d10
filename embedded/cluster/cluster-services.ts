import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { stringify } from "yaml";
import { INSIDE, INSIDE_ETC } from "../machines/layout.ts";
import type { ClusterPlan, MachinePlan } from "../machines/layout.ts";
import { DATASTORE } from "../machines/postgres.ts";
import { writeSettings } from "../machines/settings-file.ts";
import type { Service } from "../machines/service.ts";
import { API_PORT } from "./cluster-keys.ts";

const BIN = `${INSIDE}/bin`;
/** Folder of the cluster's keys and settings as its machine sees it. */
const ETC = `${INSIDE_ETC}/kubernetes`;
const KINE_SOCKET = "/run/kine/kine.sock";
const CONTAINERD_SOCKET = "/run/containerd/containerd.sock";

/** Shell lines that wait for a socket; s6 starts the services of a machine all at once. */
function untilSocket(path: string): string {
  return `until [ -S ${path} ]; do sleep 0.1; done`;
}

/** Shell line that waits until something listens on a TCP port of the machine. */
function untilPort(address: string, port: number): string {
  return `until (exec 3<> /dev/tcp/${address}/${String(port)}) 2> /dev/null; do sleep 0.2; done`;
}

function flags(values: Readonly<Record<string, string>>): string {
  return Object.entries(values)
    .map(([name, value]) => ` \\\n  --${name}=${value}`)
    .join("");
}

/**
 * Writes the settings of every part of a machine's cluster into `folder` and returns the services
 * that run it, from datastore to kube-proxy.
 *
 * @param sandboxImage the image that holds a pod's namespaces
 */
export async function prepareClusterServices(
  machine: MachinePlan,
  cluster: ClusterPlan,
  folder: string,
  sandboxImage: string,
): Promise<readonly Service[]> {
  await mkdir(join(folder, "cni"), { recursive: true });
  const files: Readonly<Record<string, string>> = {
    "containerd.toml": containerdSettings(sandboxImage),
    "cni/10-pods.conflist": JSON.stringify(networkSettings(cluster), undefined, 2),
    "kubelet.yaml": stringify(kubeletSettings(machine, cluster)),
    "kube-proxy.yaml": stringify(proxySettings(machine, cluster)),
    // Pods ask the cluster's DNS; behind it there is nobody to ask.
    "resolv.conf": "",
  };
  for (const [name, content] of Object.entries(files)) {
    await writeSettings(join(folder, name), content);
  }

  const afterApi = untilPort(machine.address, API_PORT);
  return [
    {
      name: "kine",
      run: `mkdir -p -m 0700 /run/kine
rm -f ${KINE_SOCKET}
${untilSocket("/var/run/postgresql/.s.PGSQL.5432")}
export KINE_ENDPOINT='postgres://${DATASTORE}@/${DATASTORE}?host=/var/run/postgresql&sslmode=disable'
exec ${BIN}/kine --listen-address=unix://${KINE_SOCKET} --metrics-bind-address=0`,
    },
    {
      name: "kube-apiserver",
      run: `${untilSocket(KINE_SOCKET)}
exec ${BIN}/kube-apiserver${flags({
        "advertise-address": machine.address,
        "allow-privileged": "true",
        // Whoever asks must show a certificate or a token, for the health paths too.
        "anonymous-auth": "false",
        "authorization-mode": "Node,RBAC",
        "client-ca-file": `${ETC}/ca.crt`,
        "enable-admission-plugins": "NodeRestriction",
        "encryption-provider-config": `${ETC}/encryption.yaml`,
        "etcd-servers": `unix://${KINE_SOCKET}`,
        "kubelet-certificate-authority": `${ETC}/ca.crt`,
        "kubelet-client-certificate": `${ETC}/apiserver-kubelet.crt`,
        "kubelet-client-key": `${ETC}/apiserver-kubelet.key`,
        // Else exec and logs look the node's name up in DNS.
        "kubelet-preferred-address-types": "InternalIP",
        profiling: "false",
        "secure-port": String(API_PORT),
        "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
        "service-account-key-file": `${ETC}/service-account.pub`,
        "service-account-signing-key-file": `${ETC}/service-account.key`,
        "service-cluster-ip-range": cluster.serviceCidr,
        "tls-cert-file": `${ETC}/apiserver.crt`,
        "tls-min-version": "VersionTLS13",
        "tls-private-key-file": `${ETC}/apiserver.key`,
      })}`,
    },
    {
      name: "kube-controller-manager",
      run: `${afterApi}
exec ${BIN}/kube-controller-manager${flags({
        "bind-address": "127.0.0.1",
        "cluster-signing-cert-file": `${ETC}/ca.crt`,
        "cluster-signing-key-file": `${ETC}/ca.key`,
        "kube-api-burst": "200",
        "kube-api-qps": "100",
        kubeconfig: `${ETC}/controller-manager.kubeconfig`,
        "leader-elect": "false",
        profiling: "false",
        "root-ca-file": `${ETC}/ca.crt`,
        "service-account-private-key-file": `${ETC}/service-account.key`,
        "tls-min-version": "VersionTLS13",
        "use-service-account-credentials": "true",
      })}`,
    },
    {
      name: "kube-scheduler",
      run: `${afterApi}
exec ${BIN}/kube-scheduler${flags({
        "bind-address": "127.0.0.1",
        "kube-api-burst": "200",
        "kube-api-qps": "100",
        kubeconfig: `${ETC}/scheduler.kubeconfig`,
        "leader-elect": "false",
        profiling: "false",
        "tls-min-version": "VersionTLS13",
      })}`,
    },
    {
      name: "containerd",
      run: `exec ${BIN}/containerd --config ${ETC}/containerd.toml --log-level warn`,
    },
    {
      name: "kubelet",
      run: `${untilSocket(CONTAINERD_SOCKET)}
${afterApi}
# Pods of an earlier life start at once: what they need of the network must be there before.
if [ -d /var/lib/kubelet/pods ]; then
  for attempt in {1..100}; do
    nft list table ip kube-proxy &> /dev/null && break
    sleep 0.1
  done
fi
exec ${BIN}/kubelet${flags({
        config: `${ETC}/kubelet.yaml`,
        "hostname-override": machine.name,
        kubeconfig: `${ETC}/kubelet.kubeconfig`,
        "node-ip": machine.address,
        "node-labels": [
          `topology.kubernetes.io/region=${cluster.region}`,
          `fluxbilling.dev/location=${cluster.location}`,
        ].join(","),
        "root-dir": "/var/lib/kubelet",
      })}`,
    },
    {
      name: "kube-proxy",
      run: `${afterApi}
exec ${BIN}/kube-proxy --config=${ETC}/kube-proxy.yaml`,
    },
    {
      name: "network-policy",
      run: `export KUBECONFIG=${ETC}/network-policy.kubeconfig
export POD_CIDR=${cluster.podCidr} NODE_NAME=${machine.name}
exec ${INSIDE}/programs/node ${INSIDE}/programs/network-policy.mjs`,
    },
    {
      name: "volumes",
      run: `export KUBECONFIG=${ETC}/volumes.kubeconfig
export NODE_NAME=${machine.name} VOLUMES_FOLDER=/var/lib/volumes
exec ${INSIDE}/programs/node ${INSIDE}/programs/volumes.mjs`,
    },
  ];
}

function containerdSettings(sandboxImage: string): string {
  return `version = 3
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
address = "${CONTAINERD_SOCKET}"

[plugins."io.containerd.cri.v1.images"]
snapshotter = "overlayfs"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "${sandboxImage}"

[plugins."io.containerd.cri.v1.runtime"]
# Without CAP_SYS_RESOURCE runc cannot lower a score and dies.
restrict_oom_score_adj = true

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "/usr/sbin/runc"
SystemdCgroup = false

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["${BIN}/cni"]
conf_dir = "${ETC}/cni"
`;
}

function networkSettings(cluster: ClusterPlan): object {
  return {
    cniVersion: "1.0.0",
    name: "pods",
    plugins: [
      {
        // Not a bridge: packets between two pods are routed, so network policies see them.
        type: "ptp",
        ipMasq: true,
        ipMasqBackend: "nftables",
        ipam: {
          type: "host-local",
          dataDir: "/run/cni/addresses",
          ranges: [[{ subnet: cluster.podCidr }]],
          routes: [{ dst: "0.0.0.0/0" }],
        },
      },
      { type: "portmap", backend: "nftables", capabilities: { portMappings: true } },
    ],
  };
}

function kubeletSettings(machine: MachinePlan, cluster: ClusterPlan): object {
  return {
    kind: "KubeletConfiguration",
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    address: machine.address,
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: `${ETC}/ca.crt` },
    },
    authorization: { mode: "Webhook" },
    cgroupDriver: "cgroupfs",
    clusterDNS: [cluster.clusterDnsAddress],
    clusterDomain: "cluster.local",
    containerLogMaxSize: "4Mi",
    containerRuntimeEndpoint: `unix://${CONTAINERD_SOCKET}`,
    // A program that starts before what it needs comes back at once, not after ten seconds.
    crashLoopBackOff: { maxContainerRestartPeriod: "2s" },
    // The computer's disk is not the machine's: other programs may fill it for a while.
    evictionHard: {
      "imagefs.available": "1%",
      "memory.available": "100Mi",
      "nodefs.available": "1%",
      "nodefs.inodesFree": "1%",
    },
    failCgroupV1: false,
    failSwapOn: false,
    // Images come from the checkout, not from a registry: one that is removed does not come back.
    imageGCHighThresholdPercent: 100,
    kubeAPIBurst: 200,
    kubeAPIQPS: 100,
    makeIPTablesUtilChains: false,
    maxPods: 250,
    podLogsDir: "/var/lib/kubelet/pod-logs",
    resolvConf: `${ETC}/resolv.conf`,
    tlsCertFile: `${ETC}/kubelet.crt`,
    tlsMinVersion: "VersionTLS13",
    tlsPrivateKeyFile: `${ETC}/kubelet.key`,
  };
}

function proxySettings(machine: MachinePlan, cluster: ClusterPlan): object {
  return {
    kind: "KubeProxyConfiguration",
    apiVersion: "kubeproxy.config.k8s.io/v1alpha1",
    bindAddress: machine.address,
    clientConnection: { kubeconfig: `${ETC}/kube-proxy.kubeconfig` },
    clusterCIDR: cluster.podCidr,
    // These tables' limits belong to the whole computer.
    conntrack: {
      maxPerCore: 0,
      min: 0,
      tcpCloseWaitTimeout: "0s",
      tcpEstablishedTimeout: "0s",
    },
    detectLocalMode: "ClusterCIDR",
    healthzBindAddress: "127.0.0.1:10256",
    hostnameOverride: machine.name,
    metricsBindAddress: "127.0.0.1:10249",
    mode: "nftables",
    nftables: { minSyncPeriod: "100ms", syncPeriod: "30s" },
  };
}
