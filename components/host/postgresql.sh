#!/bin/sh
# Makes this host a PostgreSQL server of one exact version of Debian's package, and keeps it one.
#
#   postgresql install   installs, sets up and starts the server; changes nothing where all is so already
#
# From the environment: VERSION, ADDRESS, PORT, ADMIN, MAX_CONNECTIONS, FOLDERS. From standard input: in the first line
# the SCRAM verifier of the administrator's password, never the password; then the server's certificate and its key, PEM.
set -eu
cd /
umask 077

fail() {
  echo "Host: $1" >&2
  exit 1
}

major=${VERSION%%.*}
package=postgresql-$major
programs=/usr/lib/postgresql/$major/bin
data=/var/lib/postgresql/$major/main
settings=/etc/postgresql/$major/main
unit=postgresql@$major-main.service
# Of what the server was last started with: a run that was cut off in between starts it again.
settled=/usr/local/lib/fluxbilling/postgresql.settled
mark='# Written by FluxBilling: the next deploy of this host undoes a change made here.'

# Puts standard input in a file's place, whole or not at all.
put() {
  cat >"$1.new"
  chown "${2:-root:root}" "$1.new"
  chmod "${3:-0644}" "$1.new"
  mv -f "$1.new" "$1"
}

as() { runuser -u postgres -- "$@"; }
ask() { as psql -XAtq -v ON_ERROR_STOP=1 -p "$PORT" -d postgres; }
apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@" 2>&1; }
installed() { dpkg-query -W -f '${db:Status-Status} ${Version}' "$package" 2>/dev/null || true; }

install_package() {
  # Debian would make a server of its own, with rules of its own, as soon as its package is there.
  install -d -m 0755 /etc/postgresql-common /etc/postgresql-common/createcluster.d
  echo 'create_main_cluster = false' | put /etc/postgresql-common/createcluster.d/fluxbilling.conf
  if [ "$(installed)" != "installed $VERSION" ]; then
    # What an earlier run was cut off in.
    DEBIAN_FRONTEND=noninteractive dpkg --force-confold --configure -a >/dev/null 2>&1 || true
    words=$(apt update) || fail "Debian's lists of packages must be read, got $(echo "$words" | tail -n 1). Let this host reach its mirror."
    words=$(apt -y -o Dpkg::Options::=--force-confold install --no-install-recommends --allow-change-held-packages "$package=$VERSION") ||
      fail "$package must be installed in version $VERSION, got $(echo "$words" | tail -n 1). Set fluxbilling:host.postgresql.version to one that apt-cache madison $package shows."
    [ "$(installed)" = "installed $VERSION" ] || fail "$package must be installed in version $VERSION, got \"$(installed)\". Look into /var/log/apt on the host."
  fi
  # Only a deploy changes the version.
  apt-mark hold "$package" >/dev/null
}

write_settings() {
  install -d -m 0755 -o postgres -g postgres "/etc/postgresql/$major" "$settings" "$settings/conf.d" "/var/lib/postgresql/$major"
  put "$settings/postgresql.conf" postgres:postgres <<end
$mark
data_directory = '$data'
hba_file = '$settings/pg_hba.conf'
ident_file = '$settings/pg_ident.conf'
external_pid_file = '/var/run/postgresql/$major-main.pid'
cluster_name = '$major/main'
unix_socket_directories = '/var/run/postgresql'
include_dir = 'conf.d'
end
  put "$settings/conf.d/fluxbilling.conf" postgres:postgres <<end
$mark
listen_addresses = '$ADDRESS'
port = $PORT
max_connections = $MAX_CONNECTIONS
ssl = on
ssl_cert_file = '$settings/server.crt'
ssl_key_file = '$settings/server.key'
ssl_min_protocol_version = 'TLSv1.3'
password_encryption = 'scram-sha-256'
# A failing statement may hold a password: it is not written to the log.
log_min_error_statement = panic
end
  # A role gets into the database whose group role it is a member of, over TLS and by its password, and into no other.
  put "$settings/pg_hba.conf" postgres:postgres 0640 <<end
local   all      postgres              peer
hostssl all      $ADMIN     all      scram-sha-256
hostssl samerole all           all      scram-sha-256
host    all      all           all      reject
end
  put "$settings/pg_ident.conf" postgres:postgres 0640 </dev/null
  echo auto | put "$settings/start.conf" postgres:postgres
  printf '%s\n' "$pems" | sed -n '/^-----BEGIN CERTIFICATE-----$/,/^-----END CERTIFICATE-----$/p' | put "$settings/server.crt" postgres:postgres
  printf '%s\n' "$pems" | sed -n '/^-----BEGIN .*PRIVATE KEY-----$/,/^-----END .*PRIVATE KEY-----$/p' | put "$settings/server.key" postgres:postgres 0600
  # A disk that was not opened after a reboot leaves empty folders of the system's disk: nothing starts in them.
  install -d -m 0755 "/etc/systemd/system/$unit.d"
  put "/etc/systemd/system/$unit.d/fluxbilling.conf" <<end
$mark
[Unit]
Wants=network-online.target
After=network-online.target
RequiresMountsFor=$FOLDERS
end
}

