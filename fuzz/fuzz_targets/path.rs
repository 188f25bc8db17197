//! Any bytes: see `polygate_fuzz::path`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| polygate_fuzz::path::run(data));
