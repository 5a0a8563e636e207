//! The common parts of these tests: the libraries with other execution providers, and temporary model directories.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use clip::admin::{self, Weights};
use clip::{Choices, Embedding, Error, Format, Limits, Model, Options, Overflow, Provider, Tower};

/// The root of the sources.
pub fn root() -> PathBuf {
    std::path::absolute(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap()
}

/// Returns the library with a provider. A missing one fails the test, because `make test` does not run it.
pub fn library(provider: Provider) -> PathBuf {
    let path = root().join("target").join(provider.name()).join("libonnxruntime.so");
    assert!(path.exists(), "there is no {}: see docs/project/testing.md", path.display());
    path
}

/// Returns options for one thread.
pub fn options(library: &Path, provider: Provider) -> Options {
    Options {
        runtime: library.into(),
        provider,
        prepared: None,
        threads: 1,
        batch_size: 32,
        overflow: Overflow::Truncate,
        limits: Limits { bytes: 1 << 25, pixels: 64_000_000, formats: Format::ALL.to_vec() },
        interrupted: || false,
    }
}

/// A temporary model directory. Dropping it removes the directory.
pub struct Store {
    pub path: PathBuf,
    pub library: PathBuf,
}

impl Store {
    pub fn new(library: PathBuf) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pg_clip-providers-{}-{number}", std::process::id()));
        Self { path, library }
    }

    /// Installs a model from a directory of the sources.
    pub fn add(&self, folder: &str, name: &str, choices: &Choices) {
        let options = options(&self.library, Provider::Cpu);
        admin::add(&root().join(folder), &self.path, name, choices, &options, &mut |_, _, _| {}).unwrap();
    }

    /// Makes a model with bf16 weights of another one.
    pub fn round(&self, name: &str, new_name: &str) {
        let options = options(&self.library, Provider::Cpu);
        let made = (Weights::Bf16, &Tower::BOTH[..]);
        admin::quantize(&self.path, name, new_name, made, &options, &mut |_, _, _| {}).unwrap();
    }

    pub fn open(&self, name: &str) -> Model {
        Model::open(&self.path.join(name), name, || false).unwrap()
    }

    /// Returns the embeddings of some texts and images, one per run and then together.
    pub fn embed(&self, name: &str, provider: Provider) -> Result<Vec<Embedding>, Error> {
        let options = options(&self.library, provider);
        let mut model = self.open(name);
        let texts = ["a red car", "two dogs on a sofa", "", "night"];
        let images = ["rgb_444.jpg", "tall.png", "palette.png"];
        let images = images.map(|file| std::fs::read(root().join("tests/fixtures/images").join(file)).unwrap());
        let images = images.each_ref().map(Vec::as_slice);
        let mut embeddings = Vec::new();
        for text in texts {
            embeddings.push(model.embed_texts(&[text], &options)?.remove(0).embedding);
        }
        embeddings.extend(model.embed_texts(&texts, &options)?.into_iter().map(|text| text.embedding));
        for image in images {
            embeddings.push(model.embed_images(&[image], &options)?.remove(0));
        }
        embeddings.extend(model.embed_images(&images, &options)?);
        Ok(embeddings)
    }
}

/// Returns the lowest cosine between embeddings of the same samples.
pub fn least_cosine(one: &[Embedding], other: &[Embedding]) -> f64 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).map(|(one, other)| one.cosine(other)).fold(1.0, f64::min)
}

impl Drop for Store {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.path).ok();
    }
}
