//! pg_clip.json, and the record of prepared weights.
#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::begin(), |bytes: &[u8]| clip::fuzz::manifest(bytes));
