#!/bin/bash
# Runs the real apptainer, from Debian sid, in a root directory of its own.
#
#   apptainer.sh make ROOT         makes or completes ROOT (90 s and 0.8 GB the first time)
#   apptainer.sh run ROOT COMMAND  runs COMMAND in it, as root without network services
#   apptainer.sh images ROOT DIR   builds in DIR, seen inside at the same path, the images the tests compare
#   apptainer.sh signed ROOT DIR   builds in DIR the images that are signed in every way apptainer has
#   apptainer.sh verdicts ROOT DIR asks apptainer to verify DIR/*/image.sif with the keys beside it: rc and said
#
# apptainer asks for every capability when root runs it, which a container does not have, so images are built
# inside a user namespace; those from scratch need no shell and so no privileges at all.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
# squashfuse and fuse2fs are what an unprivileged apptainer mounts with; oras and skopeo talk to registries.
packages="apptainer oras skopeo squashfuse fuse2fs squashfs-tools e2fsprogs gnupg openssl"

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

signed() {
    local root=$1 dir=$2
    mkdir -p "$dir"
    BIND=$dir "$here/debian-root.sh" enter "$root" bash -euc "cd '$dir'"'
        rm -rf -- *
        export APPTAINER_CONFIGDIR=$PWD/config APPTAINER_CACHEDIR=$PWD/cache
        mkdir src; echo hello >src/hello.txt
        printf "Bootstrap: scratch\n\n%%files\n    $PWD/src/hello.txt /hello.txt\n\n%%labels\n    Version 1\n" >plain.def
        apptainer build --notest --disable-cache plain.sif plain.def
        for name in One Two; do
            apptainer key newpair --name $name --email lab@example.org --comment "" --password "" --push=false
        done
        openssl genpkey -algorithm ed25519 -out ed25519.pem
        openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out p256.pem
        openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out p384.pem
        openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.pem
        for key in ed25519 p256 p384 rsa; do
            openssl pkey -in $key.pem -pubout -out $key.pub.pem
            cp plain.sif $key.sif
            apptainer sign --key $key.pem $key.sif
        done
        sign() { apptainer sign --keyidx 0 "$@" </dev/null; }
        add() { apptainer sif add --datatype 7 --filename more "$@"; }
        cp plain.sif pgp.sif; sign pgp.sif
        cp pgp.sif two-keys.sif; apptainer sign --keyidx 1 two-keys.sif </dev/null
        cp pgp.sif both.sif; apptainer sign --key ed25519.pem both.sif
        cp plain.sif object.sif; sign --sif-id 1 object.sif
        cp plain.sif every-object.sif; for id in 1 2 3; do sign --sif-id $id every-object.sif; done
        cp pgp.sif added.sif; add --groupid 1 added.sif plain.def
        cp pgp.sif groupless.sif; add --groupid 0 groupless.sif plain.def
        cp plain.sif two-groups.sif; add --groupid 2 two-groups.sif plain.def; sign two-groups.sif
        cp pgp.sif second-group-unsigned.sif; add --groupid 2 second-group-unsigned.sif plain.def
        cp second-group-unsigned.sif second-group-other.sif
        apptainer sign --keyidx 1 --group-id 2 second-group-other.sif </dev/null
        cp two-groups.sif group-gone.sif; apptainer sif del 6 group-gone.sif; apptainer sif del 4 group-gone.sif
        cp two-groups.sif group-data-gone.sif; apptainer sif del 4 group-data-gone.sif
        cp two-groups.sif group-signature-gone.sif; apptainer sif del 6 group-signature-gone.sif
        cp pgp.sif object-gone.sif; apptainer sif del 1 object-gone.sif
        cp pgp.sif signature-gone.sif; apptainer sif del 4 signature-gone.sif
        apptainer sif list two-groups.sif >two-groups.list
    '
}

verdicts() {
    local root=$1 dir=$2
    BIND=$dir "$here/debian-root.sh" enter "$root" bash -euc "cd '$dir'"'
        export APPTAINER_CACHEDIR=$PWD/cache
        for case in */; do
            [ -e "$case/image.sif" ] || continue
            options=(--local)
            [ ! -e "$case/key.pem" ] || options=(--key "$case/key.pem")
            [ ! -e "$case/legacy" ] || options+=(--legacy-insecure)
            rc=0
            APPTAINER_CONFIGDIR=$PWD/$case/config apptainer verify "${options[@]}" "$case/image.sif" >"$case/said" 2>&1 || rc=$?
            echo $rc >"$case/rc"
        done
    '
}

case ${1:-} in
    make) exec "$here/debian-root.sh" make "$2" sid $packages ;;
    run) exec "$here/debian-root.sh" enter "${@:2}" ;;
    images) images "$2" "$3" ;;
    signed) signed "$2" "$3" ;;
    verdicts) verdicts "$2" "$3" ;;
    *) echo "apptainer.sh: say make, run, images, signed or verdicts" >&2; exit 1 ;;
esac
