#!/bin/sh
# Proves that data lies encrypted on this host. It changes nothing.
#
#   encrypted-storage check <folder>...   tells in one line of JSON by what each folder, what is mounted below it and
#                                         each PostgreSQL cluster of the host is encrypted; fails where one is not
#
# Two ways count: dm-crypt with AES and a key of 256 bits (LUKS), and fscrypt with AES-256-XTS. A folder that is not
# there yet is judged by the one that it will be made in.
set -eu
cd /

fail() {
  echo "Encrypted storage: $1" >&2
  exit 1
}

# By what fscrypt encrypts what is in a folder or file; nothing where it does not.
fscrypt_cipher() {
  perl -e '
    sysopen(my $file, $ARGV[0], 0) or exit;
    my $policy = pack("Q x24", 24);
    ioctl($file, 0xC0096616, $policy) or exit;
    print "fscrypt AES-256-XTS" if unpack("x9 C", $policy) == 1;
  ' "$1"
}

# By what dm-crypt encrypts all that lies on a block device, itself or everything that it is made of; nothing where it
# does not.
dm_crypt_cipher() {
  case $(cat "/sys/class/block/$1/dm/uuid" 2>/dev/null) in
    CRYPT-LUKS* | CRYPT-PLAIN*)
      # The key is shown as zeros, or by its bytes and its name in the keyring.
      dmsetup table "$(cat "/sys/class/block/$1/dm/name")" | awk '
        $3 == "crypt" {
          bits = $5 ~ /^:/ ? substr($5, 2) * 8 : length($5) * 4
          if ($4 ~ /^aes-xts-plain64/ && bits == 512) print "dm-crypt AES-256-XTS"
          if ($4 ~ /^aes-cbc-essiv/ && bits == 256) print "dm-crypt AES-256-CBC"
        }'
      return 0
      ;;
  esac
  found=
  for part in $(ls "/sys/class/block/$1/slaves" 2>/dev/null); do
    found=$(dm_crypt_cipher "$part")
    [ -n "$found" ] || return 0
  done
  printf '%s' "$found"
}

# By what a path is encrypted; nothing where it lies in clear.
cipher_of() {
  cipher=$(fscrypt_cipher "$1")
  if [ -z "$cipher" ]; then
    # On other file systems a folder's device does not tell where all of it lies.
    case $(findmnt -nvo FSTYPE -T "$1") in
      ext4 | xfs) cipher=$(dm_crypt_cipher "$(basename "$(readlink -f "$(findmnt -nvo SOURCE -T "$1")")")") ;;
    esac
  fi
  printf '%s' "$cipher"
}

# What a server keeps elsewhere than in its own folder.
postgresql_folders() {
  pg_lsclusters -h 2>/dev/null | while read -r version name port status owner folder log; do
    echo "$folder"
    for link in "$folder/pg_wal" "$folder"/pg_tblspc/*; do
      [ ! -L "$link" ] || readlink -f "$link"
    done
  done
}

mounted_below() {
  while read -r source target type rest; do
    case $type in tmpfs | ramfs | proc | nsfs | cgroup*) continue ;; esac
    # A pod may end meanwhile, and what was mounted for it is gone.
    case $target in "$1"/*) [ ! -e "$target" ] || echo "$target" ;; esac
  done </proc/self/mounts
}

check() {
  [ $# -gt 0 ] || fail "check must be given folders, got none."
  told=
  for folder in "$@" $(postgresql_folders); do
    there=$folder
    while [ ! -e "$there" ]; do there=$(dirname "$there"); done
    there=$(readlink -f "$there")
    cipher=$(cipher_of "$there")
    [ -n "$cipher" ] || fail "\"$folder\" must lie on storage encrypted with AES-256, by dm-crypt or fscrypt, got $(findmnt -nvo SOURCE,FSTYPE -T "$there") in clear. See docs/runbooks/encrypted-storage.md."
    for mounted in $(mounted_below "$there"); do
      [ -n "$(cipher_of "$mounted")" ] || [ ! -e "$mounted" ] ||
        fail "\"$mounted\", mounted below \"$folder\", must lie on storage encrypted with AES-256, got $(findmnt -nvo SOURCE,FSTYPE -T "$mounted") in clear. See docs/runbooks/encrypted-storage.md."
    done
    told="$told${told:+, }\"$folder\": \"$cipher\""
  done
  echo "{$told}"
}

case "${1:-}" in
  check) shift; check "$@" ;;
  *) fail "the command must be check, got \"${1:-}\"." ;;
esac
