#!/bin/sh
# Makes this host a K3s server of one release, known by its checksum, and keeps it one. It is given no secret.
#
#   k3s install      fetches, sets up and starts K3s; changes nothing where all is so already
#   k3s kubeconfig   tells its administrator's kubeconfig, with this host's own address in it
#
# From the environment: VERSION, URL, DIGEST, IMAGES_URL and IMAGES_DIGEST (or neither), GENERATION, ADDRESS, API_PORT,
# POD_RANGE, VOLUMES, FOLDERS.
# include bare-host.sh

program=/usr/local/bin/k3s
unit=/etc/systemd/system/k3s.service
settings=/etc/rancher/k3s/config.yaml
data=/var/lib/rancher/k3s
traefik=$data/server/manifests/traefik-config.yaml
images=$data/agent/images
# Of what K3s was last started with and found ready: a run that was cut off in between starts it again.
settled=/usr/local/lib/fluxbilling/k3s.settled

is_file() { echo "${2#sha256:}  $1" | sha256sum --check --status 2>/dev/null; }

# The release that a program says it is; nothing where it says none.
version_of() { "$1" --version 2>/dev/null | awk 'NR == 1 { print $3 }'; }

# fetch <url> <digest> <file>: brings the file beside where it is to be, and leaves nothing where it is another.
fetch() {
  if ! command -v curl >/dev/null; then
    read_lists && words=$(apt -y install --no-install-recommends curl ca-certificates) ||
      fail "curl must be there or come from Debian, got $(echo "$words" | tail -n 1). Let this host reach its mirror, or install curl and ca-certificates."
  fi
  fresh=$3.new
  trap 'rm -f "$fresh"' EXIT
  words=$(curl --fail --silent --show-error --location --proto '=https' --tlsv1.2 --retry 2 --connect-timeout 20 --max-time 1800 \
    --output "$fresh" "$1" 2>&1) ||
    fail "\"$1\" must be fetched over TLS, got $(echo "${words:-a failure}" | tail -n 1). Correct its address, or let this host reach it."
  is_file "$fresh" "$2" ||
    fail "\"$1\" must be $2, got sha256:$(sha256sum "$fresh" | cut -d ' ' -f 1). Nothing was installed: compare both with what the release itself tells."
}

install_program() {
  if is_file "$program" "$DIGEST"; then return 0; fi
  installed=$(version_of "$program")
  if [ -n "$installed" ] && [ "$(printf '%s\n' "$installed" "$VERSION" | sort -V | tail -n 1)" != "$VERSION" ]; then
    fail "the version must not be below $installed, which runs here, got $VERSION. Set fluxbilling:host.k3s to that release or a later one: Kubernetes does not go back."
  fi
  fetch "$URL" "$DIGEST" "$program"
  chmod 0755 "$fresh"
  said=$(version_of "$fresh")
  [ "$said" = "$VERSION" ] ||
    fail "\"$URL\" must be K3s $VERSION, got ${said:-a file that does not tell}. Correct fluxbilling:host.k3s."
  mv -f "$fresh" "$program"
}

