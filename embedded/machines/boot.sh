#!/bin/sh
# The first process of a machine. It starts in new mount, pid, uts, ipc and control group
# namespaces and in the machine's network namespace, builds the machine's file tree, and becomes
# s6-svscan.
# Environment: MACHINE_NAME, MACHINE (its folder), CHECKOUT, GROUP_MOUNTS (one word per hierarchy).
set -eu

# /proc is still the host's, so these are the host's numbers.
read -r pid rest < /proc/self/stat
# shellcheck disable=SC2086
set -- ${rest##*) }
echo "$pid ${20}" > "$MACHINE/pid.new"
mv "$MACHINE/pid.new" "$MACHINE/pid"

hostname "$MACHINE_NAME"
root=$MACHINE/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$MACHINE/upper,workdir=$MACHINE/work" "$root"

# The checkout holds other machines' keys: of it only three folders are shown, elsewhere, read-only.
for part in bin images programs; do
  mkdir -p "$root/opt/fluxbilling/$part"
  mount --bind "$CHECKOUT/.cache/$part" "$root/opt/fluxbilling/$part"
  mount -o remount,bind,ro "$root/opt/fluxbilling/$part"
done
if [ -d "$root$CHECKOUT" ]; then
  mount -t tmpfs -o size=64k,mode=0700 tmpfs "$root$CHECKOUT"
fi

# What must not lie on an overlay, or must outlive one: data on the encrypted disk, images beside it.
for pair in \
  containerd:/var/lib/containerd disk/data/kubelet:/var/lib/kubelet \
  disk/data/postgresql:/var/lib/postgresql disk/data/etc-postgresql:/etc/postgresql \
  disk/data/fluxbilling:/var/lib/fluxbilling disk/data/volumes:/var/lib/volumes \
  disk/data/root:/root; do
  mkdir -p "$root${pair#*:}"
  mount --bind "$MACHINE/${pair%%:*}" "$root${pair#*:}"
done
mkdir -p "$root/etc/fluxbilling" "$root/var/log/fluxbilling"
mount --bind "$MACHINE/etc" "$root/etc/fluxbilling"
mount --bind "$MACHINE/log" "$root/var/log/fluxbilling"
rm -f "$root/etc/resolv.conf"
cp "$MACHINE/etc/hosts" "$MACHINE/etc/hostname" "$MACHINE/etc/resolv.conf" "$root/etc/"

# What the network plugins remember of pods is void: their networks are gone.
rm -rf "$root/var/lib/cni"

mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t sysfs -o nosuid,nodev,noexec sysfs "$root/sys"
if [ "$GROUP_MOUNTS" = ":" ]; then
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
  # A version 2 group with processes of its own gives its children no controllers.
  mkdir "$root/sys/fs/cgroup/machine"
  echo $$ > "$root/sys/fs/cgroup/machine/cgroup.procs"
  for controller in $(cat "$root/sys/fs/cgroup/cgroup.controllers"); do
    echo "+$controller" > "$root/sys/fs/cgroup/cgroup.subtree_control"
  done
else
  mount -t tmpfs -o mode=0755,size=64k tmpfs "$root/sys/fs/cgroup"
  for group in $GROUP_MOUNTS; do
    mkdir "$root/sys/fs/cgroup/${group%%:*}"
    if [ "${group#*:}" = "" ]; then
      mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/${group%%:*}"
    else
      mount -t cgroup -o "${group#*:}" cgroup "$root/sys/fs/cgroup/${group%%:*}"
    fi
  done
fi

mount -t tmpfs -o mode=0755,size=64k,nosuid tmpfs "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm" "$root/dev/mqueue"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/dev/shm"
mount -t mqueue mqueue "$root/dev/mqueue"
for device in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0 kmsg:1:11; do
  numbers=${device#*:}
  mknod -m 0666 "$root/dev/${device%%:*}" c "${numbers%:*}" "${numbers#*:}"
done
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s /proc/self/fd/0 "$root/dev/stdin"
ln -s /proc/self/fd/1 "$root/dev/stdout"
ln -s /proc/self/fd/2 "$root/dev/stderr"
mount -t tmpfs -o mode=0755,nosuid,nodev tmpfs "$root/run"
# As Debian has it: where programs keep their locks.
mkdir -p -m 1777 "$root/run/lock"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/tmp"

# A kubelet wants these kernel settings and would change the host's: it is shown what it wants.
# The rest of /proc/sys is shown read-only but for the machine's own network.
mkdir -p "$root/run/kernel-settings"
for setting in \
  vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
  kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  shown=$root/run/kernel-settings/$(echo "${setting%%=*}" | tr / -)
  echo "${setting#*=}" > "$shown"
done
mount --bind "$root/proc/sys" "$root/proc/sys"
mount --bind "$root/proc/sys/net" "$root/proc/sys/net"
mount -o remount,bind,ro "$root/proc/sys"
for shown in "$root"/run/kernel-settings/*; do
  name=$(basename "$shown")
  case $name in
    kernel-keys-*) file=kernel/keys/${name#kernel-keys-} ;;
    *) file=${name%%-*}/${name#*-} ;;
  esac
  mount --bind "$shown" "$root/proc/sys/$file"
done
for setting in ip_forward; do
  echo 1 > "$root/proc/sys/net/ipv4/$setting"
done
if [ -e "$root/proc/sys/net/bridge/bridge-nf-call-iptables" ]; then
  # Packets between two pods of one node pass the rules of services and network policies too.
  echo 1 > "$root/proc/sys/net/bridge/bridge-nf-call-iptables"
fi

cp -a "$MACHINE/services" "$root/run/service"
cd "$root"
pivot_root . .
umount -l .
cd /
# Volumes that a kubelet mounts must show inside the containers.
mount --make-rshared /
umask 022
ulimit -n "$(ulimit -Hn)"
exec env -i PATH=/opt/fluxbilling/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  HOME=/root LANG=C.UTF-8 s6-svscan /run/service
