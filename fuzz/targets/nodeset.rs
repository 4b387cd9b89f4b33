//! The libFuzzer program of [`sifleet_fuzz::nodeset`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sifleet_fuzz::nodeset::run(data));
