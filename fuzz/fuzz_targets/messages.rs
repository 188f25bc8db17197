//! Any bytes: see `polygate_fuzz::messages`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| polygate_fuzz::messages::run(data));
