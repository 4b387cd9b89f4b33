//! The libFuzzer program of [`sifleet_fuzz::settings`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sifleet_fuzz::settings::run(data));
