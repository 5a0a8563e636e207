//! Test runs of a model with built-in texts and images.

use crate::embedding::Embedding;
use crate::error::{Error, Tower};
use crate::folder::Folder;
use crate::memory::reserve;
use crate::options::Options;
use crate::recipe::ImageSpec;
use crate::runtime::library::Runtime;
use crate::runtime::rows::Rows;
use crate::runtime::session::{Form, Graph};
use crate::store::manifest::Manifest;
use crate::threads::Interrupted;
use crate::tokenizer::{self, TextTokenizer};
use crate::tower;

/// Cosine above which two embeddings are the same: kernels for different shapes differ in the last digits.
pub(crate) const MIN_COSINE: f64 = 0.999_99;

/// Texts with different embeddings.
pub(crate) const PROBES: [&str; 2] = ["a photo of a cat", "two dogs"];

/// Texts to compare models and execution providers with, if the user names none.
pub const SAMPLE_TEXTS: [&str; 16] = [
    "a red car",
    "a small dog on a sofa",
    "two people walking on the beach",
    "a bowl of soup",
    "a city at night",
    "a child with a blue balloon",
    "a wooden chair",
    "an old stone bridge over a river",
    "a white cat",
    "a mountain lake in autumn",
    "a pair of running shoes",
    "a bunch of flowers in a vase",
    "a football match",
    "an aeroplane in the sky",
    "a slice of cake",
    "a dark forest",
];

/// Further texts for execution providers: none, and one that most models truncate or nearly fill.
const ODD_TEXTS: [&str; 2] =
    ["", "Two people are walking on the beach. One of them has a blue balloon, the other one a small white dog."];

/// Drawn images: the periods of their waves along a row and along a column, in pixels.
const WAVES: [(u32, u32); 4] = [(7, 11), (16, 90), (53, 24), (200, 160)];

/// Runs a tower of a finished model from its published files. It must return an embedding.
pub(crate) fn try_tower(
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
pub(crate) fn run_probe(
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

/// Returns the embeddings that a tower makes of built-in samples: of each one, and of all in one run if the model allows
/// that.
pub(crate) fn embed(
    graph: &mut Graph,
    folder: Folder<'_>,
    manifest: &Manifest,
    tower: Tower,
    interrupted: Interrupted,
) -> Result<Vec<Embedding>, Error> {
    let mut embeddings = Vec::new();
    let mut add = |rows: &Rows| -> Result<(), Error> {
        for row in rows.iter() {
            embeddings.push(tower::embedding(manifest, row, tower)?);
        }
        Ok(())
    };
    let together = !manifest.graph(tower).alone;
    match tower {
        Tower::Text => {
            let spec = &manifest.text;
            let tokens = TextTokenizer::open(folder, spec)?;
            let texts = SAMPLE_TEXTS.into_iter().chain(ODD_TEXTS).map(|text| Ok(tokens.encode(text)?.ids));
            let texts = texts.collect::<Result<Vec<_>, Error>>()?;
            let mut run = |texts: &[&[u32]]| {
                let longest = texts.iter().map(|ids| ids.len()).max().unwrap_or(0);
                let length = if spec.natural_length { longest } else { spec.context_length };
                let (ids, mask) = tokenizer::rows(texts, length, spec.pad_id, spec.pad_left)?;
                add(&graph.run_texts(texts.len(), &ids, &mask, interrupted)?)
            };
            let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
            texts.iter().try_for_each(|text| run(&[text]))?;
            if together {
                run(&texts)?;
            }
        }
        Tower::Image => {
            let spec = &manifest.image;
            let mut images = vec![gray(spec.samples())?, stripes(spec.samples())?];
            for periods in WAVES {
                images.push(waves(spec, periods)?);
            }
            let mut run = |images: usize, pixels: &[f32]| {
                add(&graph.run_images(images, pixels, (spec.width, spec.height), interrupted)?)
            };
            images.iter().try_for_each(|image| run(1, image))?;
            if together {
                run(images.len(), &images.concat())?;
            }
        }
    }
    Ok(embeddings)
}

/// Returns the tensor of a gray image.
pub(crate) fn gray(samples: usize) -> Result<Vec<f32>, Error> {
    let mut gray = reserve(samples)?;
    gray.resize(samples, 0.1);
    Ok(gray)
}

/// Returns the tensor of an image with stripes, which no tower takes for gray.
pub(crate) fn stripes(samples: usize) -> Result<Vec<f32>, Error> {
    let mut stripes = reserve(samples)?;
    stripes.extend((0..samples).map(|place| if place % 7 < 3 { 1.0 } else { -0.5 }));
    Ok(stripes)
}

/// Returns the tensor of an image of colored waves.
fn waves(spec: &ImageSpec, (along, down): (u32, u32)) -> Result<Vec<f32>, Error> {
    let mut waves = reserve(spec.samples())?;
    for channel in 0..3 {
        for y in 0..spec.height {
            for x in 0..spec.width {
                let turns = x as f32 / along as f32 + y as f32 / (down + 5 * channel) as f32 + 0.3 * channel as f32;
                waves.push(0.5 + 0.5 * (std::f32::consts::TAU * turns).sin());
            }
        }
    }
    Ok(waves)
}
