//! Models with 8-bit weights are similar to the original, equal to those of onnxruntime, and either complete or absent.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use clip::admin::Weights;
use clip::{Choices, Error, Manifest, Tower, admin, store};
use serde_json::Value;
use support::{Store, fixtures, options};

fn quantize(store: &Store, name: &str, new_name: &str, towers: &[Tower]) -> Result<Manifest, Error> {
    admin::quantize(&store.0, name, new_name, (Weights::Int8, towers), &options(), &mut |_, _, _| {})
}

fn wide() -> Store {
    let store = Store::new();
    store.add(&fixtures().join("models/wide"), "wide", &Choices::default()).unwrap();
    store
}

/// The golden results were computed with VNNI. Without VNNI, ONNX Runtime on x86-64 adds pairs of products in 16 bits,
/// so large sums saturate: docs/operations/models.md.
fn saturates() -> bool {
    std::env::consts::ARCH == "x86_64" && !clip::cpu_features().contains("vnni")
}

/// Returns the lowest allowed cosine to embeddings of the same 8-bit weights.
fn same() -> f64 {
    if saturates() { 0.95 } else { 0.999_99 }
}

/// Returns the lowest allowed cosine to embeddings of the original model.
fn near() -> f64 {
    if saturates() { 0.95 } else { 0.99 }
}

#[test]
fn texts_are_embedded_as_by_onnxruntimes_own_quantised_graph() {
    let store = wide();
    let manifest = quantize(&store, "wide", "fast", &Tower::BOTH).unwrap();
    let original = store::manifest(&store.0, "wide").unwrap();
    assert_eq!(manifest.quantized_from.as_deref(), Some(&*original.digest));
    assert_ne!(manifest.digest, original.digest);
    assert!(manifest.text.graph.alone && manifest.image.graph.alone && manifest.text.natural_length);
    assert!(manifest.size_bytes() < original.size_bytes());
    assert_eq!(store::verify(&store.0, "fast", None, || false), Ok(vec![]));

    let golden = std::fs::read(fixtures().join("golden/quantized.json")).unwrap();
    let golden: Value = serde_json::from_slice(&golden).unwrap();
    let texts = golden["texts"].as_array().unwrap();
    assert!(texts.len() >= 6);
    let (mut exact, mut fast) = (store.open("wide"), store.open("fast"));
    for prepared in [false, true] {
        if prepared {
            assert_eq!(store.prepare("fast"), Ok(true));
            fast = store.open("fast");
        }
        for text in texts {
            let words = text["text"].as_str().unwrap();
            let ours = fast.embed_texts(&[words], &options()).unwrap().remove(0).embedding;
            let theirs: Vec<f64> = text["embedding"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
            let cosine: f64 = ours.as_slice().iter().zip(theirs).map(|(&a, b)| f64::from(a) * b).sum();
            assert!(cosine > same(), "{words:?}: {cosine}");
            let original = exact.embed_texts(&[words], &options()).unwrap().remove(0).embedding;
            let cosine = original.cosine(&ours);
            assert!(cosine > near() && cosine < 0.999_999_9, "{words:?}: {cosine}");
        }
    }
}

#[test]
fn image_embeddings_are_similar_to_the_original_ones_alone_and_in_a_batch() {
    let store = wide();
    quantize(&store, "wide", "fast", &[Tower::Image]).unwrap();
    let (mut exact, mut fast) = (store.open("wide"), store.open("fast"));
    let files: Vec<Vec<u8>> = ["rgb_444.jpg", "tall.png", "palette.png"]
        .map(|file| std::fs::read(fixtures().join("images").join(file)).unwrap())
        .into();
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    let together = fast.embed_images(&files, &options()).unwrap();
    for (file, together) in files.iter().zip(&together) {
        let alone = fast.embed_images(&[file], &options()).unwrap().remove(0);
        assert_eq!(&alone, together);
        assert!(exact.embed_images(&[file], &options()).unwrap()[0].cosine(&alone) > near());
    }
    let text = |model: &mut clip::Model| model.embed_texts(&["a cat"], &options()).unwrap().remove(0).embedding;
    assert!(text(&mut exact).cosine(&text(&mut fast)) > 0.999_999_9, "the text tower is the original's");
}

#[test]
fn external_weights_are_quantized() {
    let store = Store::new();
    store.add(&fixtures().join("families/external"), "external", &Choices::default()).unwrap();
    let manifest = quantize(&store, "external", "fast", &Tower::BOTH).unwrap();
    assert!(manifest.text.graph.data.is_empty() && manifest.image.graph.data.is_empty());
    let text = |name: &str| store.open(name).embed_texts(&["a cat"], &options()).unwrap().remove(0).embedding;
    assert!(text("external").cosine(&text("fast")) > near());
}

#[test]
fn a_rejected_quantization_leaves_nothing() {
    let store = wide();
    let half = Choices { variant: Some("fp16".into()), ..Choices::default() };
    store.add(&fixtures().join("families/half"), "half", &half).unwrap();
    let int8 = Choices { variant: Some("int8".into()), ..Choices::default() };
    store.add(&fixtures().join("families/int8"), "int8", &int8).unwrap();
    let reason = |name: &str| match quantize(&store, name, "fast", &Tower::BOTH) {
        Err(Error::ModelInvalid { reason, .. }) => reason,
        other => panic!("{name}: {other:?}"),
    };
    assert!(reason("half").contains("single precision"), "{}", reason("half"));
    assert!(reason("int8").contains("already"), "{}", reason("int8"));
    assert!(matches!(quantize(&store, "none", "fast", &Tower::BOTH), Err(Error::ModelMissing { .. })));
    assert!(matches!(quantize(&store, "wide", "half", &Tower::BOTH), Err(Error::ModelExists { .. })));
    std::fs::write(store.0.join("wide/onnx/text_model.onnx"), b"another").unwrap();
    assert!(matches!(quantize(&store, "wide", "fast", &Tower::BOTH), Err(Error::ModelChanged { .. })));
    assert_eq!(store::names(&store.0), ["half", "int8", "wide"]);
    assert_eq!(std::fs::read_dir(&store.0).unwrap().count(), 3, "something half-made was left");
}
