//! What the header of a picture says.
#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::begin(), |bytes: &[u8]| clip::fuzz::header(bytes));
