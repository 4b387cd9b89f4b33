#!/bin/bash
# Makes Debian root directories for the tests, and runs commands in them.
#
#   debian-root.sh make ROOT SUITE PACKAGE...   makes or completes ROOT; does nothing when it is complete
#   debian-root.sh enter ROOT COMMAND...        runs COMMAND with ROOT as its root directory
#
# enter: BIND="/a:/b" shows these paths of the machine at the same place inside. Everything is mounted in a
# private mount namespace, so nothing stays behind. The root is entered by pivot_root, because in a chroot
# user namespaces cannot be made and apptainer finds no mount for "/".
set -euo pipefail

die() { echo "debian-root: $*" >&2; exit 1; }

make_root() {
    local root=$1 suite=$2 stamp lock
    shift 2
    stamp=$root/.complete lock=$root.lock
    mkdir -p "$(dirname "$root")"
    exec 9>"$lock"
    flock 9
    [ "$(cat "$stamp" 2>/dev/null)" = "$suite $*" ] && return
    command -v debootstrap >/dev/null || die "debootstrap is not installed: apt-get install debootstrap"
    if [ ! -e "$root/.bootstrapped" ]; then
        rm -rf "$root"
        debootstrap --variant=minbase --include=ca-certificates "$suite" "$root" "$(mirror)" >"$root.log" 2>&1 ||
            die "debootstrap of $suite failed: $(tail -3 "$root.log")"
        # How this machine downloads (proxies, frozen mirrors) holds inside too.
        grep -lsr '^ *Acquire' /etc/apt/apt.conf /etc/apt/apt.conf.d | xargs -r cp -t "$root/etc/apt/apt.conf.d" || true
        # No daemon may start from a package's post-installation script.
        printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
        chmod 755 "$root/usr/sbin/policy-rc.d"
        touch "$root/.bootstrapped"
    fi
    export DEBIAN_FRONTEND=noninteractive
    "$0" enter "$root" sh -c 'apt-get -q update && apt-get -qy --no-install-recommends install "$@" && apt-get clean' \
        install "$@" >"$root.log" 2>&1 9>&- || die "installing $* in $suite failed: $(tail -3 "$root.log")"
    echo "$suite $*" >"$stamp"
}

# The mirror this machine uses, else the public one.
mirror() {
    local found
    found=$(sed -n 's/^URIs: *//p; s/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p' \
        /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -v security | head -1) || true
    echo "${found:-http://deb.debian.org/debian}"
}

enter_root() {
    [ -e "$1/.bootstrapped" ] || die "$1 is not a root made by this script"
    ROOT=$1 BIND=${BIND:-} exec unshare --mount --propagation private "$0" inside "${@:2}"
}

inside() {
    mount --bind "$ROOT" "$ROOT"
    cd "$ROOT"
    mount -t proc proc proc
    mount --rbind /sys sys
    mount --rbind /dev dev
    mount -t tmpfs -o mode=755 tmpfs run
    # The machine's own /dev/fuse may be root's alone; users inside need one.
    mknod -m 666 run/fuse c 10 229 && mount --bind run/fuse dev/fuse 2>/dev/null || true
    cp -L /etc/resolv.conf /etc/hosts etc/ 2>/dev/null || true
    local path
    while IFS= read -r -d : path; do
        [ -n "$path" ] || continue
        if [ -d "$path" ]; then mkdir -p ".$path"; else mkdir -p ".$(dirname "$path")" && touch ".$path"; fi
        mount --bind "$path" ".$path"
    done <<<"$BIND:"
    mkdir -p .outside
    pivot_root . .outside
    umount -l /.outside
    cd /
    exec env -i HOME=/root USER=root LANG=C.UTF-8 TERM="${TERM:-dumb}" DEBIAN_FRONTEND=noninteractive \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

case ${1:-} in
    make) shift; [ $# -ge 2 ] || die "make needs ROOT and SUITE"; make_root "$@" ;;
    enter) shift; [ $# -ge 2 ] || die "enter needs ROOT and COMMAND"; enter_root "$@" ;;
    inside) shift; inside "$@" ;;
    *) die "say make or enter" ;;
esac
