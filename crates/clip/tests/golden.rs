//! Embeddings equal those of transformers, for models of different shapes. Unusable model directories are rejected.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::PathBuf;

use clip::{Choices, Classifier, Embedding, Error, Model, Options, Overflow, Tower, of_one};
use serde_json::Value;
use support::{Store, fixtures, options};

/// The lowest allowed cosine to the reference.
const EXACT: f64 = 0.999_9;

/// The lowest allowed cosine with 8-bit weights and lossy WebP: a difference of one level may change a rounding.
const TIPPED: f64 = 0.999;

/// Returns a fixture model and its store.
fn open(name: &str) -> (Store, Model) {
    let store = Store::new();
    store.add(&fixtures().join("models").join(name), name, &Choices::default()).unwrap();
    let model = store.open(name);
    (store, model)
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

/// Compares the embeddings of a model before and after its preparation.
fn compare(name: &str, store: &Store, golden: &Value) {
    compare_one(name, store.open(name), golden);
    assert_eq!(store.prepare(name), Ok(true), "{name}");
    compare_one(name, store.open(name), golden);
}

/// Compares the embeddings of all golden texts and images of a model, in one batch and alone.
fn compare_one(name: &str, mut model: Model, golden: &Value) {
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
        let file = image["file"].as_str().unwrap();
        let least = if name == "int8" && file.ends_with(".webp") { TIPPED } else { EXACT };
        assert!(reference >= least, "{name}: {}: {reference}", image["file"]);
        assert!(alone.cosine(together) > 0.999_999_9, "{name}: {} differs in a batch", image["file"]);
    }
    println!("{name}: worst cosine of a picture {worst:.9}");
}

#[test]
fn embeddings_are_those_of_transformers() {
    for name in ["wide", "narrow", "bidirectional"] {
        let (store, _) = open(name);
        compare(name, &store, &golden(name));
    }
}

/// Tests a model of full size, if `PG_CLIP_FULL_SIZE` names its directory: `make test-full-size` creates it.
#[test]
fn embeddings_at_full_size_are_those_of_transformers() {
    let Some(folder) = std::env::var_os("PG_CLIP_FULL_SIZE").map(PathBuf::from) else {
        println!("left out: run it by `make test-full-size`");
        return;
    };
    let golden = serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
    let name = folder.file_name().unwrap().to_str().unwrap();
    let store = Store::new();
    store.add(&folder, name, &Choices::default()).unwrap();
    compare(name, &store, &golden);
}

/// Exports of other families and in other layouts: name, variant, and whether short texts can run without padding.
const FAMILIES: [(&str, Option<&str>, bool); 12] = [
    ("siglip", None, false),
    ("siglip2", None, false),
    ("mobileclip", None, false),
    ("chinese_clip", None, true),
    ("altclip", None, true),
    ("pooling", None, true),
    ("combined", None, true),
    ("combined_siglip", None, false),
    ("immich", None, false),
    ("external", None, true),
    ("half", Some("fp16"), true),
    ("int8", Some("int8"), false),
];

#[test]
fn embeddings_of_every_family_are_those_of_the_reference() {
    let store = Store::new();
    for (name, variant, natural_length) in FAMILIES {
        let choices = Choices { variant: variant.map(Into::into), ..Choices::default() };
        let manifest = store.add(&fixtures().join("families").join(name), name, &choices);
        let manifest = manifest.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(manifest.text.natural_length, natural_length, "{name}");
        let golden = golden(&format!("families/{name}"));
        for (ours, theirs) in [(manifest.logit_scale, "logit_scale"), (manifest.logit_bias, "logit_bias")] {
            let theirs = golden[theirs].as_f64();
            assert_eq!(ours.is_some(), theirs.is_some(), "{name}: {ours:?} {theirs:?}");
            let difference = ours.zip(theirs).map_or(0.0, |(ours, theirs)| (ours / theirs - 1.0).abs());
            assert!(difference < 1e-4, "{name}: {ours:?} {theirs:?}");
        }
        compare(name, &store, &golden);
    }
}

