//! The properties of a model, found by running it once, when it is added. The manifest pins them.

use std::collections::BTreeSet;

use crate::embedding::Embedding;
use crate::error::{Error, Tower};
use crate::folder::{Folder, beside};
use crate::import::choices::{Choices, TowerChoices};
use crate::import::config::Configuration;
use crate::import::layout::Layout;
use crate::import::tokenizer::describe;
use crate::onnx::file::Onnx;
use crate::options::Options;
use crate::recipe::{GraphSpec, Loss, Pooling, Precision};
use crate::runtime::library::Runtime;
use crate::runtime::provider::Engine;
use crate::runtime::rows::Rows;
use crate::runtime::session::{Form, Graph, Output};
use crate::samples::{MIN_COSINE, PROBES, gray, stripes};
use crate::store::manifest::{Manifest, digest_file, printable_ascii};
use crate::tokenizer::{self, TextTokenizer};

/// The facts about a tower that are known before its graph is run.
struct Probe<'a> {
    folder: Folder<'a>,
    family: &'a str,
    choices: &'a TowerChoices,
    pooling: Option<Pooling>,
    options: &'a Options,
}

/// Examines a folder that has one graph per tower, and returns its manifest.
///
/// Both towers must return finite vectors of the same dimension.
pub(crate) fn examine(
    folder: Folder<'_>,
    config: Configuration,
    layout: &Layout,
    choices: &Choices,
    options: &Options,
) -> Result<Manifest, Error> {
    let (mut text, tokenizer_files) = describe(folder, &config)?;
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
        // A graph of one length rejects any other; one that reads the padding returns another embedding.
        text.natural_length = [&one, &other].into_iter().zip(&padded).all(|(ids, padded)| {
            run(&[ids.as_slice()], ids.len()).is_ok_and(|natural| natural[0].cosine(padded) > MIN_COSINE)
        });
        if !text.graph.alone {
            let together = run(&[&one, &other], text.context_length);
            text.graph.alone = !together.is_ok_and(|together| together[0].cosine(&padded[0]) > MIN_COSINE);
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
    let mut run = |images: &[&[f32]]| {
        let pixels = images.concat();
        let rows = graph.run_images(images.len(), &pixels, (image.width, image.height), options.interrupted)?;
        embeddings(&rows, folder, Tower::Image)
    };
    let (gray, stripes) = (gray(image.samples())?, stripes(image.samples())?);
    let one = run(&[&gray])?;
    if one[0].as_slice().len() != dimensions {
        let reason = format!("it gives {} dimensions, the text tower {dimensions}", one[0].as_slice().len());
        return Err(Error::invalid(folder.model, &layout.image, reason));
    }
    if !image.graph.alone {
        image.graph.alone = !run(&[&gray, &stripes]).is_ok_and(|together| together[0].cosine(&one[0]) > MIN_COSINE);
    }

    let graphs = [text.graph.files(), image.graph.files()].into_iter().flatten();
    let names: BTreeSet<String> = config.files.iter().chain(&tokenizer_files).chain(graphs).cloned().collect();
    let digest = |file: String| Ok((file.clone(), digest_file(folder, &file, options.interrupted)?));
    let files = names.into_iter().map(digest).collect::<Result<_, Error>>()?;
    Manifest {
        format_version: 0,
        name: folder.model.into(),
        digest: String::new(),
        family: printable_ascii(&config.family),
        dimensions,
        logit_scale: choices.logit_scale,
        logit_bias: choices.logit_bias,
        license: choices.license.as_deref().map(printable_ascii),
        source: choices.source.clone(),
        quantized_from: None,
        text,
        image,
        files,
    }
    .seal()
}

impl Probe<'_> {
    /// Opens a graph that uses no file outside the folder, and chooses its output.
    fn open(&self, file: &str, tower: Tower) -> Result<(Graph, GraphSpec), Error> {
        let invalid = |reason: String| Error::invalid(self.folder.model, file, reason);
        let facts = Onnx::read(self.folder, file)?.facts().map_err(invalid)?;
        let data = facts.data.iter().map(|data| beside(file, data)).collect();
        let runtime = Runtime::load(&self.options.runtime)?;
        let path = self.folder.path.join(file);
        let (which, nothing) = ((self.folder.model, tower), (String::new(), None));
        let form = Form::Published(&path);
        let engine = Engine::cpu(self.options.threads);
        let mut graph = Graph::open(runtime, form, which, nothing, engine, self.options.interrupted)?;
        let (output, pooling) = self.choose_output(&graph.outputs(), tower).map_err(invalid)?;
        graph.choose(output.clone(), pooling);
        Ok((
            graph,
            GraphSpec {
                file: file.into(),
                data,
                output,
                pooling,
                alone: facts.scaled_by_content,
                precision: Precision::Single,
            },
        ))
    }

    /// Returns the output that holds embeddings. In doubt the model is rejected: vectors of a wrong output look right
    /// and match nothing.
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
        // Models with the sigmoid loss (SigLIP) have no projection: their pooled output is the embedding. CLIP's pooled
        // output is in another space.
        let pooled = if Loss::of_family(self.family) == Loss::Sigmoid { named("pooler_output") } else { None };
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

/// Returns true if the graph was exported for one text or image at a time.
fn is_single(shape: &[Option<usize>], folder: Folder<'_>, file: &str) -> Result<bool, Error> {
    match shape.first().copied().flatten() {
        None => Ok(false),
        Some(1) => Ok(true),
        Some(rows) => Err(Error::invalid(folder.model, file, format_args!("it reads {rows} at a time, never one"))),
    }
}

fn embeddings(rows: &Rows, folder: Folder<'_>, tower: Tower) -> Result<Vec<Embedding>, Error> {
    rows.iter().map(|row| Embedding::normalize(row, folder.model, tower)).collect()
}
