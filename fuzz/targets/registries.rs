//! The libFuzzer program of [`sifleet_fuzz::registries`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sifleet_fuzz::registries::run(data));
