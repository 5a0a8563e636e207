//! OpenVINO gives the embeddings of ONNX Runtime's own kernels, or is rejected.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::Cell;

use clip::{Choices, Error, Provider, Tower, has_bf16};
use providers::{Store, least_cosine, library, options};

/// The models of the fixtures that have both towers in files of their own, with their variants.
const MODELS: [(&str, Option<&str>); 12] = [
    ("models/emoji", None),
    ("tests/fixtures/models/wide", None),
    ("tests/fixtures/models/narrow", None),
    ("tests/fixtures/families/altclip", None),
    ("tests/fixtures/families/chinese_clip", None),
    ("tests/fixtures/families/combined", None),
    ("tests/fixtures/families/external", None),
    ("tests/fixtures/families/half", Some("fp16")),
    ("tests/fixtures/families/immich", None),
    ("tests/fixtures/families/mobileclip", None),
    ("tests/fixtures/families/pooling", None),
    ("tests/fixtures/families/siglip2", None),
];

fn store() -> Store {
    Store::new(library(Provider::OpenVino))
}

#[test]
fn models_of_single_precision_have_the_same_embeddings() {
    for (folder, variant) in MODELS {
        let store = store();
        store.add(folder, "photos", &Choices { variant: variant.map(Into::into), ..Choices::default() });
        let [cpu, openvino] =
            [Provider::Cpu, Provider::OpenVino].map(|provider| store.embed("photos", provider).unwrap());
        let least = least_cosine(&cpu, &openvino);
        assert!(least > 0.999_99, "{folder}: {least}");
    }
}

/// A bf16 model has nearly the same embeddings with both providers, and on processors without bf16 units. A model that
/// loses more is rejected when it is loaded: the weights of `mobileclip` are random, and unusually wide.
#[test]
fn bf16_models_have_nearly_the_same_embeddings_with_both_providers() {
    let mut rejected = Vec::new();
    for (folder, _) in MODELS.into_iter().filter(|(_, variant)| variant.is_none()) {
        let store = store();
        store.add(folder, "photos", &Choices::default());
        store.round("photos", "small");
        let [original, cpu] = ["photos", "small"].map(|name| store.embed(name, Provider::Cpu).unwrap());
        let openvino = match store.embed("small", Provider::OpenVino) {
            Err(Error::Provider { reason, .. }) => {
                println!("{folder}: {reason}");
                rejected.push(folder);
                continue;
            }
            other => other.unwrap(),
        };
        let (both, weights, all) =
            (least_cosine(&cpu, &openvino), least_cosine(&cpu, &original), least_cosine(&openvino, &original));
        println!("{folder}: between providers {both:.6}; to fp32: cpu {weights:.6}, openvino {all:.6}");
        assert!(both >= 0.999_5, "{folder}: {both}");
        // The products are in bf16 too, not only the weights.
        assert_eq!(both < 0.999_999, has_bf16(), "{folder}: {both}");
    }
    assert!(rejected.iter().all(|&folder| folder.ends_with("mobileclip")), "{rejected:?}");
}

#[test]
fn quantized_models_have_the_same_embeddings() {
    let store = store();
    let int8 = Choices { variant: Some("int8".into()), ..Choices::default() };
    store.add("tests/fixtures/families/int8", "fast", &int8);
    let [cpu, openvino] = [Provider::Cpu, Provider::OpenVino].map(|provider| store.embed("fast", provider).unwrap());
    assert!(least_cosine(&cpu, &openvino) > 0.999_5);
}

/// A bf16 product loses everything in the text tower of `canceling`: it adds a large number and subtracts it again.
#[test]
fn a_provider_that_gives_other_embeddings_is_rejected() {
    let store = store();
    store.add("tests/fixtures/models/canceling", "photos", &Choices::default());
    assert!(store.embed("photos", Provider::OpenVino).is_ok());
    store.round("photos", "small");
    let expected = store.embed("small", Provider::Cpu).unwrap();
    let mut model = store.open("small");
    let options = options(&store.library, Provider::OpenVino);
    if !has_bf16() {
        assert_eq!(model.load(Tower::Text, &options), Ok(()));
        return;
    }
    match model.load(Tower::Text, &options) {
        Err(Error::Provider { provider: Provider::OpenVino, reason }) => {
            assert!(reason.contains("text tower of model \"small\" gives other embeddings"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert!(model.usage(Tower::Text).is_none());
    assert_eq!(model.load(Tower::Image, &options), Ok(()), "the other tower can be used");
    assert_eq!(store.embed("small", Provider::Cpu).unwrap(), expected);
}

/// The interrupt check of this thread, which each run calls once at its begin. Another thread calls it during the run.
fn counted() -> bool {
    CHECKS.set(CHECKS.get() + 1);
    false
}

thread_local! {
    static CHECKS: Cell<usize> = const { Cell::new(0) };
}

/// Each thread of the service has a session of its own. No other test uses this model.
#[test]
fn a_tower_is_compared_once_in_a_process() {
    let store = store();
    store.add("tests/fixtures/models/fragile", "photos", &Choices::default());
    let options = clip::Options { interrupted: counted, ..options(&store.library, Provider::OpenVino) };
    let checks = || {
        let before = CHECKS.get();
        store.open("photos").load_tower(Tower::Text, &options).unwrap();
        CHECKS.get() - before
    };
    let loads = [checks(), checks(), checks()];
    assert_eq!(loads[1], loads[2]);
    // Each provider runs 18 texts one at a time, and then together.
    assert!(loads[0] >= loads[1] + 2 * 19, "{loads:?}");
}
