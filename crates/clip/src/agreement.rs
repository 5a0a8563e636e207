//! The comparison of an execution provider with ONNX Runtime's own kernels, before it computes a tower for the first time.
//!
//! Invariant: a tower that another provider computes has given in this process, for built-in samples, the embeddings of
//! [`Provider::Cpu`].

use std::sync::Mutex;

use crate::embedding::Embedding;
use crate::error::{Error, Tower};
use crate::folder::Folder;
use crate::options::Options;
use crate::provider::Provider;
use crate::runtime::library::Runtime;
use crate::runtime::session::{Form, Graph};
use crate::samples;
use crate::store::manifest::Manifest;
use crate::threads::unpoisoned;
use crate::tower;

/// The lowest cosine between the embeddings of a provider and those of [`Provider::Cpu`]. In bf16, those of the models
/// that were measured have 0.9999.
const MIN_COSINE: f64 = 0.999_5;

/// The towers that have given the embeddings of [`Provider::Cpu`]. The process has one library.
static AGREED: Mutex<Vec<Agreed>> = Mutex::new(Vec::new());

/// A tower of a model, which its digest names, and the way in which it was computed.
#[derive(PartialEq, Eq)]
struct Agreed {
    digest: String,
    tower: Tower,
    provider: Provider,
    threads: usize,
}

/// Opens a tower with the provider of the options, or rejects the provider for this tower.
///
/// The published graph is used: a prepared one has operators that only ONNX Runtime's own kernels know.
pub(crate) fn open(
    folder: Folder<'_>,
    manifest: &Manifest,
    tower: Tower,
    runtime: &Runtime,
    options: &Options,
) -> Result<Graph, Error> {
    let (provider, interrupted) = (options.provider, options.interrupted);
    let rejected = |reason: String| Error::Provider { provider, reason };
    let of_provider = |error| match error {
        kept @ (Error::Provider { .. } | Error::Interrupted | Error::OutOfMemory { .. }) => kept,
        other => rejected(other.to_string()),
    };
    let file = folder.path.join(&manifest.graph(tower).file);
    let open = || tower::open(manifest, tower, Form::Published(&file), runtime, options).map_err(of_provider);

    let agreed = Agreed { digest: manifest.digest.clone(), tower, provider, threads: options.threads };
    if unpoisoned(&AGREED).contains(&agreed) {
        tower::verify(folder, manifest, tower, options)?;
        return open();
    }
    let cpu = Options { provider: Provider::Cpu, ..options.clone() };
    let mut graph = tower::open_published(folder, manifest, tower, runtime, &cpu)?;
    let expected = samples::embed(&mut graph, folder, manifest, tower, interrupted)?;
    // The memory of one graph is enough for both.
    drop(graph);

    let mut graph = open()?;
    let found = samples::embed(&mut graph, folder, manifest, tower, interrupted).map_err(of_provider)?;
    match least_cosine(&expected, &found) {
        least if least >= MIN_COSINE => {
            unpoisoned(&AGREED).push(agreed);
            Ok(graph)
        }
        least => Err(rejected(format!(
            "the {} tower of model \"{}\" gives other embeddings than with \"{}\": the lowest cosine is {least:.5}, at \
             least {MIN_COSINE} is needed",
            tower.name(),
            manifest.name,
            Provider::Cpu
        ))),
    }
}

/// Returns the lowest cosine between embeddings of the same samples, or 0 if a sample is missing.
fn least_cosine(expected: &[Embedding], found: &[Embedding]) -> f64 {
    let cosines = expected.iter().zip(found).map(|(one, other)| one.cosine(other));
    if expected.len() == found.len() { cosines.fold(1.0, f64::min) } else { 0.0 }
}
