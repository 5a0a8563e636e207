//! Reads tokenizer.json, and tokenizes a text with it.
#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::begin(), |bytes: &[u8]| clip::fuzz::tokenizer(bytes));
