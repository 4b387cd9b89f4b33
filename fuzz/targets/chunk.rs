//! The libFuzzer program of [`sifleet_fuzz::chunk`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sifleet_fuzz::chunk::run(data));
