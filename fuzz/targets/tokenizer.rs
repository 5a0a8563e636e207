//! tokenizer.json, and a text for it.
#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::begin(), |bytes: &[u8]| clip::fuzz::tokenizer(bytes));
