//! What a model is, found out by running it. Happens once, when it is added; the manifest pins the answer.

use std::collections::BTreeSet;

use crate::admin::logit_scale::Logits;
use crate::embedding::Embedding;
use crate::error::{Error, Tower};
use crate::folder::Folder;
use crate::import::config::Configuration;
use crate::import::layout::{Layout, beside};
use crate::memory::reserve;
use crate::model::Options;
use crate::onnx::Onnx;
use crate::recipe::{GraphSpec, Pooling};
use crate::runtime::{Form, Graph, Output, Rows, Runtime};
use crate::store::manifest::{Manifest, Source, digest_file, shown};
use crate::tokenizer::{self, TextTokenizer};

/// What an administrator decides about a model that is added. Nothing means: what the folder says.
#[derive(Clone, Debug, Default)]
pub struct Choices {
    /// Which of several exports: `fp16`, `int8`, `quantized`, ….
    pub variant: Option<String>,
    pub text: TowerChoices,
    pub image: TowerChoices,
    /// Pictures are not turned upright by their EXIF orientation.
    pub ignore_exif_orientation: bool,
    /// Learned factor and summand of the cosine, where no file has them.
    pub logit_scale: Option<f64>,
    pub logit_bias: Option<f64>,
    pub license: Option<String>,
    pub source: Option<Source>,
}

#[derive(Clone, Debug, Default)]
pub struct TowerChoices {
    /// Path of the graph within the folder.
    pub graph: Option<String>,
    /// The output that is meant.
    pub output: Option<String>,
    /// How one row is made of it, if it has a row per token or patch.
    pub pooling: Option<Pooling>,
}

impl Choices {
    /// Take over what was learned, where nothing else was said.
    pub(crate) fn learn(&mut self, found: Option<Logits>) {
        if let Some((scale, bias)) = found {
            self.logit_scale = self.logit_scale.or(Some(scale));
            self.logit_bias = self.logit_bias.or(bias);
        }
    }
}

/// Equal to the last digits that differ between kernels for different shapes.
pub(crate) const SAME: f64 = 0.999_99;

const PROBES: [&str; 2] = ["a photo of a cat", "two dogs"];

/// What is known of a tower's graph before it is run.
struct Probe<'a> {
    folder: Folder<'a>,
    family: &'a str,
    choices: &'a TowerChoices,
    pooling: Option<Pooling>,
    options: &'a Options,
}

