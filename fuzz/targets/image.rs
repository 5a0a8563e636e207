//! Converts encoded images to tensors.
#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::begin(), |bytes: &[u8]| clip::fuzz::image(bytes));
