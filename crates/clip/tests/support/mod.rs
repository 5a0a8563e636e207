//! The common parts of this crate's tests: the fixtures, and temporary model directories.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use clip::{Choices, Error, Format, Limits, Manifest, Model, Options, Overflow, Provider, admin};

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

pub fn options() -> Options {
    Options {
        runtime: std::path::absolute(fixtures().join("../../target/onnxruntime/libonnxruntime.so")).unwrap(),
        provider: Provider::Cpu,
        prepared: None,
        threads: 1,
        batch_size: 32,
        overflow: Overflow::Truncate,
        limits: Limits { bytes: 1 << 25, pixels: 64_000_000, formats: Format::ALL.to_vec() },
        interrupted: || false,
    }
}

/// A temporary model directory. Dropping it removes the directory.
pub struct Store(pub PathBuf);

impl Store {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("pg_clip-store-{}-{number}", std::process::id())))
    }

    pub fn add(&self, folder: &Path, name: &str, choices: &Choices) -> Result<Manifest, Error> {
        admin::add(folder, &self.0, name, choices, &options(), &mut |_, _, _| {})
    }

    /// Prepares a model, and returns whether anything was missing.
    pub fn prepare(&self, name: &str) -> Result<bool, Error> {
        admin::prepare(&self.0, name, &options())
    }

    pub fn open(&self, name: &str) -> Model {
        Model::open(&self.0.join(name), name, || false).unwrap()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