/// Converts logits to probabilities: each logit alone if the model has a bias, otherwise all together.
fn probabilities(logits: &Value, biased: bool) -> Vec<f64> {
    let logits: Vec<f64> = logits.as_array().unwrap().iter().map(|logit| logit.as_f64().unwrap()).collect();
    if biased {
        return logits.iter().map(|logit| 1.0 / (1.0 + (-logit).exp())).collect();
    }
    let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
    logits.iter().map(|logit| logit.exp() / sum).collect()
}

fn classifier(model: &mut Model, labels: &[&str], templates: &[&str]) -> Result<Classifier, Error> {
    Classifier::new(&model.manifest().clone(), labels, templates, |texts| {
        let embedded = model.embed_texts(texts, &options()).map_err(of_one)?;
        Ok(embedded.into_iter().map(|text| text.embedding).collect())
    })
}

#[test]
fn probabilities_are_those_of_the_reference() {
    let store = Store::new();
    for name in ["combined", "combined_siglip"] {
        store.add(&fixtures().join("families").join(name), name, &Choices::default()).unwrap();
        let mut model = store.open(name);
        let golden = golden(&format!("families/{name}"));
        let expected = &golden["zero_shot"];
        let words = |name: &str| -> Vec<String> { serde_json::from_value(expected[name].clone()).unwrap() };
        let (labels, templates, files) = (words("labels"), words("templates"), words("files"));
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let templates: Vec<&str> = templates.iter().map(String::as_str).collect();
        let mut worst = [0.0f64; 2];
        for (templates, logits) in [(&["{}"][..], "logits_per_image"), (&templates, "ensemble")] {
            let classifier = classifier(&mut model, &labels, templates).unwrap();
            for (file, logits) in files.iter().zip(expected[logits].as_array().unwrap()) {
                let picture = std::fs::read(fixtures().join("images").join(file)).unwrap();
                let picture = model.embed_images(&[&picture], &options()).unwrap().remove(0);
                let ours = classifier.probabilities(picture.as_slice()).unwrap();
                let theirs = probabilities(logits, golden["logit_bias"].is_number());
                assert_eq!(ours.len(), theirs.len());
                // Decoders of lossy WebP differ by some levels.
                let lossy = file.ends_with(".webp");
                for (ours, theirs) in ours.into_iter().zip(theirs) {
                    let difference = (f64::from(ours) - theirs).abs();
                    assert!(difference < if lossy { 0.02 } else { 1e-5 }, "{name}: {file}: {ours} {theirs}");
                    worst[usize::from(lossy)] = worst[usize::from(lossy)].max(difference);
                }
            }
        }
        println!("{name}: probabilities differ by {:.1e}, of lossy pictures by {:.1e}", worst[0], worst[1]);
    }
}

#[test]
fn labels_that_cannot_be_judged_are_errors() {
    let (_store, mut model) = open("narrow");
    let error = |model: &mut Model, templates: &[&str]| classifier(model, &["a"], templates).err().unwrap();
    assert_eq!(error(&mut model, &["{}"]), Error::NoHead { model: "narrow".into(), lacking: "logit scale" });
    let store = Store::new();
    let scaled = |bias| Choices { logit_scale: Some(20.0), logit_bias: bias, ..Choices::default() };
    store.add(&fixtures().join("models/narrow"), "scaled", &scaled(None)).unwrap();
    assert_eq!(error(&mut store.open("scaled"), &["{}", "a photo"]), Error::TemplateWithoutPlace { index: 1 });
    // Without its bias, SigLIP would be classified as if labels excluded each other.
    store.add(&fixtures().join("families/siglip"), "siglip", &scaled(None)).unwrap();
    assert_eq!(
        error(&mut store.open("siglip"), &["{}"]),
        Error::NoHead { model: "siglip".into(), lacking: "logit bias" }
    );
    store.add(&fixtures().join("families/siglip"), "biased", &scaled(Some(-10.0))).unwrap();
    assert!(classifier(&mut store.open("biased"), &["a"], &["{}"]).is_ok());
}

