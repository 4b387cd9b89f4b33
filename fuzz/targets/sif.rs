//! The libFuzzer program of [`sifleet_fuzz::sif`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sifleet_fuzz::sif::run(data));
