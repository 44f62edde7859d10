/**
 * The programs of the embedded platform and where each comes from: one pinned Go module per folder beside this
 * file (`go.mod` and `go.sum` are the pin), one or more commands out of it.
 */
export interface Tool {
  /** File name under `.cache/bin`. */
  readonly binary: string;
  /** Folder beside this file that holds the go.mod. */
  readonly module: string;
  /** Import path of the command. */
  readonly command: string;
  /** Module path whose version in go.mod is the tool's version. */
  readonly versionOf: string;
  readonly tags?: readonly string[];
  /**
   * A file of a module that is built from another in its place, for what the platform never uses and a build spends
   * minutes on. The module itself stays as its sum says.
   */
  readonly instead?: {
    readonly module: string;
    /** The file's path in the module. */
    readonly file: string;
    /** The file to take, beside the go.mod. */
    readonly by: string;
  };
  /** Linker settings `-X`, by variable; `{version}` stands for the tool's version. */
  readonly variables?: { readonly [variable: string]: string };
}

const PULUMI = "github.com/pulumi/pulumi";
const KUBERNETES = "k8s.io/kubernetes";
const CONTAINERD = "github.com/containerd/containerd/v2";
const CNI = "github.com/containernetworking/plugins";

function kubernetes(command: string): Tool {
  return {
    binary: command,
    module: "kubernetes",
    command: `${KUBERNETES}/cmd/${command}`,
    versionOf: KUBERNETES,
    variables: {
      "k8s.io/component-base/version.gitVersion": "{version}",
      "k8s.io/client-go/pkg/version.gitVersion": "{version}",
    },
  };
}

function containerd(command: string): Tool {
  return {
    binary: command,
    module: "containerd",
    command: `${CONTAINERD}/cmd/${command}`,
    versionOf: CONTAINERD,
    // These storage drivers want C libraries; overlayfs is what the platform uses.
    tags: ["no_btrfs", "no_devmapper", "no_zfs"],
  };
}

function cni(kind: string, plugin: string): Tool {
  return {
    binary: `cni/${plugin}`,
    module: "cni",
    command: `${CNI}/plugins/${kind}/${plugin}`,
    versionOf: CNI,
  };
}

/** Longest builds first, so that two builds side by side end together. */
export const TOOLS: readonly Tool[] = [
  kubernetes("kube-apiserver"),
  {
    binary: "traefik",
    module: "traefik",
    command: "github.com/traefik/traefik/v3/cmd/traefik",
    versionOf: "github.com/traefik/traefik/v3",
    instead: {
      module: "github.com/go-acme/lego/v4",
      file: "providers/dns/zz_gen_dns_providers.go",
      by: "dns_providers.go",
    },
    variables: { "github.com/traefik/traefik/v3/pkg/version.Version": "{version}" },
  },
  {
    binary: "pulumi",
    module: "pulumi",
    command: `${PULUMI}/pkg/v3/cmd/pulumi`,
    versionOf: `${PULUMI}/pkg/v3`,
    tags: ["osusergo", "grpcnotrace"],
    variables: { [`${PULUMI}/sdk/v3/go/common/version.Version`]: "{version}" },
  },
  {
    binary: "coredns",
    module: "coredns",
    command: "github.com/coredns/coredns",
    versionOf: "github.com/coredns/coredns",
    instead: {
      module: "github.com/coredns/coredns",
      file: "core/plugin/zplugin.go",
      by: "plugins.go",
    },
  },
  containerd("containerd"),
  containerd("containerd-shim-runc-v2"),
  containerd("ctr"),
  {
    binary: "kine",
    module: "kine",
    command: "github.com/k3s-io/kine",
    versionOf: "github.com/k3s-io/kine",
  },
  kubernetes("kube-controller-manager"),
  kubernetes("kubelet"),
  kubernetes("kubectl"),
  kubernetes("kube-scheduler"),
  kubernetes("kube-proxy"),
  cni("main", "bridge"),
  cni("main", "ptp"),
  cni("main", "loopback"),
  cni("ipam", "host-local"),
  cni("meta", "portmap"),
];

/** Built by `npm test` alone: independent checks of the objects that the program makes. */
export const CHECKERS: readonly Tool[] = [
  {
    binary: "kubeconform",
    module: "kubeconform",
    command: "github.com/yannh/kubeconform/cmd/kubeconform",
    versionOf: "github.com/yannh/kubeconform",
  },
  {
    binary: "kube-score",
    module: "kube-score",
    command: "github.com/zegl/kube-score/cmd/kube-score",
    versionOf: "github.com/zegl/kube-score",
  },
];

/** Built by `npm run bench` alone, to compare with. */
export const HELM: Tool = {
  binary: "helm",
  module: "helm",
  command: "helm.sh/helm/v3/cmd/helm",
  versionOf: "helm.sh/helm/v3",
  variables: { "helm.sh/helm/v3/internal/version.version": "{version}" },
};
