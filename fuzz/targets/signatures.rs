//! The libFuzzer program of [`sifleet_fuzz::signatures`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sifleet_fuzz::signatures::run(data));
