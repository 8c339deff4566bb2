#!/bin/sh
# A hypervisor of its own: run by `unshare` in new pid, mount, uts, ipc and network namespaces, with DIR as the place of
# everything it writes. Its init is tini, as libvirt leaves qemu to init and waits for it to be reaped: an init that is slow at that makes
# every stop slow, and every event of it late.
#
#   host.sh DIR
#
# DIR/run is its /run: libvirt's sockets and pid files are seen from outside there.
set -eu
dir=$1
hostname "$(basename "$dir")"
ip link set lo up
mount -t proc proc /proc
for place in run var/lib/libvirt var/cache/libvirt var/log/libvirt etc/libvirt; do
    mkdir -p "$dir/$place"
    mount --bind "$dir/$place" "/$place"
done
mkdir -p /run/libvirt /run/lock /etc/libvirt/qemu
cat > /etc/libvirt/libvirtd.conf <<CONF
host_uuid = "$(cat /proc/sys/kernel/random/uuid)"
auth_unix_ro = "none"
auth_unix_rw = "none"
CONF
# No users, cgroups, security labels or namespaces of its own: this one is isolated already.
cat > /etc/libvirt/qemu.conf <<CONF
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
namespaces = []
cgroup_controllers = []
security_driver = "none"
CONF
exec tini -g -- sh -c 'virtlogd -d; libvirtd -d; exec sleep infinity'