make_cluster() {
  [ ! -e "$data" ] || return 0
  rm -rf "$data.new"
  as "$programs/initdb" --pgdata "$data.new" --username postgres --locale C.UTF-8 --encoding UTF8 --data-checksums --auth reject >/dev/null 2>&1 ||
    fail "a new cluster of PostgreSQL must be made in $data, got a failure of initdb. Look whether its disk is full."
  mv -T "$data.new" "$data"
}

start() {
  state=$(
    echo "$VERSION"
    cat "$settings"/*.conf "$settings"/conf.d/*.conf "$settings"/server.* "/etc/systemd/system/$unit.d/fluxbilling.conf" | sha256sum
  )
  if [ "$(cat "$settled" 2>/dev/null)" != "$state" ] || ! systemctl is-active --quiet "$unit"; then
    # Whatever is started here must not hold the lock.
    systemctl daemon-reload 9>&-
    timeout 300 systemctl restart "$unit" >/dev/null 2>&1 9>&- ||
      fail "PostgreSQL must start within five minutes, got a failure. Look into /var/log/postgresql on the host."
    echo "$state" | put "$settled" root:root 0600
  fi
}

# The statement reaches the server over its socket; no process is started with it.
set_administrator() {
  ask <<end || fail "the role $ADMIN must be the administrator's, got a refusal of the server. Look into /var/log/postgresql on the host."
DO \$\$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '$ADMIN') THEN CREATE ROLE "$ADMIN"; END IF;
END \$\$;
ALTER ROLE "$ADMIN" SUPERUSER LOGIN PASSWORD '$verifier';
end
}

install_all() {
  # As systemd's own sd_booted tells it.
  command -v systemctl >/dev/null && [ -d /run/systemd/system ] ||
    fail "this host must run systemd, got none. Use Debian 12 as it is installed, or adopt a PostgreSQL that runs: docs/runbooks/own-clusters.md."
  IFS= read -r verifier || true
  printf '%s' "$verifier" | grep -Eqx 'SCRAM-SHA-256\$[0-9]+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+' ||
    fail "the first line of its input must be a SCRAM verifier, got something else. Deploy the host's stack, which gives it."
  pems=$(cat)
  case $pems in
    *"-----BEGIN CERTIFICATE-----"*"PRIVATE KEY-----"*) ;;
    *) fail "a certificate and its key must follow in its input, got something else. Deploy the host's stack, which gives them." ;;
  esac
  for other in /var/lib/postgresql/[0-9]*/*; do
    [ -d "$other" ] || continue
    case $other in
      "$data" | "$data.new")
        [ "$(head -n 1 "$settings/postgresql.conf" 2>/dev/null)" = "$mark" ] ||
          fail "this host must be bare or prepared by FluxBilling, got another cluster in \"$other\". Adopt that one by docs/runbooks/own-clusters.md, or drop it with pg_dropcluster."
        ;;
      *) fail "this host must hold no cluster but $data, got \"$other\". Keep the major version that it has, move its data by pg_upgradecluster, or drop it with pg_dropcluster." ;;
    esac
  done
  install_package
  write_settings
  make_cluster
  start
  set_administrator
}

case "${1:-}" in
  install)
    # One at a time; a run that was cut off may still be at work.
    exec 9>/run/lock/fluxbilling-postgresql
    flock --timeout 1800 9 || fail "one run at a time may be at work on this host, got another for half an hour. End it, then deploy again."
    install_all
    ;;
  *) fail "the command must be install, got \"${1:-}\"." ;;
esac