#[test]
fn causal_texts_are_run_at_their_own_length_and_others_padded() {
    assert!(open("wide").1.manifest().text.natural_length);
    assert!(open("narrow").1.manifest().text.natural_length);
    assert!(!open("bidirectional").1.manifest().text.natural_length);
}

#[test]
fn a_long_text_is_truncated_or_rejected() {
    let (_store, mut model) = open("narrow");
    let long = "cat ".repeat(40);
    let tokens = model.token_count(&long, &options()).unwrap();
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
    let (store, mut model) = open("wide");
    let one = model.embed_images(&[&image], &options()).unwrap().remove(0);
    let other = Options { threads: 2, batch_size: 3, ..options() };
    for embedding in store.open("wide").embed_images(&[&image, &image, &image, &image], &other).unwrap() {
        assert!(one.cosine(&embedding) > 0.999_999_9);
    }
}

#[test]
fn encoders_are_loaded_on_demand_and_unloaded_on_request() {
    let (_store, mut model) = open("wide");
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
    let (_store, mut model) = open("fragile");
    let mut bmp = std::fs::read(fixtures().join("images/rgb.bmp")).unwrap();
    assert!(model.embed_images(&[&bmp], &options()).is_ok());
    bmp[54..].fill(0);
    let source = Box::new(Error::NotAnEmbedding { model: "fragile".into(), tower: Tower::Image });
    assert_eq!(model.embed_images(&[&bmp], &options()), Err(Error::Item { index: 0, source }));
}

#[test]
fn folders_that_cannot_be_used_are_refused_with_the_reason() {
    let store = Store::new();
    let examine =
        |name: &str| store.add(&fixtures().join("models/broken").join(name), name, &Choices::default()).unwrap_err();
    let invalid = |name: &str, wrong: &str| match examine(name) {
        Error::ModelInvalid { file, .. } => assert_eq!(file, wrong, "{name}"),
        other => panic!("{name}: {other}"),
    };
    assert_eq!(examine("nan"), Error::NotAnEmbedding { model: "nan".into(), tower: Tower::Image });
    assert_eq!(examine("zero"), Error::NotAnEmbedding { model: "zero".into(), tower: Tower::Text });
    invalid("wrong_dim", "onnx/vision_model.onnx");
    assert!(matches!(examine("no_tokenizer"), Error::ModelFile { file, .. } if file == "tokenizer.json"));
    invalid("no_projection", "onnx/text_model.onnx");
    invalid("garbage_graph", "onnx/text_model.onnx");
    invalid("bad_json", "config.json");
    invalid("zero_std", "preprocessor_config.json");
    assert_eq!(std::fs::read_dir(&store.0).unwrap().count(), 0, "something half-made was left");
}

#[test]
fn a_file_that_changed_is_refused() {
    let store = Store::new();
    store.add(&fixtures().join("models/bidirectional"), "bidirectional", &Choices::default()).unwrap();
    let folder = store.0.join("bidirectional");
    std::fs::write(folder.join("onnx/vision_model.onnx"), b"another").unwrap();
    let error = store.open("bidirectional").load(Tower::Image, &options()).unwrap_err();
    std::fs::write(folder.join("tokenizer.json"), b"{}").unwrap();
    let text = store.open("bidirectional").embed_texts(&["a"], &options()).unwrap_err();
    std::fs::write(folder.join("config.json"), b"{}").unwrap();
    let reopened = Model::open(&folder, "bidirectional", || false).err();
    let changed = |file: &str| Error::ModelChanged { model: "bidirectional".into(), file: file.into() };
    assert_eq!(error, changed("onnx/vision_model.onnx"));
    assert_eq!(text, changed("tokenizer.json"));
    assert_eq!(reopened, Some(changed("config.json")));
}
