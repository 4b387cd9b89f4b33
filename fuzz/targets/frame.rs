//! The libFuzzer program of [`sifleet_fuzz::frame`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sifleet_fuzz::frame::run(data));
