//! Test runs of a model with built-in texts and images.

use crate::embedding::Embedding;
use crate::error::{Error, Tower};
use crate::folder::Folder;
use crate::memory::reserve;
use crate::options::Options;
use crate::runtime::library::Runtime;
use crate::runtime::session::{Form, Graph};
use crate::store::manifest::Manifest;
use crate::tokenizer::{self, TextTokenizer};
use crate::tower;

/// Cosine above which two embeddings are the same: kernels for different shapes differ in the last digits.
pub(super) const MIN_COSINE: f64 = 0.999_99;

/// Texts with different embeddings.
pub(super) const PROBES: [&str; 2] = ["a photo of a cat", "two dogs"];

/// Runs a tower of a finished model from its published files. It must return an embedding.
pub(super) fn try_tower(
    folder: Folder<'_>,
    manifest: &Manifest,
    tower: Tower,
    options: &Options,
) -> Result<Embedding, Error> {
    let file = folder.path.join(&manifest.graph(tower).file);
    let runtime = Runtime::load(&options.runtime)?;
    let mut graph = tower::open(manifest, tower, Form::Published(&file), runtime, options)?;
    run_probe(&mut graph, folder, manifest, tower, options)
}

/// Returns the embedding that a tower of a finished model makes of the first probe.
pub(super) fn run_probe(
    graph: &mut Graph,
    folder: Folder<'_>,
    manifest: &Manifest,
    tower: Tower,
    options: &Options,
) -> Result<Embedding, Error> {
    let rows = match tower {
        Tower::Text => {
            let spec = &manifest.text;
            let ids = TextTokenizer::open(folder, spec)?.encode(PROBES[0])?.ids;
            let (ids, mask) = tokenizer::rows(&[&ids], spec.context_length, spec.pad_id, spec.pad_left)?;
            graph.run_texts(1, &ids, &mask, options.interrupted)?
        }
        Tower::Image => {
            let spec = &manifest.image;
            let stripes = stripes(spec.samples())?;
            graph.run_images(1, &stripes, (spec.width, spec.height), options.interrupted)?
        }
    };
    tower::embedding(manifest, rows.iter().next().unwrap_or_default(), tower)
}

/// Returns the tensor of a gray image.
pub(super) fn gray(samples: usize) -> Result<Vec<f32>, Error> {
    let mut gray = reserve(samples)?;
    gray.resize(samples, 0.1);
    Ok(gray)
}

/// Returns the tensor of an image with stripes, which no tower takes for gray.
pub(super) fn stripes(samples: usize) -> Result<Vec<f32>, Error> {
    let mut stripes = reserve(samples)?;
    stripes.extend((0..samples).map(|place| if place % 7 < 3 { 1.0 } else { -0.5 }));
    Ok(stripes)
}
