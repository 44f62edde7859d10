#!/bin/sh
# Makes this host a PostgreSQL server of one exact version of Debian's package, and keeps it one.
#
#   postgresql install   installs, sets up and starts the server; changes nothing where all is so already
#
# From the environment: VERSION, ADDRESS, PORT, ADMIN, MAX_CONNECTIONS, FOLDERS. From standard input: in the first line
# the SCRAM verifier of the administrator's password, never the password; then the server's certificate and its key, PEM.
# include bare-host.sh
# include database-door.sh

major=${VERSION%%.*}
package=postgresql-$major
programs=/usr/lib/postgresql/$major/bin
data=/var/lib/postgresql/$major/main
settings=/etc/postgresql/$major/main
unit=postgresql@$major-main.service
# Of what the server was last started with: a run that was cut off in between starts it again.
settled=/usr/local/lib/fluxbilling/postgresql.settled

as() { runuser -u postgres -- "$@"; }
ask() { as psql -XAtq -v ON_ERROR_STOP=1 -p "$PORT" -d postgres; }
# Nothing where the package is not there.
installed() { dpkg-query -W -f '${db:Status-Status} ${Version}' "$package" 2>/dev/null || true; }

install_package() {
  # Debian would make a server of its own, with rules of its own, as soon as its package is there.
  install -d -m 0755 /etc/postgresql-common /etc/postgresql-common/createcluster.d
  echo 'create_main_cluster = false' | put /etc/postgresql-common/createcluster.d/fluxbilling.conf 0644
  if [ "$(installed)" != "installed $VERSION" ]; then
    # What an earlier run was cut off in. What cannot be finished is told by the installation below.
    packaging dpkg --force-confold --configure -a >/dev/null || true
    read_lists || fail "Debian's lists of packages must be read, got $(echo "$words" | tail -n 1). Let this host reach its mirror."
    words=$(apt -y -o Dpkg::Options::=--force-confold install --no-install-recommends --allow-change-held-packages "$package=$VERSION") ||
      fail "$package must be installed in version $VERSION, got $(echo "$words" | tail -n 1). Set fluxbilling:host.postgresql.version to one that apt-cache madison $package shows."
    [ "$(installed)" = "installed $VERSION" ] || fail "$package must be installed in version $VERSION, got \"$(installed)\". Look into /var/log/apt on the host."
  fi
  # Only a deploy changes the version.
  apt-mark hold "$package" >/dev/null
}

write_settings() {
  install -d -m 0755 -o postgres -g postgres "/etc/postgresql/$major" "$settings" "$settings/conf.d" "/var/lib/postgresql/$major"
  put "$settings/postgresql.conf" 0644 postgres:postgres <<end
$mark
data_directory = '$data'
hba_file = '$settings/pg_hba.conf'
ident_file = '$settings/pg_ident.conf'
external_pid_file = '/var/run/postgresql/$major-main.pid'
cluster_name = '$major/main'
unix_socket_directories = '/var/run/postgresql'
include_dir = 'conf.d'
end
  put "$settings/conf.d/fluxbilling.conf" 0644 postgres:postgres <<end
$mark
listen_addresses = '$ADDRESS'
port = $PORT
max_connections = $MAX_CONNECTIONS
$(tls_settings "$settings")
end
  access_rules "$ADMIN" | put "$settings/pg_hba.conf" 0640 postgres:postgres
  put "$settings/pg_ident.conf" 0640 postgres:postgres </dev/null
  echo auto | put "$settings/start.conf" 0644 postgres:postgres
  printf '%s\n' "$pems" | sed -n '/^-----BEGIN CERTIFICATE-----$/,/^-----END CERTIFICATE-----$/p' | put "$settings/server.crt" 0644 postgres:postgres
  printf '%s\n' "$pems" | sed -n '/^-----BEGIN .*PRIVATE KEY-----$/,/^-----END .*PRIVATE KEY-----$/p' | put "$settings/server.key" 0600 postgres:postgres
  # A disk that was not opened after a reboot leaves empty folders of the system's disk: nothing starts in them, as far as
  # systemd knows what belongs there (check_mounts). Each connection is a task; systemd would allow some thousands.
  install -d -m 0755 "/etc/systemd/system/$unit.d"
  put "/etc/systemd/system/$unit.d/fluxbilling.conf" 0644 <<end
$mark
[Unit]
Wants=network-online.target
After=network-online.target
RequiresMountsFor=$(needed_mounts "$data")

[Service]
Restart=on-failure
RestartSec=5s
TasksMax=infinity
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
    cat "$settings"/*.conf "$settings"/conf.d/*.conf "$settings"/server.* "$data/postgresql.auto.conf" "/etc/systemd/system/$unit.d/fluxbilling.conf" | sha256sum
  )
  if [ "$(cat "$settled" 2>/dev/null)" != "$state" ] || ! systemctl is-active --quiet "$unit"; then
    # Whatever is started here must not hold the lock.
    systemctl daemon-reload 9>&-
    unsettle "$settled"
    timeout 300 systemctl restart "$unit" >/dev/null 2>&1 9>&- ||
      fail "PostgreSQL must start within five minutes, got a failure. Look into /var/log/postgresql on the host."
    check_settings
    echo "$state" | put "$settled" 0600
  else
    check_settings
  fi
}

# A later file in conf.d and ALTER SYSTEM go before what is written here.
check_settings() {
  for pair in "ssl on" "ssl_min_protocol_version TLSv1.3" "password_encryption scram-sha-256" "hba_file $settings/pg_hba.conf"; do
    name=${pair%% *}
    # A server's refusal is told as what it says.
    told=$(echo "SHOW $name" | ask 2>&1) || true
    [ "$told" = "${pair#* }" ] || {
      unsettle "$settled"
      fail "$name of the running PostgreSQL must be ${pair#* }, got ${told:-none}. Take it out of $settings/conf.d and, by ALTER SYSTEM RESET $name, out of $data/postgresql.auto.conf, then have this program run again: docs/runbooks/prepare-host.md."
    }
  done
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
  check_host PostgreSQL
  # An input that ends in its first line is one without the rest, which is refused below.
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
        is_ours "$settings/postgresql.conf" ||
          fail "this host must be bare or prepared by FluxBilling, got another cluster in \"$other\". Adopt that one by docs/runbooks/own-clusters.md, or drop it with pg_dropcluster."
        ;;
      *) fail "this host must hold no cluster but $data, got \"$other\". Keep the major version that it has, move its data by pg_upgradecluster, or drop it with pg_dropcluster." ;;
    esac
  done
  # One whose data lie elsewhere.
  for other in /etc/postgresql/*/*/postgresql.conf; do
    [ ! -e "$other" ] || is_ours "$other" ||
      fail "this host must be bare or prepared by FluxBilling, got \"$other\" of another cluster. Adopt that one by docs/runbooks/own-clusters.md, or drop it with pg_dropcluster."
  done
  check_mounts "$data"
  if [ -e "$settled" ] && [ ! -e "$data" ]; then
    fail "the databases must lie in $data, where they were started last, got no such folder. Open their disk and mount it, or remove $settled where they are meant to be gone."
  fi
  install_package
  write_settings
  make_cluster
  start
  set_administrator
}

case "${1:-}" in
  install)
    one_at_a_time postgresql
    install_all
    ;;
  *) fail "the command must be install, got \"${1:-}\"." ;;
esac
