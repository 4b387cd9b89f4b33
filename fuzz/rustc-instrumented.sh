#!/bin/sh
# Stands between cargo and rustc for this repository's own crates (RUSTC_WORKSPACE_WRAPPER) and has them count which
# branches an input takes. The flags are those of `cargo fuzz run -s none`, all of which stable Rust knows.
exec "$@" --cfg fuzzing \
    -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1
