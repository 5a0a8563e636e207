//! The configuration files of a model, each ended by a byte that JSON does not have.
#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::begin(), |bytes: &[u8]| clip::fuzz::config(bytes));
