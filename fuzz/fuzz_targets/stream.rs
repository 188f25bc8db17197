//! Any bytes: see `polygate_fuzz::stream`.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|data: &[u8]| polygate_fuzz::stream::run(data));
fuzz_mutator!(|data: &mut [u8], size: usize, max: usize, seed: u32| {
    polygate_fuzz::mutate::stream(data, size, max, seed, 2)
});
