#!/bin/sh
# The standby's own program. MASTER_ADDRESS, MASTER_PORT, MASTER_ADMIN, REPLICA_ROLE and SLOT are set above.
#
#   standby copy                    makes the copy where there is none, starts it, waits until it streams
#   standby lag                     tells in one line of JSON how far the copy is behind; fails unless it streams
#   standby promote                 makes the copy the master's database; refuses unless the master is fenced
#   standby promote --master-is-off the same where the master does not answer: the word of who cut its power
#   standby open                    lets a promoted copy be reached, once it has a certificate
#   standby rejoin --delete-this-copy   throws a promoted copy away and copies the living master anew
# include database-door.sh
set -eu
cd /
umask 077

fail() {
  echo "Standby: $1" >&2
  exit 1
}

version=$(ls /usr/lib/postgresql 2>/dev/null | sort -n | tail -n 1)
[ -n "$version" ] || fail "PostgreSQL's programs must be installed, got none. Install the same version as the master's."
programs=/usr/lib/postgresql/$version/bin
data=/var/lib/postgresql/$version/main
settings=/etc/postgresql/$version/main
home=/var/lib/postgresql/fluxbilling
mirror=/var/lib/fluxbilling/mirror

as() { runuser -u postgres -- "$@"; }
ask() { as psql -XAtq -v ON_ERROR_STOP=1 -d postgres -c "$1"; }
master="host=$MASTER_ADDRESS port=$MASTER_PORT user=$REPLICA_ROLE sslmode=verify-full sslrootcert=$home/master.crt ssl_min_protocol_version=TLSv1.3 passfile=$home/password connect_timeout=5"
# What the master itself says; nothing where it does not answer.
ask_master() { as psql -XAtq "$master replication=1" -c "$1" 2>/dev/null || true; }
master_position() { ask_master IDENTIFY_SYSTEM | cut -d '|' -f 3; }

start() {
  install -d -m 2775 -o postgres -g postgres /var/run/postgresql
  # The server must hold neither this connection's output nor the lock.
  if ! pg_ctlcluster "$version" main status >/dev/null && ! pg_ctlcluster "$version" main start </dev/null >/dev/null 2>&1 9>&-; then
    fail "PostgreSQL must start, got a failure. Look into /var/log/postgresql on the standby."
  fi
}

