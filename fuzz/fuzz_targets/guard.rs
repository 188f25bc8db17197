//! Any bytes: see `polygate_fuzz::guard`.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|data: &[u8]| polygate_fuzz::guard::run(data));
fuzz_mutator!(|data: &mut [u8], size: usize, max: usize, seed: u32| {
    polygate_fuzz::mutate::stream(data, size, max, seed, 1)
});
