//! Guards the layers of the sources: one door for each external crate, no circles of imports, no long files.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/imports.rs"]
mod imports;

use std::path::{Path, PathBuf};

use imports::{circles, code, files, graph, rooms, sources};

/// A word, and the files of the core that may contain it.
const DOORS: [(&str, &[&str]); 21] = [
    (
        "ort::",
        &[
            "runtime/canceler.rs",
            "runtime/inputs.rs",
            "runtime/library.rs",
            "runtime/provider.rs",
            "runtime/rows.rs",
            "runtime/session.rs",
        ],
    ),
    ("object::", &["runtime/elf.rs"]),
    ("tokenizers::", &["import/tokenizer.rs", "tokenizer.rs"]),
    ("image::", &["pixels/decode.rs", "pixels/decoder.rs", "pixels/header.rs"]),
    ("image_webp::", &["pixels/webp.rs"]),
    ("flate2::", &["pixels/png.rs", "pixels/tiff/decompress.rs"]),
    ("weezl::", &["pixels/gif.rs", "pixels/tiff/decompress.rs"]),
    ("ruzstd::", &["pixels/tiff/decompress.rs"]),
    ("lzma_rust2::", &["pixels/tiff/decompress.rs"]),
    ("use fax::", &["pixels/tiff/fax/bits.rs", "pixels/tiff/fax/runs.rs"]),
    ("crc32fast::", &["pixels/png.rs"]),
    ("safe_arch::", &["pixels/jpeg/sse2.rs"]),
    ("nix::", &["folder.rs", "threads.rs"]),
    (
        "prost::",
        &[
            "onnx/bf16.rs",
            "onnx/facts.rs",
            "onnx/file.rs",
            "onnx/part.rs",
            "onnx/proto.rs",
            "onnx/quantize.rs",
            "onnx/weights.rs",
        ],
    ),
    ("half::", &["runtime/inputs.rs", "runtime/rows.rs"]),
    ("sha2::", &["store/manifest.rs"]),
    ("tar::", &["admin/archive.rs"]),
    (
        "serde_json",
        &[
            "admin/logit_scale.rs",
            "folder.rs",
            "import/config.rs",
            "import/tokenizer.rs",
            "store/manifest.rs",
            "store/record.rs",
            "tokenizer.rs",
        ],
    ),
    ("pgrx", &[]),
    ("std::env::var", &[]),
    ("println!", &[]),
];

/// The same for the service.
const SERVICE_DOORS: [(&str, &[&str]); 9] = [
    ("landlock::", &["isolation/files.rs"]),
    ("seccompiler::", &["isolation/calls/call.rs", "isolation/calls/mod.rs"]),
    ("libc::", &["isolation/calls/allowed.rs", "isolation/calls/forbidden.rs", "isolation/calls/mod.rs"]),
    ("rustix::", &["isolation/limits.rs", "server/listener.rs", "server/mod.rs"]),
    ("lru::", &["server/cache.rs"]),
    ("serde_json", &["frame.rs"]),
    ("pgrx", &[]),
    ("std::env::var", &[]),
    ("println!", &[]),
];

/// The source directories of this project.
const CORE: &str = "crates/clip/src";
const COMMAND: &str = "crates/pgclip/src";
const SERVICE: &str = "crates/service/src";
const EXTENSION: &str = "src";

/// The maximum number of lines of a file. A reader can see such a file as a whole.
const MAX_LINES: usize = 300;

/// Files that may be longer, because they are tables of data.
const DATA: [&str; 0] = [];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

/// Returns true if the line contains the word, and the word is not the end of a longer one.
fn has(line: &str, word: &str) -> bool {
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_'))
}

#[test]
fn each_crate_has_one_door() {
    let core = sources(&folder(CORE)).into_iter().map(|source| (source, &DOORS[..]));
    let service = sources(&folder(SERVICE)).into_iter().map(|source| (source, &SERVICE_DOORS[..]));
    for ((name, code), list) in core.chain(service) {
        for (word, doors) in list {
            let found = code.lines().find(|line| !line.trim_start().starts_with("//") && has(line, word));
            assert!(found.is_none() || doors.contains(&&*name), "{name}: {word}: {found:?}");
        }
    }
}

/// A file imports another file if it has a path to it, in a `use` or in its code. A path leads to the file of its last
/// module. So an item that `mod.rs` defines or re-exports is imported from `mod.rs`. A declaration `mod name;` imports
/// nothing. No file may import itself, directly or through others. So if a `mod.rs` uses files of its directory, these
/// files must not use the `mod.rs`.
#[test]
fn files_import_each_other_in_no_circle() {
    for name in [CORE, COMMAND, SERVICE, EXTENSION] {
        let found = circles(&graph(&sources(&folder(name))));
        assert!(found.is_empty(), "{name}: {found:#?}");
    }
}

/// The same rule for the top of each tree, where a directory counts as one file.
#[test]
fn folders_import_each_other_in_no_circle() {
    for name in [CORE, COMMAND, SERVICE, EXTENSION] {
        let found = circles(&rooms(&graph(&sources(&folder(name)))));
        assert!(found.is_empty(), "{name}: {found:#?}");
    }
}

#[test]
fn files_are_short() {
    for name in [EXTENSION, "crates", "tests", "fuzz/src", "fuzz/targets"] {
        let is_code = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "rs");
        for path in files(&folder(name)).iter().filter(is_code) {
            let lines = std::fs::read_to_string(path).unwrap().lines().count();
            let is_data = DATA.iter().any(|data| path.ends_with(data));
            assert!(lines <= MAX_LINES || is_data, "{} has {lines} lines", path.display());
        }
    }
}

#[test]
fn circles_are_found() {
    let found = |files: &[(&str, &str)]| {
        let sources = files.iter().map(|&(name, source)| (name.to_owned(), code(source).to_owned())).collect();
        circles(&graph(&sources))
    };
    let face = ("a/mod.rs", "mod b; pub(crate) use b::B; pub(crate) struct A;");
    assert_eq!(found(&[face, ("a/b.rs", "use super::A;")]), ["a/b.rs -> a/mod.rs -> a/b.rs"]);
    assert!(found(&[("a/mod.rs", "mod b; struct A;"), ("a/b.rs", "use super::A;")]).is_empty());
    // Groups, names of imported modules, and paths in the code.
    let group = ("c.rs", "use crate::{d::{self, D}, e};\nfn f() { d::g(); }");
    assert_eq!(found(&[group, ("d.rs", "fn g() { crate::c::f(); }"), ("e.rs", "")]), ["c.rs -> d.rs -> c.rs"]);
    let short = ("c.rs", "use crate::a;\nfn f() { a::b::g() }");
    assert!(found(&[short, face, ("a/b.rs", "use crate::c::f;")]).contains(&"a/b.rs -> c.rs -> a/b.rs".into()));
    // Comments, literals and tests import nothing.
    let none = "// crate::d::D\nconst S: &str = \"crate::d::D\";\nconst R: &str = r#\"\"crate::d::D\"#;\n";
    let test = "#[cfg(test)]\nmod tests {\n    use crate::d::D;\n}\n";
    assert!(found(&[("c.rs", &format!("{none}{test}")), ("d.rs", "use crate::c::C;")]).is_empty());
}
