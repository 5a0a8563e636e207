//! A library whose provider is missing next to it is an error. A process of its own, because a process loads one library.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use clip::{Choices, Error, Provider};
use providers::{Store, library};

#[test]
fn a_library_without_the_files_of_the_provider_is_rejected() {
    let store = Store::new(library(Provider::OpenVino));
    std::fs::create_dir_all(&store.path).unwrap();
    let alone = std::env::temp_dir().join(format!("pg_clip-incomplete-{}.so", std::process::id()));
    std::fs::copy(&store.library, &alone).unwrap();
    let store = Store { library: alone.clone(), path: store.path.join("models") };
    store.add("models/emoji", "emoji", &Choices::default());
    let found = store.embed("emoji", Provider::OpenVino);
    std::fs::remove_file(&alone).unwrap();
    match found {
        Err(Error::Provider { provider: Provider::OpenVino, reason }) => {
            assert!(reason.contains("must be in the directory of ONNX Runtime"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert!(store.embed("emoji", Provider::Cpu).is_ok(), "the own kernels can be used");
}
