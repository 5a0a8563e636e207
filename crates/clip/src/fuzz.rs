//! Entry points for the fuzz targets, which expose private functions. Compiled only for fuzzing.
//! An error is a correct result for any bytes. Everything else (an uncaught panic, an abort, memory or time without
//! limit, a failed assertion here) ends the process, and the fuzzer keeps the bytes.

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::folder::Folder;
use crate::import::config::Configuration;
use crate::import::files::TOKENIZER;
use crate::import::tokenizer::describe;
use crate::onnx::file::Onnx;
use crate::pixels::{Format, Limits, image_info, image_tensor};
use crate::recipe::ImageSpec;
use crate::store::manifest::{MANIFEST_FILE, Manifest};
use crate::tokenizer::TextTokenizer;

/// Separates the files in one input. UTF-8 has no such byte.
const END: u8 = 0xff;

/// The files of a configuration, in the order of an input.
const FILES: [&str; 8] = [
    "config.json",
    "preprocessor_config.json",
    "tokenizer_config.json",
    "open_clip_config.json",
    "modules.json",
    "1_Pooling/config.json",
    "processor_config.json",
    "preprocess_cfg.json",
];

/// The model name in the fixtures' manifests.
const MODEL: &str = "wide";

/// Largest image. It is small, because more pixels run the same code and take longer.
const PIXELS: u64 = 1 << 20;

/// Returns the folder of this process.
fn scratch() -> PathBuf {
    static SCRATCH: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let folder = std::env::temp_dir().join(format!("clip-fuzz-{}", std::process::id())).join(MODEL);
        std::fs::create_dir_all(folder.join("1_Pooling")).expect("a folder to write to");
        folder
    };
    SCRATCH.get_or_init(make).clone()
}

fn fixtures() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/models").into()
}

fn limits() -> Limits {
    Limits { bytes: 1 << 22, pixels: PIXELS, formats: Format::ALL.to_vec() }
}

pub fn header(bytes: &[u8]) {
    if let Ok(info) = image_info(bytes, &limits()) {
        assert!(u64::from(info.width) * u64::from(info.height) <= PIXELS);
        assert!(info.width > 0 && info.height > 0 && info.frames > 0);
        assert!((1..=8).contains(&info.orientation));
    }
}

pub fn image(bytes: &[u8]) {
    static SPEC: OnceLock<ImageSpec> = OnceLock::new();
    let spec = SPEC.get_or_init(|| {
        let path = fixtures().join(MODEL);
        Configuration::read(folder(&path)).expect("a fixture").image
    });
    if let Ok(tensor) = image_tensor(bytes, spec, &limits()) {
        assert_eq!(tensor.len(), spec.samples());
        assert!(tensor.iter().all(|sample| sample.abs() < 3.0));
        assert!(image_info(bytes, &limits()).is_ok());
    }
}

fn folder(path: &std::path::Path) -> Folder<'_> {
    Folder { path, model: MODEL }
}

fn write(name: &str, bytes: &[u8]) {
    std::fs::write(scratch().join(name), bytes).expect("a file to write to");
}

/// Copies a file of a fixture next to the fuzzed ones.
fn lend(name: &str) {
    let file = scratch().join(name);
    if !file.exists() {
        std::fs::copy(fixtures().join(MODEL).join(name), file).expect("a fixture's file");
    }
}

pub fn manifest(bytes: &[u8]) {
    let path = scratch();
    write(MANIFEST_FILE, bytes);
    drop(Manifest::read(folder(&path)));
    let Some(sealed) = Manifest::mended(bytes, MODEL) else { return };
    write(MANIFEST_FILE, sealed.to_json().expect("what was read can be written").as_bytes());
    if let Ok(read) = Manifest::read(folder(&path)) {
        assert_eq!(read, sealed);
        read.size_bytes();
    }
}

pub fn config(bytes: &[u8]) {
    for (name, file) in FILES.into_iter().zip(bytes.split(|&byte| byte == END).chain(std::iter::repeat(&[][..]))) {
        match file {
            [] => drop(std::fs::remove_file(scratch().join(name))),
            file => write(name, file),
        }
    }
    let path = scratch();
    lend(TOKENIZER);
    if let Ok(config) = Configuration::read(folder(&path)) {
        let defect = config.image.defect();
        if let Ok((spec, _)) = describe(folder(&path), &config)
            && defect.is_none()
        {
            drop(TextTokenizer::open(folder(&path), &spec));
        }
    }
}

pub fn text(bytes: &[u8]) {
    static TOKENIZERS: OnceLock<Vec<TextTokenizer>> = OnceLock::new();
    let open = |name| {
        let path = fixtures().join(name);
        let config = Configuration::read(folder(&path)).expect("a fixture");
        let (spec, _) = describe(folder(&path), &config).expect("a fixture");
        TextTokenizer::open(folder(&path), &spec).expect("a fixture")
    };
    let tokenizers = TOKENIZERS.get_or_init(|| ["wide", "narrow", "bidirectional"].map(open).into());
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for tokenizer in tokenizers {
        let encoded = tokenizer.encode(text).expect("any text can be tokenised");
        assert!(encoded.ids.len() <= encoded.count);
    }
}

pub fn tokenizer(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |&byte| byte == END);
    write(TOKENIZER, parts.next().unwrap_or_default());
    lend("config.json");
    lend("preprocessor_config.json");
    let path = scratch();
    let Ok(config) = Configuration::read(folder(&path)) else { return };
    let Ok((spec, _)) = describe(folder(&path), &config) else { return };
    let text = String::from_utf8_lossy(parts.next().unwrap_or(b"a red bicycle"));
    if let Ok(tokens) = TextTokenizer::open(folder(&path), &spec)
        && let Ok(encoded) = tokens.encode(&text)
    {
        assert!(encoded.ids.len() <= encoded.count);
    }
}

pub fn graph(bytes: &[u8]) {
    if let Ok(onnx) = Onnx::parse(bytes.to_vec()) {
        drop(onnx.facts());
        drop(onnx.part(&["text_embeds"]));
    }
}
