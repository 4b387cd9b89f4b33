#!/bin/sh
# Fuzzes every target with libFuzzer on stable Rust: fuzz/run.sh [SECONDS a target, 20 by default] [TARGET ...]
# Only this repository's own crates are instrumented (rustc-instrumented.sh), so dependencies are built once for
# everything. An input that breaks a promise is left in fuzz/artifacts/TARGET; when it is understood, keep it in
# fuzz/regressions/TARGET, where `cargo test -p sifleet-fuzz` replays it.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-20}
[ $# -eq 0 ] || shift
targets=${*:-frame control chunk sif signatures settings nodeset names registries}
cargo=${CARGO:-cargo}
# Build scripts watch what cargo says of the package it runs; ring and all above it would be built anew.
unset $(env | sed -n 's/^\(CARGO_PKG_[A-Z_]*\|CARGO_MANIFEST_[A-Z_]*\)=.*/\1/p') CARGO_MANIFEST_DIR
programs=$("$cargo" metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/debug

SIFLEET_FUZZ_CORPUS="$PWD/fuzz/corpus" "$cargo" test --quiet --workspace --test inputs
RUSTC_WORKSPACE_WRAPPER="$PWD/fuzz/rustc-instrumented.sh" \
    "$cargo" build --quiet --workspace --features sifleet-fuzz/libfuzzer $(printf " --bin fuzz-%s" $targets)

# Each target has one thread: as many at a time as there are processors.
run() {
    mkdir -p "fuzz/artifacts/$1" "fuzz/corpus/$1" fuzz/artifacts/logs
    log=fuzz/artifacts/logs/$1
    if "$programs/fuzz-$1" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=65536 \
        -print_final_stats=1 -artifact_prefix="fuzz/artifacts/$1/" "fuzz/corpus/$1" >"$log" 2>&1; then
        echo "fuzz $1: well, $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs," \
            "$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -1) places reached"
    else
        tail -40 "$log"
        echo "fuzz $1: FAILED; the input is in fuzz/artifacts/$1, all that was said in $log"
        return 1
    fi
}

failed=0
waiting=""
for target in $targets; do
    run "$target" &
    waiting="$waiting $!"
    # shellcheck disable=SC2086
    set -- $waiting
    if [ $# -ge "$(nproc)" ]; then
        wait "$1" || failed=1
        shift
        waiting=$*
    fi
done
for process in $waiting; do
    wait "$process" || failed=1
done
exit $failed
