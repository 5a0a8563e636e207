//! Embeddings equal those of transformers, for models of different shapes; and a model folder that is wrong is refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use clip::{Embedding, Error, Format, Limits, Manifest, Model, Options, Overflow, Tower};
use serde_json::Value;

/// Cosine to the reference, at the least.
const EXACT: f64 = 0.999_9;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

fn options() -> Options {
    Options {
        runtime: std::path::absolute(fixtures().join("../../target/onnxruntime/libonnxruntime.so")).unwrap(),
        threads: 1,
        batch_size: 32,
        overflow: Overflow::Truncate,
        limits: Limits { bytes: 1 << 25, pixels: 64_000_000, formats: Format::ALL.to_vec() },
        interrupted: || false,
    }
}

fn open(name: &str) -> Model {
    Model::open(&fixtures().join("models").join(name), name, || false).unwrap()
}

fn golden(name: &str) -> Value {
    let path = fixtures().join("golden").join(format!("{name}.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn cosine(ours: &Embedding, theirs: &Value) -> f64 {
    let theirs: Vec<f64> = theirs.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
    assert_eq!(ours.as_slice().len(), theirs.len());
    ours.as_slice().iter().zip(theirs).map(|(&a, b)| f64::from(a) * b).sum()
}

/// Embeddings of all golden texts and pictures of a model, in one batch, and each alone.
fn compare(name: &str, folder: &Path, golden: &Value) {
    let mut model = Model::open(folder, name, || false).unwrap();
    let texts = golden["texts"].as_array().unwrap();
    let images = golden["images"].as_array().unwrap();
    assert!(texts.len() >= 12 && images.len() >= 12);

    let inputs: Vec<&str> = texts.iter().map(|text| text["text"].as_str().unwrap()).collect();
    let batch = model.embed_texts(&inputs, &options()).unwrap();
    let mut worst = f64::MAX;
    for ((text, input), together) in texts.iter().zip(inputs).zip(&batch) {
        let alone = model.embed_texts(&[input], &options()).unwrap().remove(0).embedding;
        let reference = cosine(&alone, &text["embedding"]);
        worst = worst.min(reference);
        assert!(reference >= EXACT, "{name}: {input:?}: {reference}");
        assert!(alone.cosine(&together.embedding) > 0.999_999_9, "{name}: {input:?} differs in a batch");
    }
    println!("{name}: worst cosine of a text {worst:.9}");

    let files: Vec<Vec<u8>> = images
        .iter()
        .map(|image| std::fs::read(fixtures().join("images").join(image["file"].as_str().unwrap())).unwrap())
        .collect();
    let inputs: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    let batch = model.embed_images(&inputs, &options()).unwrap();
    let mut worst = f64::MAX;
    for ((image, input), together) in images.iter().zip(inputs).zip(&batch) {
        let alone = model.embed_images(&[input], &options()).unwrap().remove(0);
        let dropped = &image["alpha_dropped"]["embedding"];
        let reference = cosine(&alone, if dropped.is_null() { &image["embedding"] } else { dropped });
        worst = worst.min(reference);
        assert!(reference >= EXACT, "{name}: {}: {reference}", image["file"]);
        assert!(alone.cosine(together) > 0.999_999_9, "{name}: {} differs in a batch", image["file"]);
    }
    println!("{name}: worst cosine of a picture {worst:.9}");
}

#[test]
fn embeddings_are_those_of_transformers() {
    for name in ["wide", "narrow", "bidirectional"] {
        compare(name, &fixtures().join("models").join(name), &golden(name));
    }
}

/// A model of full size, where `PG_CLIP_FULL_SIZE` names its folder: `make test-full-size` makes it.
#[test]
fn embeddings_at_full_size_are_those_of_transformers() {
    let Some(folder) = std::env::var_os("PG_CLIP_FULL_SIZE").map(PathBuf::from) else {
        println!("left out: run it by `make test-full-size`");
        return;
    };
    let golden = serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
    let name = folder.file_name().unwrap().to_str().unwrap();
    compare(name, &folder, &golden);
}

#[test]
fn causal_texts_are_run_at_their_own_length_and_others_padded() {
    assert!(open("wide").manifest().natural_length);
    assert!(open("narrow").manifest().natural_length);
    assert!(!open("bidirectional").manifest().natural_length);
}

#[test]
fn a_long_text_is_cut_or_refused() {
    let mut model = open("narrow");
    let long = "cat ".repeat(40);
    let tokens = model.token_count(&long).unwrap();
    assert!(tokens >= 42);
    assert!(model.embed_texts(&[&long], &options()).is_ok());
    let refuse = Options { overflow: Overflow::Error, ..options() };
    let error = model.embed_texts(&["cat", &long], &refuse).unwrap_err();
    let source = Box::new(Error::TooManyTokens { tokens, limit: 32 });
    assert_eq!(error, Error::Item { index: 1, source });
    assert!(model.embed_texts(&["cat"], &refuse).is_ok());
}

#[test]
fn threads_and_batches_change_no_vector() {
    let image = std::fs::read(fixtures().join("images/rgb_444.jpg")).unwrap();
    let one = open("wide").embed_images(&[&image], &options()).unwrap().remove(0);
    let other = Options { threads: 2, batch_size: 3, ..options() };
    for embedding in open("wide").embed_images(&[&image, &image, &image, &image], &other).unwrap() {
        assert!(one.cosine(&embedding) > 0.999_999_9);
    }
}

#[test]
fn towers_are_loaded_when_needed_and_forgotten_when_asked() {
    let mut model = open("wide");
    assert!(model.usage(Tower::Text).is_none());
    model.embed_texts(&["cat", "dog"], &options()).unwrap();
    let usage = model.usage(Tower::Text).unwrap();
    assert_eq!((usage.calls, usage.items), (1, 2));
    assert!(model.usage(Tower::Image).is_none());
    assert_eq!(model.unload(), 1);
    assert!(model.usage(Tower::Text).is_none());
}

#[test]
fn dark_pictures_that_give_nan_are_refused() {
    let mut model = open("fragile");
    let mut bmp = std::fs::read(fixtures().join("images/rgb.bmp")).unwrap();
    assert!(model.embed_images(&[&bmp], &options()).is_ok());
    bmp[54..].fill(0);
    let source = Box::new(Error::NotAnEmbedding { model: "fragile".into(), tower: Tower::Image });
    assert_eq!(model.embed_images(&[&bmp], &options()), Err(Error::Item { index: 0, source }));
}

#[test]
fn folders_that_cannot_be_used_are_refused_with_the_reason() {
    let examine = |name: &str| {
        Manifest::examine(&fixtures().join("models/broken").join(name), name, None, &options()).unwrap_err()
    };
    let invalid = |name: &str, wrong: &str| match examine(name) {
        Error::ModelInvalid { file, .. } => assert_eq!(file, wrong, "{name}"),
        other => panic!("{name}: {other}"),
    };
    assert_eq!(examine("nan"), Error::NotAnEmbedding { model: "nan".into(), tower: Tower::Image });
    assert_eq!(examine("zero"), Error::NotAnEmbedding { model: "zero".into(), tower: Tower::Text });
    assert!(matches!(examine("wrong_dim"), Error::Inference { tower: Tower::Image, .. }));
    assert!(matches!(examine("no_tokenizer"), Error::ModelFile { file, .. } if file == "tokenizer.json"));
    invalid("no_projection", "text_model.onnx");
    invalid("garbage_graph", "text_model.onnx");
    invalid("bad_json", "config.json");
    invalid("zero_std", "preprocessor_config.json");
}

#[test]
fn a_file_that_changed_is_refused() {
    let folder = std::env::temp_dir().join(format!("pg_clip-changed-{}", std::process::id()));
    let copy = |file: &str| {
        std::fs::copy(fixtures().join("models/bidirectional").join(file), folder.join(file)).unwrap();
    };
    std::fs::create_dir_all(folder.join("onnx")).unwrap();
    for file in ["pg_clip.json", "config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"] {
        copy(file);
    }
    copy("onnx/text_model.onnx");
    std::fs::write(folder.join("onnx/vision_model.onnx"), b"another").unwrap();
    let mut model = Model::open(&folder, "bidirectional", || false).unwrap();
    let error = model.load(Tower::Image, &options()).unwrap_err();
    std::fs::write(folder.join("config.json"), b"{}").unwrap();
    let reopened = Model::open(&folder, "bidirectional", || false).err();
    std::fs::remove_dir_all(&folder).unwrap();
    let changed = |file: &str| Error::ModelChanged { model: "bidirectional".into(), file: file.into() };
    assert_eq!(error, changed("onnx/vision_model.onnx"));
    assert_eq!(reopened, Some(changed("config.json")));
}
