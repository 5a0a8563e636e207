//! CUDA gives the embeddings of ONNX Runtime's own kernels, or is rejected. Needs a GPU: `make test-cuda` runs it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use clip::{Choices, Provider};
use providers::{Store, least_cosine, library};

#[test]
fn models_have_the_same_embeddings() {
    let store = Store::new(library(Provider::Cuda));
    store.add("models/emoji", "emoji", &Choices::default());
    store.round("emoji", "small");
    for (name, bound) in [("emoji", 0.999_99), ("small", 0.999_5)] {
        let [cpu, cuda] = [Provider::Cpu, Provider::Cuda].map(|provider| store.embed(name, provider).unwrap());
        let least = least_cosine(&cpu, &cuda);
        assert!(least >= bound, "{name}: {least}");
    }
}
