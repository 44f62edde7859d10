#!/bin/sh
# Shuts this master: it takes no write, no dump and no login of a tenant's job any more, and stays so over
# a reboot. Nothing is deleted.
#
#   fence                               shuts it; running it again changes nothing
#   fence --undo-nobody-was-promoted    opens it again; after a promotion this would make two masters
set -eu
cd /

fail() {
  echo "Fence: $1" >&2
  exit 1
}

version=$(ls /var/lib/postgresql 2>/dev/null | grep -E '^[0-9]+$' | sort -n | tail -n 1)
data=/var/lib/postgresql/$version/main
[ -e "$data/PG_VERSION" ] || fail "this host must have a PostgreSQL in $data, got none. Run it on the master."

ask() { runuser -u postgres -- psql -XAtq -d postgres -c "$1" 2>/dev/null; }

# Ends the server that runs. Its last writes reach the standby before it goes; whatever supervises it may
# start it again, and what it then is was written down before.
restart() {
  # No file: no server runs, and there is nothing to end.
  pid=$(head -n 1 "$data/postmaster.pid" 2>/dev/null || true)
  if [ -z "$pid" ] || ! kill -0 "$pid" 2>/dev/null; then return 0; fi
  kill -INT "$pid"
  for attempt in $(seq 600); do
    kill -0 "$pid" 2>/dev/null || return 0
    sleep 0.1
  done
  fail "PostgreSQL must end within a minute, got process $pid. Cut the machine's power instead."
}

# K3s brings its own service; a machine whose cluster comes another way is shut by its database alone.
cluster() {
  if command -v systemctl >/dev/null && systemctl cat k3s.service >/dev/null 2>&1; then
    systemctl "$1" --now k3s.service
  fi
}

case "${1:-}" in
  "")
    for keys in /var/lib/fluxbilling/*/.ssh; do
      if [ -e "$keys" ]; then mv -T "$keys" "$keys-fenced"; fi
    done
    cluster disable
    # A server that finds this file starts as a copy that nobody feeds: it can be read and not written.
    install -m 0600 -o postgres -g postgres /dev/null "$data/standby.signal"
    # A server that does not answer is not known to be a copy: it is ended, and found down or read-only below.
    [ "$(ask 'SELECT pg_is_in_recovery()' || true)" = t ] || restart
    for attempt in $(seq 100); do
      # One on its way down or up does not answer, and is asked again; one that stays silent is down.
      answer=$(ask 'SELECT pg_is_in_recovery()' || true)
      [ "$answer" != f ] || fail "PostgreSQL must not take writes, got one that does. Cut the machine's power instead."
      [ "$answer" != t ] || break
      sleep 0.1
    done
    if [ "$answer" = t ]; then state=read-only; else state=down; fi
    echo "fenced: PostgreSQL is $state"
    ;;
  --undo-nobody-was-promoted)
    rm -f "$data/standby.signal"
    # One that does not answer is not known to take writes: it is ended, and whatever supervises it starts it anew.
    [ "$(ask 'SELECT pg_is_in_recovery()' || true)" = f ] || restart
    cluster enable
    for keys in /var/lib/fluxbilling/*/.ssh-fenced; do
      if [ -e "$keys" ]; then mv -T "$keys" "${keys%-fenced}"; fi
    done
    echo "open again"
    ;;
  *) fail "the argument must be none or --undo-nobody-was-promoted, got $1." ;;
esac