copy() {
  if [ -e "$data" ] && [ ! -e "$data/standby.signal" ]; then
    fail "\"$data\" must be a copy of the master or nothing, got another cluster. Move it away, or drop it with pg_dropcluster."
  fi
  install -d -m 0755 -o postgres -g postgres "/var/lib/postgresql/$version" "/etc/postgresql/$version" "$settings"
  cat > "$settings/postgresql.conf" <<end
data_directory = '$data'
hba_file = '$settings/pg_hba.conf'
ident_file = '$settings/pg_ident.conf'
external_pid_file = '/var/run/postgresql/$version-main.pid'
cluster_name = '$version/main'
listen_addresses = ''
unix_socket_directories = '/var/run/postgresql'
# A copy must allow at least as many connections as the master does.
max_connections = 1000
hot_standby = on
# Made by open, once this is no copy any more.
include_if_exists = '$settings/open.conf'
end
  rm -f "$settings/open.conf"
  echo 'local all postgres peer' > "$settings/pg_hba.conf"
  : > "$settings/pg_ident.conf"
  echo auto > "$settings/start.conf"
  chown postgres:postgres "$settings"/*
  if [ ! -e "$data" ]; then
    rm -rf "$data.new"
    as "$programs/pg_basebackup" --pgdata "$data.new" --write-recovery-conf --wal-method stream --slot "$SLOT" --checkpoint fast \
      --dbname "$master application_name=$SLOT"
    mv "$data.new" "$data"
  fi
  start
  for attempt in $(seq 60); do
    [ "$(ask 'SELECT status FROM pg_stat_wal_receiver' 2>/dev/null)" != streaming ] || return 0
    sleep 1
  done
  fail "the copy must stream from $MASTER_ADDRESS:$MASTER_PORT within a minute, got no stream. Look into /var/log/postgresql on the standby."
}

lag() {
  # The master's place first, so that a copy that keeps up is never told to be behind.
  position=$(master_position)
  newest=$(find "$mirror" -name '*.json' -printf '%T@\n' 2>/dev/null | sort -n | tail -n 1)
  ask "SELECT json_build_object(
    'role', CASE WHEN pg_is_in_recovery() THEN 'copy' ELSE 'promoted' END,
    'streaming', streaming,
    'bytesBehind', bytes,
    'secondsBehind', CASE WHEN bytes = 0 THEN 0 ELSE round(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 3) END,
    'newestMirroredDumpSeconds', round(extract(epoch FROM clock_timestamp())::numeric - nullif('$newest', '')::numeric))
  FROM (SELECT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming') AS streaming,
    CASE WHEN '$position' <> '' THEN greatest(pg_wal_lsn_diff(nullif('$position', '')::pg_lsn, pg_last_wal_replay_lsn()), 0) END AS bytes) AS measured"
  [ "$(ask 'SELECT status FROM pg_stat_wal_receiver')" = streaming ]
}

promote() {
  if [ "$(ask 'SELECT pg_is_in_recovery()')" = f ]; then
    echo '{"promoted": true, "before": true}'
    return 0
  fi
  case "$(ask_master 'SHOW in_hot_standby')" in
    off) fail "the master must be fenced first, got one that takes writes at $MASTER_ADDRESS. Run /usr/local/lib/fluxbilling/fence there, or cut its power." ;;
    on)
      position=$(master_position)
      for attempt in $(seq 600); do
        behind=$(ask "SELECT greatest(pg_wal_lsn_diff('$position', pg_last_wal_replay_lsn()), 0)")
        [ "$behind" != 0 ] || break
        sleep 0.1
      done
      [ "$behind" = 0 ] || fail "the copy must hold all that the fenced master holds, got $behind bytes less. Look whether it streams; to do without them, cut the master's power and say --master-is-off."
      ;;
    *)
      [ "${1:-}" = --master-is-off ] || fail "the master must be known to be shut, got no answer from $MASTER_ADDRESS: a cut network looks the same. Cut its power, make sure of it, then say promote --master-is-off."
      behind=null
      ;;
  esac
  last=$(ask "SELECT coalesce(to_json(pg_last_xact_replay_timestamp())::text, 'null')")
  [ "$(ask 'SELECT pg_promote(true, 60)')" = t ] || fail "the copy must become a master within a minute, got none. Look into /var/log/postgresql on the standby."
  ask "ALTER SYSTEM RESET primary_conninfo"
  ask "ALTER SYSTEM RESET primary_slot_name"
  ask "SELECT pg_reload_conf()" >/dev/null
  [ ! -e "$settings/server.crt" ] || open
  echo "{\"promoted\": true, \"before\": false, \"bytesLost\": $behind, \"lastTransactionAt\": $last}"
}

open() {
  [ "$(ask 'SELECT pg_is_in_recovery()')" = f ] || fail "the copy must be promoted before it is opened, got one that follows the master."
  for file in server.crt server.key; do
    [ -e "$settings/$file" ] || fail "\"$settings/$file\" must be there, got none. Put the server's certificate for this host there, signed by the authority that the settings name."
  done
  chown postgres:postgres "$settings/server.crt" "$settings/server.key"
  chmod 0600 "$settings/server.key"
  access_rules "$MASTER_ADMIN" > "$settings/pg_hba.conf"
  cat > "$settings/open.conf" <<end
listen_addresses = '*'
$(tls_settings "$settings")
end
  chown postgres:postgres "$settings/open.conf"
  pg_ctlcluster "$version" main restart </dev/null >/dev/null 2>&1 9>&- || fail "PostgreSQL must start again, got a failure. Look into /var/log/postgresql on the standby."
}

rejoin() {
  [ "${1:-}" = --delete-this-copy ] || fail "rejoin deletes this copy's databases and must be told so, got no --delete-this-copy."
  [ "$(ask_master 'SHOW in_hot_standby')" = off ] || fail "the master must live and take writes, got none at $MASTER_ADDRESS. This copy is the only one: keep it."
  if pg_ctlcluster "$version" main status >/dev/null; then
    pg_ctlcluster --mode fast "$version" main stop </dev/null >/dev/null 2>&1
  fi
  rm -rf "$data"
  copy
}

# One at a time; a run that was cut off may still be copying.
exec 9>/run/lock/fluxbilling-standby
[ "${1:-}" = lag ] || flock 9

case "${1:-}" in
  copy | lag | open) "$1" ;;
  promote | rejoin) "$1" "${2:-}" ;;
  *) fail "the command must be copy, lag, promote, open or rejoin, got \"${1:-}\"." ;;
esac
