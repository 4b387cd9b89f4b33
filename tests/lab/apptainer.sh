#!/bin/bash
# Runs the real apptainer, from Debian sid, in a root directory of its own.
#
#   apptainer.sh make ROOT         makes or completes ROOT (90 s and 0.8 GB the first time)
#   apptainer.sh run ROOT COMMAND  runs COMMAND in it, as root without network services
#   apptainer.sh images ROOT DIR   builds in DIR, seen inside at the same path, the images the tests compare
#
# apptainer asks for every capability when root runs it, which a container does not have, so images are built
# inside a user namespace; those from scratch need no shell and so no privileges at all.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
# squashfuse and fuse2fs are what an unprivileged apptainer mounts with.
packages="apptainer squashfuse fuse2fs squashfs-tools e2fsprogs gnupg openssl"

images() {
    local root=$1 dir=$2
    mkdir -p "$dir"
    BIND=$dir "$here/debian-root.sh" enter "$root" bash -euc "cd '$dir'"'
        rm -rf -- *
        export APPTAINER_CONFIGDIR=$PWD/keys APPTAINER_CACHEDIR=$PWD/cache
        mkdir -p src/bin; echo hello >src/hello.txt
        cat >plain.def <<EOF
Bootstrap: scratch

%files
    $PWD/src/hello.txt /hello.txt

%labels
    Author Nobody <nobody@example.org>
    Version 1.2.3
    org.opencontainers.image.title lab
    com.example.empty

%help
    Help with "quotes", <angles> & 한글.

%environment
    export LAB=1

%runscript
    echo "run $@"

%startscript
    echo start

%test
    true
EOF
        apptainer build --notest --disable-cache plain.sif plain.def
        cp plain.sif pgp.sif; cp plain.sif ed25519.sif; cp plain.sif twice.sif; cp plain.sif object.sif
        apptainer key newpair --name Lab --email lab@example.org --comment "" --password "" --push=false
        apptainer sign pgp.sif </dev/null
        openssl genpkey -algorithm ed25519 -out key.pem
        apptainer sign --key key.pem ed25519.sif
        apptainer sign twice.sif </dev/null
        apptainer sign --key key.pem twice.sif
        apptainer sign --sif-id 1 object.sif </dev/null
        apptainer verify --local pgp.sif >pgp.verify
        cp plain.sif overlay.sif
        apptainer overlay create --size 64 overlay.sif
        mksquashfs src bare.squashfs -quiet -no-progress
        mke2fs -q -t ext3 -d src bare.ext3 4M
        # A sandbox with a shell can have apps.
        mkdir -p box/bin box/lib64 box/etc box/tmp box/proc box/sys box/dev box/root box/var/tmp
        cp /bin/dash box/bin/sh
        ldd /bin/dash | grep -o "/[^ ]*" | sort -u | while read -r lib; do cp --parents -L "$lib" box; done
        for tool in mkdir chmod cat touch ln cp; do
            cp "$(command -v $tool)" box/bin/
            ldd "$(command -v $tool)" | grep -o "/[^ ]*" | sort -u | while read -r lib; do cp --parents -L "$lib" box; done
        done
        cat >apps.def <<EOF
Bootstrap: localimage
From: $PWD/box

%applabels foo
    FooLabel fooval

%apphelp foo
    help for foo

%apprun foo
    exec echo foo

%appenv foo
    export FOO=1

%apptest foo
    true

%apprun bar
    exec echo bar
EOF
        unshare --user --map-root-user --mount apptainer build --notest --disable-cache apps.sif apps.def
        apptainer build --notest --disable-cache box.sif box
        for image in *.sif; do
            apptainer sif list "$image" >"$image.list"
            apptainer sif header "$image" >"$image.header"
            apptainer inspect --json --all "$image" >"$image.inspect"
        done
    '
}

case ${1:-} in
    make) exec "$here/debian-root.sh" make "$2" sid $packages ;;
    run) exec "$here/debian-root.sh" enter "${@:2}" ;;
    images) images "$2" "$3" ;;
    *) echo "apptainer.sh: say make, run or images" >&2; exit 1 ;;
esac
