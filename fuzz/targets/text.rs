//! Converts texts to token ids, with the tokenizers of the fixtures.
#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::begin(), |bytes: &[u8]| clip::fuzz::text(bytes));
