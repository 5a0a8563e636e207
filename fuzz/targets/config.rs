//! Reads the configuration files of a model. A byte that JSON does not have ends each file.
#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::begin(), |bytes: &[u8]| clip::fuzz::config(bytes));
