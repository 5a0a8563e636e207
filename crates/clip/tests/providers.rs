//! ONNX Runtime's own kernels are the default, and compute bf16 models too. A provider that the library lacks is an error,
//! and changes nothing. `make test-providers` tests the other providers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use clip::admin::{self, Weights};
use clip::{Choices, Embedding, Error, Manifest, Model, Options, Precision, Provider, Tower, store};
use support::{Store, fixtures, options};

fn emoji() -> Store {
    let store = Store::new();
    store.add(&fixtures().join("../../models/emoji"), "emoji", &Choices::default()).unwrap();
    store
}

fn with(provider: Provider) -> Options {
    Options { provider, ..options() }
}

#[test]
fn a_provider_that_the_library_lacks_is_an_error_and_the_loaded_tower_stays() {
    let store = emoji();
    let mut model = store.open("emoji");
    let text =
        |model: &mut Model, options: &Options| Ok(model.embed_texts(&["a red car"], options)?.remove(0).embedding);
    let expected = text(&mut model, &options()).unwrap();
    let loaded_at = model.usage(Tower::Text).unwrap().loaded_at;
    for provider in [Provider::OpenVino, Provider::Cuda] {
        let rejected: Result<_, Error> = text(&mut model, &with(provider));
        match rejected {
            Err(Error::Provider { provider: named, reason }) => {
                assert_eq!(named, provider);
                assert!(reason.contains("built without it"), "{reason}");
            }
            other => panic!("{provider}: {other:?}"),
        }
        assert!(matches!(model.load(Tower::Image, &with(provider)), Err(Error::Provider { .. })), "{provider}");
        assert!(
            matches!(clip::check_provider(provider, &options().runtime), Err(Error::Provider { .. })),
            "{provider}"
        );
        assert!(model.usage(Tower::Image).is_none());
    }
    assert_eq!(clip::check_provider(Provider::Cpu, &options().runtime), Ok(()));
    assert_eq!(text(&mut model, &with(Provider::default())).unwrap().as_slice(), expected.as_slice());
    assert_eq!(model.usage(Tower::Text).unwrap().loaded_at, loaded_at);
}

fn round(store: &Store, name: &str, new_name: &str, towers: &[Tower]) -> Result<Manifest, Error> {
    admin::quantize(&store.0, name, new_name, (Weights::Bf16, towers), &options(), &mut |_, _, _| {})
}

/// Returns the embeddings of some texts, one per run.
fn texts(store: &Store, name: &str) -> Vec<Embedding> {
    let mut model = store.open(name);
    let texts = ["a red car", "two dogs on a sofa", "", "night"];
    texts.map(|text| model.embed_texts(&[text], &options()).unwrap().remove(0).embedding).into()
}

fn images(store: &Store, name: &str) -> Vec<Embedding> {
    let files = ["rgb_444.jpg", "tall.png", "palette.png"];
    let files = files.map(|file| std::fs::read(fixtures().join("images").join(file)).unwrap());
    store.open(name).embed_images(&files.each_ref().map(Vec::as_slice), &options()).unwrap()
}

#[test]
fn a_bf16_model_is_a_model_of_its_own_that_the_default_provider_computes() {
    let store = emoji();
    let original = store::manifest(&store.0, "emoji").unwrap();
    let manifest = round(&store, "emoji", "small", &Tower::BOTH).unwrap();
    assert_eq!(manifest.quantized_from.as_deref(), Some(&*original.digest));
    assert_ne!(manifest.digest, original.digest);
    for (new, old) in [(&manifest.text.graph, &original.text.graph), (&manifest.image.graph, &original.image.graph)] {
        assert_eq!((new.precision, old.precision), (Precision::Bf16, Precision::Single));
        assert_eq!((new.alone, &new.output), (old.alone, &old.output));
    }
    assert!(manifest.size_bytes() * 10 < original.size_bytes() * 8, "{}", manifest.size_bytes());
    assert_eq!(store::verify(&store.0, "small", None, || false), Ok(vec![]));
    for prepared in [false, true] {
        if prepared {
            assert_eq!(store.prepare("small"), Ok(true));
        }
        for embeddings in [texts, images] {
            for (exact, small) in embeddings(&store, "emoji").iter().zip(embeddings(&store, "small")) {
                let cosine = exact.cosine(&small);
                // The weights have 8 bits, and the products are in fp32.
                assert!(cosine > 0.999_9 && cosine < 0.999_999_9, "{cosine}");
            }
        }
    }
}

#[test]
fn one_tower_can_be_rounded_and_the_other_one_stays_the_same() {
    let store = emoji();
    let manifest = round(&store, "emoji", "small", &[Tower::Image]).unwrap();
    assert_eq!((manifest.text.graph.precision, manifest.image.graph.precision), (Precision::Single, Precision::Bf16));
    assert_eq!(texts(&store, "small"), texts(&store, "emoji"));
    assert_ne!(images(&store, "small"), images(&store, "emoji"));
}

#[test]
fn what_cannot_be_rounded_is_rejected() {
    let store = emoji();
    for (family, variant, expected) in [("half", "fp16", "single precision"), ("int8", "int8", "already")] {
        let choices = Choices { variant: Some(variant.into()), ..Choices::default() };
        store.add(&fixtures().join("families").join(family), family, &choices).unwrap();
        match round(&store, family, "small", &Tower::BOTH) {
            Err(Error::ModelInvalid { reason, .. }) => assert!(reason.contains(expected), "{reason}"),
            other => panic!("{family}: {other:?}"),
        }
    }
    round(&store, "emoji", "small", &Tower::BOTH).unwrap();
    assert!(matches!(round(&store, "small", "again", &Tower::BOTH), Err(Error::ModelInvalid { .. })));
    assert_eq!(store::names(&store.0), ["emoji", "half", "int8", "small"]);
}
