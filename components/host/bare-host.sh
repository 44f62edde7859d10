# What k3s.sh and postgresql.sh have in common: put in place of their line that names it.
set -eu
cd /
umask 077

fail() {
  echo "Host: $1" >&2
  exit 1
}

# In the first line of a file it tells that the file is ours, on hosts that were prepared before too: it stays as it is.
mark='# Written by FluxBilling: a deploy that runs its program again undoes a change made here.'

is_ours() { [ "$(head -n 1 "$1" 2>/dev/null)" = "$mark" ]; }

# put <file> <mode> [<owner>]: puts standard input in a file's place, whole or not at all.
put() {
  cat >"$1.new"
  chown "${3:-root:root}" "$1.new"
  chmod "$2" "$1.new"
  mv -f "$1.new" "$1"
}

# unsettle <note>: what is started from now on is not what the note tells of, until it is found ready. That something was
# started here once, it still tells.
unsettle() {
  if [ -e "$1" ]; then sed '1s/.*/unsettled/' "$1" | put "$1" 0600; fi
}

# One at a time; a run that was cut off may still be at work.
one_at_a_time() {
  exec 9>"/run/lock/fluxbilling-$1"
  flock --timeout 1800 9 || fail "one run at a time may be at work on this host, got another for half an hour. End it, then deploy again."
}

# Our two programs take turns: for the lock of its lists, which is another than that of packages, apt does not wait.
packaging() {
  LC_ALL=C DEBIAN_FRONTEND=noninteractive flock --close --timeout 1800 /run/lock/fluxbilling-apt "$@" 2>&1 9>&-
}

# A mirror that cannot be read is a failure; by itself apt only warns of it and goes on with older lists.
apt() { packaging apt-get -qq -o DPkg::Lock::Timeout=300 -o APT::Update::Error-Mode=any "$@"; }

# At a first boot Debian's own daily run holds the lists for a while.
read_lists() {
  for attempt in $(seq 60); do
    if words=$(apt update); then return 0; fi
    case $words in
      *"Could not get lock"* | *"Unable to lock"*) sleep 5 ;;
      *) return 1 ;;
    esac
  done
  return 1
}

# check_host <program>: it is Debian with systemd, and its address is its own.
check_host() {
  # As systemd's own sd_booted tells it.
  command -v systemctl >/dev/null && [ -d /run/systemd/system ] ||
    fail "this host must run systemd, got none. Use Debian 12 as it is installed, or adopt a $1 that runs: docs/runbooks/own-clusters.md."
  own=$(ip -o addr show | awk '{ sub("/.*", "", $4); print $4 }')
  echo "$own" | grep -qxF "$ADDRESS" ||
    fail "one of this host's own addresses must be $ADDRESS, got $(echo "$own" | paste -sd ' '). Correct the location's address, or give this host that address."
}

# check_mounts <folder>...: what is mounted at these folders, and at those that were proved encrypted, is mounted again
# after a reboot. A unit can wait for nothing that systemd does not know of.
check_mounts() {
  for folder in $FOLDERS "$@"; do
    while [ ! -e "$folder" ]; do folder=$(dirname "$folder"); done
    place=$(findmnt -nvo TARGET -T "$folder" | tail -n 1)
    [ "$place" = / ] || findmnt --fstab --mountpoint "$place" >/dev/null 2>&1 ||
      grep -qsx "Where=$place" /etc/systemd/system/*.mount ||
      fail "what is mounted at \"$place\" must be in /etc/fstab, got no line for it. Write it there, and its disk into /etc/crypttab, so that nothing starts in an empty folder after a reboot."
  done
}

# needed_mounts <folder>...: the same folders for RequiresMountsFor, which follows no link.
needed_mounts() {
  for folder in $FOLDERS "$@"; do
    echo "$folder"
    readlink -m "$folder"
  done | LC_ALL=C sort -u | paste -sd ' '
}
