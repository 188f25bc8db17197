//! Any bytes: see `polygate_fuzz::sse`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| polygate_fuzz::sse::run(data));
