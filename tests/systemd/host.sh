#!/bin/bash
# A host with systemd as its init: run by `unshare` in new pid, mount, uts, ipc, network and cgroup namespaces.
#
#   host.sh DIR BINARIES
#
# DIR/root becomes its root: this machine's files below, a tmpfs for what it writes above. DIR/files is copied into it;
# DIR/product_uuid is what its DMI says, DIR/watchdog31 what its kernel tells of a watchdog of that number; BINARIES/rekindled and rekindle are bound to /usr/bin.
#
# It brings up a journal and what every unit needs, and nothing else of what is installed here.
set -euo pipefail
dir=$1 root=$1/root binaries=$2

mount --make-rprivate /
mount -t tmpfs -o mode=755 rekindle-host "$dir/above"
mkdir "$dir/above/upper" "$dir/above/work"
mount -t overlay -o "lowerdir=/,upperdir=$dir/above/upper,workdir=$dir/above/work" rekindle-host "$root"
cd "$root"
mount -t proc proc proc
# Where an init would tune the kernel: there is one kernel, and it is not ours.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 dev dev
for node in null zero full random urandom tty; do
  : >"dev/$node"
  mount --bind "/dev/$node" "dev/$node"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs shm dev/shm
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
# A machine with a DMI, readable by root alone, and with a watchdog, as hypervisors are. Nothing of this machine's is seen.
mkdir -p "$dir/above/class/dmi/id" "$dir/above/class/watchdog"
install -m 0400 "$dir/product_uuid" "$dir/above/class/dmi/id/product_uuid"
cp -r "$dir/watchdog31" "$dir/above/class/watchdog/"
mount --bind "$dir/above/class" sys/class

# Of the units, the journal. Whatever else is pulled in early is for machines, and would reach out of here.
rm -rf etc/systemd/system/*.wants etc/systemd/system/*.requires
for unit in lib/systemd/system/{sysinit,sockets,timers,local-fs}.target.wants/*; do
  case ${unit##*/} in
    systemd-journald*.service | systemd-journald.socket | systemd-journald-dev-log.socket | '*') ;;
    *) ln -sf /dev/null "etc/systemd/system/${unit##*/}" ;;
  esac
done
mkdir -p etc/systemd/system-generators
for generator in lib/systemd/system-generators/* usr/lib/systemd/system-generators/*; do
  ln -sf /dev/null "etc/systemd/system-generators/${generator##*/}"
done
printf '[Unit]\nDescription=as far as this host goes\nRequires=basic.target\nAfter=basic.target\n' \
  >etc/systemd/system/host.target
ln -sf host.target etc/systemd/system/default.target
: >etc/fstab
tr -d - </proc/sys/kernel/random/uuid >etc/machine-id
echo cmp-01 >etc/hostname
hostname cmp-01

for binary in rekindled rekindle; do
  : >"usr/bin/$binary"
  mount --bind "$binaries/$binary" "usr/bin/$binary"
  mount -o remount,bind,ro "usr/bin/$binary"
done
cp -r "$dir/files/." .

mkdir -p mnt/old
pivot_root . mnt/old
umount -l /mnt/old
# As systemd itself would have it outside a container: what is mounted later is seen by services.
mount --make-rshared /
exec env -i container=rekindle-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --show-status=no --log-target=journal
