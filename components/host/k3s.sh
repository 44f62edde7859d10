#!/bin/sh
# Makes this host a K3s server of one release, known by its checksum, and keeps it one. It is given no secret.
#
#   k3s install      fetches, sets up and starts K3s; changes nothing where all is so already
#   k3s kubeconfig   tells its administrator's kubeconfig, with this host's own address in it
#
# From the environment: VERSION, URL, DIGEST, IMAGES_URL and IMAGES_DIGEST (or neither), GENERATION, ADDRESS, API_PORT,
# POD_RANGE, VOLUMES, FOLDERS.
set -eu
cd /
umask 077

fail() {
  echo "Host: $1" >&2
  exit 1
}

program=/usr/local/bin/k3s
unit=/etc/systemd/system/k3s.service
settings=/etc/rancher/k3s/config.yaml
data=/var/lib/rancher/k3s
traefik=$data/server/manifests/traefik-config.yaml
images=$data/agent/images
# Of what K3s was last started with and found ready: a run that was cut off in between starts it again.
settled=/usr/local/lib/fluxbilling/k3s.settled
mark='# Written by FluxBilling: the next deploy of this host undoes a change made here.'

is_ours() { [ "$(head -n 1 "$1" 2>/dev/null)" = "$mark" ]; }

# Puts standard input in a file's place, whole or not at all.
put() {
  cat >"$1.new"
  chmod "${2:-0600}" "$1.new"
  mv -f "$1.new" "$1"
}

is_file() { echo "${2#sha256:}  $1" | sha256sum --check --status 2>/dev/null; }

# fetch <url> <digest> <file>: brings the file beside where it is to be, and leaves nothing where it is another.
fetch() {
  if ! command -v curl >/dev/null; then
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 update >/dev/null 2>&1 &&
      DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 install --no-install-recommends curl ca-certificates >/dev/null 2>&1 ||
      fail "curl must be there or come from Debian, got a failure of apt-get. Install curl and ca-certificates."
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
  installed=$("$program" --version 2>/dev/null | awk 'NR == 1 { print $3 }' || true)
  if [ -n "$installed" ] && [ "$(printf '%s\n' "$installed" "$VERSION" | sort -V | tail -n 1)" != "$VERSION" ]; then
    fail "the version must not be below $installed, which runs here, got $VERSION. Set fluxbilling:host.k3s to that release or a later one: Kubernetes does not go back."
  fi
  fetch "$URL" "$DIGEST" "$program"
  chmod 0755 "$fresh"
  said=$("$fresh" --version 2>/dev/null | awk 'NR == 1 { print $3 }' || true)
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
  put "$settings" <<end
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
  put "$traefik" <<end
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
  # A disk that was not opened after a reboot leaves empty folders of the system's disk: nothing starts in them.
  put "$unit" 0644 <<end
$mark
[Unit]
Description=K3s
Wants=network-online.target
After=network-online.target
RequiresMountsFor=$FOLDERS

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

start() {
  state=$(
    cat "$settings" "$traefik" "$unit" | sha256sum
    echo "$DIGEST ${IMAGES_DIGEST:-} $GENERATION"
  )
  if [ "$(cat "$settled" 2>/dev/null)" = "$state" ] && systemctl is-active --quiet k3s.service; then return 0; fi
  # Whatever is started here must not hold the lock.
  systemctl daemon-reload 9>&-
  systemctl --quiet enable k3s.service 9>&-
  timeout 900 systemctl restart k3s.service >/dev/null 2>&1 9>&- ||
    fail "K3s must start within 15 minutes, got a failure. Look into journalctl -u k3s on the host."
  for attempt in $(seq 120); do
    if "$program" kubectl get --raw /readyz >/dev/null 2>&1; then
      echo "$state" | put "$settled"
      return 0
    fi
    sleep 1
  done
  fail "K3s must be ready within two minutes of its start, got no ready API server. Look into journalctl -u k3s on the host."
}

install_all() {
  # As systemd's own sd_booted tells it.
  command -v systemctl >/dev/null && [ -d /run/systemd/system ] ||
    fail "this host must run systemd, got none. Use Debian 12 as it is installed, or adopt a K3s that runs: docs/runbooks/own-clusters.md."
  for other in "$unit" "$settings"; do
    [ ! -e "$other" ] || is_ours "$other" ||
      fail "this host must be bare or prepared by FluxBilling, got \"$other\" of another K3s. Adopt that one as it is, by docs/runbooks/own-clusters.md, or take it away with its own k3s-uninstall.sh."
  done
  if [ -e "$data/server/db" ]; then
    before=$(sed -n 's/^cluster-cidr: //p' "$settings" 2>/dev/null || true)
    [ "$before" = "$POD_RANGE" ] ||
      fail "the addresses of pods must stay ${before:-as they are}, got $POD_RANGE. Set kubernetes.podRange of the location back: a cluster keeps its range for life."
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
    # One at a time; a run that was cut off may still be at work.
    exec 9>/run/lock/fluxbilling-k3s
    flock --timeout 1800 9 || fail "one run at a time may be at work on this host, got another for half an hour. End it, then deploy again."
    install_all
    ;;
  kubeconfig) kubeconfig ;;
  *) fail "the command must be install or kubeconfig, got \"${1:-}\"." ;;
esac
