//! The layering that docs and reviews rely on: one external crate, one door; the core knows nothing of Postgres.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

/// A word, and the files that may contain it.
const DOORS: [(&str, &[&str]); 20] = [
    ("ort::", &["mod.rs"]),
    ("object::", &["library.rs"]),
    ("tokenizers::", &["tokenizer.rs"]),
    ("image::", &["decode.rs", "decoder.rs", "header.rs"]),
    ("image_webp::", &["header.rs"]),
    ("flate2::", &["png.rs", "compression.rs"]),
    ("weezl::", &["gif.rs", "compression.rs"]),
    ("ruzstd::", &["compression.rs"]),
    ("lzma_rust2::", &["compression.rs"]),
    ("use fax::", &["bits.rs", "runs.rs"]),
    ("crc32fast::", &["png.rs"]),
    ("safe_arch::", &["sse2.rs"]),
    ("nix::", &["folder.rs", "threads.rs"]),
    ("prost::", &["mod.rs", "quantize.rs"]),
    ("half::", &["mod.rs"]),
    ("sha2::", &["manifest.rs"]),
    ("serde_json", &["config.rs", "folder.rs", "logit_scale.rs", "manifest.rs", "prepared.rs", "tokenizer.rs"]),
    ("pgrx", &[]),
    ("std::env::var", &[]),
    ("println!", &[]),
];

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Whether the line has the word, and not as the end of a longer one.
fn has(line: &str, word: &str) -> bool {
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_'))
}

#[test]
fn each_crate_has_one_door() {
    for path in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        // Modules of tests.
        if ["tests.rs", "variants.rs"].contains(&&*name) {
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        let code = source.split("#[cfg(test)]").next().unwrap();
        for (word, doors) in DOORS {
            let found = code.lines().find(|line| !line.trim_start().starts_with("//") && has(line, word));
            assert!(found.is_none() || doors.contains(&&*name), "{name}: {word}: {found:?}");
        }
    }
}