/// Examine a folder that has one graph per tower, and describe it.
///
/// Both towers must give finite vectors of one dimension.
pub(crate) fn examine(
    folder: Folder<'_>,
    config: Configuration,
    layout: &Layout,
    choices: &Choices,
    options: &Options,
) -> Result<Manifest, Error> {
    let (mut text, tokenizer_files) = tokenizer::describe(folder, &config)?;
    let mut image = config.image.clone();
    image.exif_orientation = !choices.ignore_exif_orientation;
    let probe = |choices, pooling| Probe { folder, family: &config.family, choices, pooling, options };

    let (mut graph, spec) = probe(&choices.text, config.pooling).open(&layout.text, Tower::Text)?;
    text.graph = spec;
    let shape = graph.input_shape();
    if let Some(&Some(length)) = shape.get(1) {
        text.context_length = length;
    }
    text.graph.alone |= is_single(&shape, folder, &layout.text)?;
    let tokens = TextTokenizer::open(folder, &text)?;
    let dimensions = {
        let mut run = |texts: &[&[u32]], length: usize| {
            let (ids, mask) = tokenizer::rows(texts, length, text.pad_id, text.pad_left)?;
            let rows = graph.run_texts(texts.len(), &ids, &mask, options.interrupted)?;
            embeddings(&rows, folder, Tower::Text)
        };
        let [one, other] = PROBES.map(|probe| tokens.encode(probe).map(|encoded| encoded.ids));
        let (one, other) = (one?, other?);
        let padded =
            [run(&[&one], text.context_length)?, run(&[&other], text.context_length)?].map(|mut row| row.remove(0));
        // A graph of one length refuses any other; one that looks at the padding gives another embedding.
        text.natural_length = [&one, &other].into_iter().zip(&padded).all(|(ids, padded)| {
            run(&[ids.as_slice()], ids.len()).is_ok_and(|natural| natural[0].cosine(padded) > SAME)
        });
        if !text.graph.alone {
            let together = run(&[&one, &other], text.context_length);
            text.graph.alone = !together.is_ok_and(|together| together[0].cosine(&padded[0]) > SAME);
        }
        padded[0].as_slice().len()
    };
    if config.dimensions.is_some_and(|expected| expected != dimensions) {
        let reason = format!("it gives {dimensions} dimensions, which is not what the configuration says");
        return Err(Error::invalid(folder.model, &layout.text, reason));
    }

    // The pooling of sentence-transformers is that of the text tower.
    let (mut graph, spec) = probe(&choices.image, None).open(&layout.image, Tower::Image)?;
    image.graph = spec;
    let shape = graph.input_shape();
    let fixed = [shape.get(3), shape.get(2)].map(|size| size.copied().flatten());
    for (fixed, side) in fixed.into_iter().zip([image.width, image.height]) {
        if fixed.is_some_and(|fixed| fixed != side as usize) {
            let reason = format!(
                "it reads {fixed:?} pixels, the configuration says {}",
                [image.width, image.height].map(|side| side.to_string()).join(" x ")
            );
            return Err(Error::invalid(folder.model, &layout.image, reason));
        }
    }
    image.graph.alone |= is_single(&shape, folder, &layout.image)?;
    let mut run = |pictures: &[&[f32]]| {
        let pixels = pictures.concat();
        let rows = graph.run_images(pictures.len(), &pixels, (image.width, image.height), options.interrupted)?;
        embeddings(&rows, folder, Tower::Image)
    };
    let [grey, stripes] = test_pictures(image.samples())?;
    let one = run(&[&grey])?;
    if one[0].as_slice().len() != dimensions {
        let reason = format!("it gives {} dimensions, the text tower {dimensions}", one[0].as_slice().len());
        return Err(Error::invalid(folder.model, &layout.image, reason));
    }
    if !image.graph.alone {
        image.graph.alone = !run(&[&grey, &stripes]).is_ok_and(|together| together[0].cosine(&one[0]) > SAME);
    }

    let graphs = [text.graph.files(), image.graph.files()].into_iter().flatten();
    let names: BTreeSet<String> = config.files.iter().chain(&tokenizer_files).chain(graphs).cloned().collect();
    let digest = |file: String| Ok((file.clone(), digest_file(folder, &file, options.interrupted)?));
    let files = names.into_iter().map(digest).collect::<Result<_, Error>>()?;
    Manifest {
        format_version: 0,
        name: folder.model.into(),
        digest: String::new(),
        family: shown(&config.family),
        dimensions,
        logit_scale: choices.logit_scale,
        logit_bias: choices.logit_bias,
        license: choices.license.as_deref().map(shown),
        source: choices.source.clone(),
        quantized_from: None,
        text,
        image,
        files,
    }
    .seal()
}