install_images() {
  file=
  if [ -n "${IMAGES_URL:-}" ]; then
    file=$images/fluxbilling-${IMAGES_URL##*/}
    if ! is_file "$file" "$IMAGES_DIGEST"; then
      fetch "$IMAGES_URL" "$IMAGES_DIGEST" "$file"
      mv -f "$fresh" "$file"
    fi
  fi
  for other in "$images"/fluxbilling-*; do
    [ "$other" = "$file" ] || rm -f "$other"
  done
}

# The options are K3s's own, https://docs.k3s.io/cli/server; why each is asked for: docs/runbooks/own-clusters.md.
write_settings() {
  put "$settings" 0600 <<end
$mark
node-ip: $ADDRESS
tls-san:
  - $ADDRESS
https-listen-port: $API_PORT
cluster-cidr: $POD_RANGE
flannel-backend: wireguard-native
secrets-encryption: true
secrets-encryption-provider: secretbox
default-local-storage-path: $VOLUMES
write-kubeconfig-mode: "0600"
kube-apiserver-arg:
  - tls-min-version=VersionTLS13
kubelet-arg:
  - tls-min-version=VersionTLS13
end
  put "$traefik" 0600 <<end
$mark
apiVersion: helm.cattle.io/v1
kind: HelmChartConfig
metadata:
  name: traefik
  namespace: kube-system
spec:
  valuesContent: |-
    ports:
      mqtts:
        port: 8883
        exposedPort: 8883
        protocol: TCP
        expose:
          default: true
end
  # A disk that was not opened after a reboot leaves empty folders of the system's disk: nothing starts in them, as far as
  # systemd knows what belongs there (check_mounts).
  put "$unit" 0644 <<end
$mark
[Unit]
Description=K3s
Wants=network-online.target
After=network-online.target
RequiresMountsFor=$(needed_mounts "$data" "$VOLUMES")

[Service]
Type=notify
ExecStartPre=-/sbin/modprobe br_netfilter
ExecStartPre=-/sbin/modprobe overlay
ExecStart=$program server
KillMode=process
Delegate=yes
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5s

[Install]
WantedBy=multi-user.target
end
}

stop() {
  [ ! -e "$unit" ] || timeout 300 systemctl stop k3s.service >/dev/null 2>&1 9>&- ||
    fail "K3s must stop within five minutes, got a failure. Look into journalctl -u k3s on the host."
}

# By itself K3s renews its certificates at a start within 120 days of their end alone. A run that is cut off after this
# rotates once more.
rotate_certificates() {
  stop
  words=$("$program" certificate rotate 2>&1) ||
    fail "K3s must renew its certificates, got $(echo "${words:-a failure}" | tail -n 1). Look into journalctl -u k3s on the host, then deploy again."
}

# A release that does not know the setting drops it without a word, and encrypts otherwise.
check_encryption() {
  first=$(sed -n 's/.*"providers" *: *\[ *{ *"\([a-z]*\)".*/\1/p' "$data/server/cred/encryption-config.json" 2>/dev/null | head -n 1)
  [ "$first" = secretbox ] ||
    fail "K3s must encrypt Secrets by \"secretbox\", got \"${first:-none}\". See docs/runbooks/prepare-host.md, \"It refuses\"."
}

start() {
  state=$(
    cat "$settings" "$traefik" "$unit" | sha256sum
    echo "$DIGEST ${IMAGES_DIGEST:-} $GENERATION"
  )
  if [ "$(cat "$settled" 2>/dev/null)" = "$state" ] && systemctl is-active --quiet k3s.service; then
    check_encryption
    return 0
  fi
  # Whatever is started here must not hold the lock.
  systemctl daemon-reload 9>&-
  systemctl --quiet enable k3s.service 9>&-
  # No note: it was never ready here, and has no certificate to renew.
  before=$(sed -n '2s/.* //p' "$settled" 2>/dev/null || true)
  [ "${before:-$GENERATION}" = "$GENERATION" ] || rotate_certificates
  unsettle "$settled"
  timeout 900 systemctl restart k3s.service >/dev/null 2>&1 9>&- ||
    fail "K3s must start within 15 minutes, got a failure. Look into journalctl -u k3s on the host."
  for attempt in $(seq 120); do
    if "$program" kubectl get --raw /readyz >/dev/null 2>&1; then
      check_encryption
      echo "$state" | put "$settled" 0600
      return 0
    fi
    sleep 1
  done
  fail "K3s must be ready within two minutes of its start, got no ready API server. Look into journalctl -u k3s on the host."
}

install_all() {
  check_host K3s
  for other in "$unit" "$settings" /etc/systemd/system/k3s-agent.service; do
    [ ! -e "$other" ] || is_ours "$other" ||
      fail "this host must be bare or prepared by FluxBilling, got \"$other\" of another K3s. Adopt that one as it is, by docs/runbooks/own-clusters.md, or take it away with its own k3s-uninstall.sh."
  done
  check_mounts "$data" "$VOLUMES"
  if [ -e "$settled" ] && [ ! -e "$data/server/db" ]; then
    fail "the cluster must lie in $data/server/db, where it was started last, got no such folder. Open its disk and mount it, or remove $settled where the cluster is meant to be gone."
  fi
  if [ -e "$data/server/db" ]; then
    # Without settings it is not known to be ours, and nothing of it is removed.
    before=$(sed -n 's/^cluster-cidr: //p' "$settings" 2>/dev/null || true)
    if [ "$before" != "$POD_RANGE" ]; then
      # One of ours that was never ready has told nobody its kubeconfig: it holds nothing.
      [ -n "$before" ] && [ ! -e "$settled" ] ||
        fail "the addresses of pods must stay ${before:-as they are}, got $POD_RANGE. Set kubernetes.podRange of the location back: a cluster keeps its range for life."
      stop
      rm -rf "$data/server/db"
    fi
  fi
  for folder in "$(dirname "$settings")" "$data"; do
    [ -d "$folder" ] || install -d -m 0755 "$folder"
  done
  mkdir -p "$(dirname "$traefik")" "$images"
  install_program
  install_images
  write_settings
  start
}

kubeconfig() {
  sed "s|^\( *server: \)https://.*|\1https://$ADDRESS:$API_PORT|" /etc/rancher/k3s/k3s.yaml 2>/dev/null ||
    fail "\"/etc/rancher/k3s/k3s.yaml\" must be there once K3s runs, got none. Look into journalctl -u k3s on the host."
}

case "${1:-}" in
  install)
    one_at_a_time k3s
    install_all
    ;;
  kubeconfig) kubeconfig ;;
  *) fail "the command must be install or kubeconfig, got \"${1:-}\"." ;;
esac
