//! The libFuzzer program of [`sifleet_fuzz::names`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sifleet_fuzz::names::run(data));