impl Probe<'_> {
    /// Open a graph, with nothing of it reaching outside the folder, and choose its output.
    fn open(&self, file: &str, tower: Tower) -> Result<(Graph, GraphSpec), Error> {
        let invalid = |reason: String| Error::invalid(self.folder.model, file, reason);
        let facts = Onnx::read(self.folder, file)?.facts().map_err(invalid)?;
        let data = facts.data.iter().map(|data| beside(file, data)).collect();
        let runtime = Runtime::load(&self.options.runtime)?;
        let path = self.folder.path.join(file);
        let (which, nothing) = ((self.folder.model, tower), (String::new(), None));
        let form = Form::Published(&path);
        let mut graph = Graph::open(runtime, form, which, nothing, self.options.threads, self.options.interrupted)?;
        let (output, pooling) = self.choose_output(&graph.outputs(), tower).map_err(invalid)?;
        graph.choose(output.clone(), pooling);
        Ok((graph, GraphSpec { file: file.into(), data, output, pooling, alone: facts.scaled_by_content }))
    }

    /// The output that holds embeddings. A wrong one gives vectors that look right and match nothing: doubt refuses.
    fn choose_output(&self, outputs: &[Output], tower: Tower) -> Result<(String, Option<Pooling>), String> {
        let names = || outputs.iter().map(|output| output.name.as_str()).collect::<Vec<_>>().join(", ");
        let named = |name: &str| outputs.iter().find(|output| output.name == name);
        let projected = match tower {
            Tower::Text => "text_embeds",
            Tower::Image => "image_embeds",
        };
        let pooling = self.choices.pooling.or(self.pooling);
        if let Some(wanted) = &self.choices.output {
            let found = named(wanted).ok_or_else(|| format!("it has no output {wanted:?}, only {}", names()))?;
            return match (found.rank, pooling) {
                (3, Some(pooling)) => Ok((wanted.clone(), Some(pooling))),
                (3, None) => Err(format!("{wanted:?} has a row per token: say how to pool it")),
                _ => Ok((wanted.clone(), None)),
            };
        }
        // SigLIP has no projection: its pooled output is the embedding. CLIP's is of another space.
        let pooled = if self.family.starts_with("siglip") { named("pooler_output") } else { None };
        let is_hidden = |name: &str| matches!(name, "pooler_output" | "last_hidden_state" | "token_embeddings");
        let single = || outputs.first().filter(|only| outputs.len() == 1 && !is_hidden(&only.name));
        let row = named(projected).or_else(|| named("sentence_embedding")).or(pooled).or_else(single);
        if let Some(row) = row.filter(|row| row.rank != 3) {
            return Ok((row.name.clone(), None));
        }
        let per_token = row.or_else(|| named("last_hidden_state")).or_else(|| named("token_embeddings"));
        match (per_token, pooling) {
            (Some(tokens), Some(pooling)) => Ok((tokens.name.clone(), Some(pooling))),
            _ => Err(format!(
                "no output is known to be an embedding: expected {projected:?}, found {}; name the one that is meant",
                names()
            )),
        }
    }
}

/// Run a tower of a finished model as it was published: it must give an embedding.
pub(crate) fn try_tower(
    folder: Folder<'_>,
    manifest: &Manifest,
    tower: Tower,
    options: &Options,
) -> Result<Embedding, Error> {
    let file = folder.path.join(&manifest.graph(tower).file);
    let runtime = Runtime::load(&options.runtime)?;
    let mut graph = manifest.open(tower, Form::Published(&file), runtime, options)?;
    probe(&mut graph, folder, manifest, tower, options)
}

/// What a tower of a finished model makes of the first probe.
pub(crate) fn probe(
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
            let [_, stripes] = test_pictures(spec.samples())?;
            graph.run_images(1, &stripes, (spec.width, spec.height), options.interrupted)?
        }
    };
    manifest.embedding(rows.iter().next().unwrap_or_default(), tower)
}

/// Whether the graph was exported for one text or picture at a time.
fn is_single(shape: &[Option<usize>], folder: Folder<'_>, file: &str) -> Result<bool, Error> {
    match shape.first().copied().flatten() {
        None => Ok(false),
        Some(1) => Ok(true),
        Some(rows) => Err(Error::invalid(folder.model, file, format_args!("it reads {rows} at a time, never one"))),
    }
}

fn embeddings(rows: &Rows, folder: Folder<'_>, tower: Tower) -> Result<Vec<Embedding>, Error> {
    rows.iter().map(|row| Embedding::normalise(row, folder.model, tower)).collect()
}

/// Two pictures that no tower takes for one another.
fn test_pictures(samples: usize) -> Result<[Vec<f32>; 2], Error> {
    let (mut grey, mut stripes) = (reserve(samples)?, reserve(samples)?);
    grey.resize(samples, 0.1);
    stripes.extend((0..samples).map(|place| if place % 7 < 3 { 1.0 } else { -0.5 }));
    Ok([grey, stripes])
}
