#!/bin/bash
# Boots the systemd of a Debian root as the first process of namespaces of its own.
#
#   boot.sh make ROOT           makes or completes ROOT: Debian 12 with systemd, journald, rpm and rpmlint
#   boot.sh up ROOT [DIR...]    boots it, says "pid N" (systemd's, as seen from here), and ends with it when killed
#
# Each DIR of the machine is seen inside, read only, at the same path. Whatever is written inside lies in memory and is gone
# afterwards. The machine's own /tmp and /run cannot be seen from inside, so systemd may clean up as it likes.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
packages="systemd systemd-sysv dbus iproute2 procps util-linux rpm rpmlint"

up() {
    [ -e "$1/.complete" ] || { echo "boot.sh: $1 is not complete" >&2; exit 1; }
    exec unshare --mount --pid --net --uts --ipc --cgroup --fork --kill-child --propagation private "$here/boot.sh" inside "$@"
}

inside() {
    local root=$1 top=/run/sifleet-lab pid dir
    shift
    # This mount of /proc still tells pids as they are outside.
    read -r pid _ </proc/self/stat
    # It may be a container's, and read only: only this namespace sees the change.
    mkdir -p "$top" 2>/dev/null || { top=$(mktemp -d); }
    mount -t tmpfs -o mode=755 tmpfs "$top"
    mkdir "$top/upper" "$top/work" "$top/root"
    mount -t overlay -o "lowerdir=$root,upperdir=$top/upper,workdir=$top/work" overlay "$top/root"
    for dir in "$@"; do
        mkdir -p "$top/root$dir"
        mount --bind "$dir" "$top/root$dir"
        mount -o remount,bind,ro "$top/root$dir"
    done
    cd "$top/root"
    # Packages are to start services here.
    rm -f usr/sbin/policy-rc.d
    furnish
    mkdir -p .outside
    pivot_root . .outside
    umount -l /.outside
    rmdir /.outside
    cd /
    # As on a machine; in what it takes for a container, systemd leaves this to whoever made it, and credentials need it.
    mount --make-rshared /
    echo "pid $pid"
    exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        /lib/systemd/systemd --system --log-target=journal-or-kmsg --log-level=warning --show-status=0 </dev/null >/dev/null
}

# What a kernel and a first file system would have made.
furnish() {
    local device
    mount -t proc proc proc
    mount -t sysfs sysfs sys
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    mount -t tmpfs -o mode=755 tmpfs dev
    for device in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
        IFS=: read -r name major minor <<<"$device"
        mknod -m 666 "dev/$name" c "$major" "$minor"
    done
    mkdir dev/pts dev/shm
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
    mount -t tmpfs -o mode=1777 tmpfs dev/shm
    mount -t tmpfs -o mode=755 tmpfs run
    mount -t tmpfs -o mode=1777 tmpfs tmp
    ip link set lo up
    hostname labnode
    echo labnode >etc/hostname
    echo '127.0.0.1 localhost labnode' >etc/hosts
    tr -d - </proc/sys/kernel/random/uuid >etc/machine-id
    # Nobody logs in here, and nothing is to happen by the clock.
    for unit in getty.target console-getty.service systemd-logind.service systemd-networkd.service \
        systemd-resolved.service systemd-timesyncd.service e2scrub_reap.service apt-daily.timer apt-daily-upgrade.timer \
        dpkg-db-backup.timer systemd-tmpfiles-clean.timer; do
        ln -sf /dev/null "etc/systemd/system/$unit"
    done
}

case ${1:-} in
    make) exec "$here/debian-root.sh" make "$2" bookworm $packages ;;
    up) shift; up "$@" ;;
    inside) shift; inside "$@" ;;
    *) echo "boot.sh: say make or up" >&2; exit 1 ;;
esac
