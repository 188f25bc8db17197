//! Any bytes: see `polygate_fuzz::response`.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|data: &[u8]| polygate_fuzz::response::run(data));
fuzz_mutator!(|data: &mut [u8], size: usize, max: usize, seed: u32| {
    polygate_fuzz::mutate::body(data, size, max, seed, 1)
});
