//! The libFuzzer program of [`sifleet_fuzz::control`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sifleet_fuzz::control::run(data));
