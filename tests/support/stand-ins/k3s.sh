#!/bin/sh
# Stands in for K3s, which no package registry has: an API server of the real programs that K3s is made of, with what
# /etc/rancher/k3s/config.yaml asks of it. No kubelet, no network, no Traefik, no pods.
set -eu
bin=/opt/fluxbilling/bin
settings=/etc/rancher/k3s/config.yaml
kubeconfig=/etc/rancher/k3s/k3s.yaml
server=/var/lib/rancher/k3s/server
tls=$server/tls
rows=/var/lib/postgresql/k3s-stand-in
sockets=/run/k3s-datastore
postgres=/usr/lib/postgresql/15/bin

case "${1:-}" in
  --version)
    echo "k3s version @VERSION@ (stand-in)"
    exit
    ;;
  kubectl)
    shift
    exec "$bin/kubectl" --kubeconfig "$kubeconfig" "$@"
    ;;
  certificate)
    if kill -0 "$(cat /run/k3s.pid 2>/dev/null)" 2>/dev/null; then
      echo "K3s must be stopped" >&2
      exit 1
    fi
    # As K3s does it: the next start makes them anew, by the same authority.
    rm -f "$tls/apiserver.crt" "$tls/admin.crt"
    exit
    ;;
  server) ;;
  *) exit 1 ;;
esac

setting() { sed -n "s/^$1: \"\{0,1\}\([^\"]*\)\"\{0,1\}\$/\1/p" "$settings"; }
arguments() { sed -n "/^$1:/,/^[a-z]/s/^  - /--/p" "$settings"; }
# certificate <name> <subject> <usage> [<alternative names>]
certificate() {
  openssl req -x509 -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj "$2" \
    -CA "$tls/ca.crt" -CAkey "$tls/ca.key" -addext basicConstraints=critical,CA:FALSE -addext "extendedKeyUsage=$3" \
    ${4:+-addext "subjectAltName=$4"} -keyout "$tls/$1.key" -out "$tls/$1.crt"
}

umask 077
address=$(setting node-ip)
port=$(setting https-listen-port)
if [ ! -e "$server/made" ]; then
  mkdir -p "$tls" "$server/cred" "$server/db"
  openssl req -x509 -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj /CN=k3s-stand-in \
    -keyout "$tls/ca.key" -out "$tls/ca.crt"
  openssl ecparam -genkey -name prime256v1 -noout -out "$tls/service.key"
  touch "$server/made"
fi
[ -e "$tls/apiserver.crt" ] || certificate apiserver /CN=kube-apiserver serverAuth "IP:$address,IP:127.0.0.1,IP:10.43.0.1"
[ -e "$tls/admin.crt" ] || certificate admin /O=system:masters/CN=system:admin clientAuth
encryption=
if [ "$(setting secrets-encryption)" = true ]; then
  encryption=$server/cred/encryption-config.json
  [ -e "$encryption" ] || cat >"$encryption" <<end
{"kind": "EncryptionConfiguration", "apiVersion": "apiserver.config.k8s.io/v1", "resources": [{"resources": ["secrets"],
  "providers": [{"$(setting secrets-encryption-provider)": {"keys": [{"name": "key-1", "secret": "$(openssl rand -base64 32)"}]}}]}]}
end
fi
cat >"$kubeconfig" <<end
apiVersion: v1
kind: Config
clusters:
- name: default
  cluster:
    server: https://127.0.0.1:$port
    certificate-authority-data: $(base64 -w 0 "$tls/ca.crt")
users:
- name: default
  user:
    client-certificate-data: $(base64 -w 0 "$tls/admin.crt")
    client-key-data: $(base64 -w 0 "$tls/admin.key")
contexts:
- name: default
  context: {cluster: default, user: default}
current-context: default
end
chmod "$(setting write-kubeconfig-mode)" "$kubeconfig"

# The datastore: what is left of an earlier start goes on, as with KillMode=process.
install -d -m 0700 -o postgres -g postgres "$sockets"
cd /
if [ ! -e "$rows/PG_VERSION" ]; then
  runuser -u postgres -- "$postgres/initdb" --pgdata "$rows" --auth trust --encoding UTF8 --locale C.UTF-8 --no-sync
fi
runuser -u postgres -- "$postgres/pg_ctl" --pgdata "$rows" status ||
  runuser -u postgres -- "$postgres/pg_ctl" --pgdata "$rows" --wait --log "$rows/log" \
    --options "-c listen_addresses='' -c unix_socket_directories=$sockets -c fsync=off" start
if ! kill -0 "$(cat "$sockets/kine.pid" 2>/dev/null)" 2>/dev/null; then
  rm -f "$sockets/kine.sock"
  KINE_ENDPOINT="postgres://postgres@/postgres?host=$sockets&sslmode=disable" setsid "$bin/kine" \
    --listen-address="unix://$sockets/kine.sock" --metrics-bind-address=0 &
  echo $! >"$sockets/kine.pid"
fi
until [ -S "$sockets/kine.sock" ]; do sleep 0.1; done

# shellcheck disable=SC2046
exec "$bin/kube-apiserver" --advertise-address="$address" --secure-port="$port" --anonymous-auth=false \
  --authorization-mode=RBAC --client-ca-file="$tls/ca.crt" --etcd-servers="unix://$sockets/kine.sock" --profiling=false \
  --service-account-issuer=https://kubernetes.default.svc.cluster.local --service-account-key-file="$tls/service.key" \
  --service-account-signing-key-file="$tls/service.key" --service-cluster-ip-range=10.43.0.0/16 \
  --tls-cert-file="$tls/apiserver.crt" --tls-private-key-file="$tls/apiserver.key" \
  ${encryption:+--encryption-provider-config="$encryption"} $(arguments kube-apiserver-arg)
