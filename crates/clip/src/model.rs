//! A model folder, opened: texts and pictures in, embeddings out.
//!
//! Invariant: a model, once opened, is never changed by what happens to its folder: a file that is read later is
//! checked against the manifest that was read first.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::embedding::Embedding;
use crate::error::{Error, Tower};
use crate::manifest::{MANIFEST_FILE, Manifest, digest_file};
use crate::pixels::{self, Limits, reserve};
use crate::runtime::{Graph, Runtime};
use crate::spec::{Folder, ModelSpec};
use crate::tokens::{Encoded, Tokens};
use crate::watch::Interrupted;

/// How the caller wants the work done. None of it changes a vector.
#[derive(Clone, Debug)]
pub struct Options {
    /// The ONNX Runtime library.
    pub runtime: PathBuf,
    /// Cores that one call may use.
    pub threads: usize,
    /// Texts or pictures in one run of a graph.
    pub batch_size: usize,
    pub overflow: Overflow,
    pub limits: Limits,
    pub interrupted: Interrupted,
}

/// What becomes of a text with more tokens than the model reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Cut it, keeping the end token, as the reference does.
    Truncate,
    /// Refuse it.
    Error,
}

/// The embedding of a text, and how many tokens the text had before a cut.
#[derive(Clone, Debug, PartialEq)]
pub struct TextEmbedding {
    pub embedding: Embedding,
    pub tokens: usize,
}

/// More pictures than this in one run gain nothing (1.2 times at 8), cost memory and delay a cancel.
const MAX_IMAGE_BATCH: usize = 8;

/// More texts than this in one run gain nothing.
const MAX_TEXT_BATCH: usize = 32;

/// Longest name of a folder that is also comfortable in a message.
const MAX_NAME: usize = 100;

pub struct Model {
    path: PathBuf,
    manifest: Manifest,
    spec: ModelSpec,
    tokens: Option<Tokens>,
    text: Option<Loaded>,
    image: Option<Loaded>,
}

/// A tower in memory and what it has done.
struct Loaded {
    graph: Graph,
    threads: usize,
    usage: Usage,
}

/// What a loaded tower has done so far.
#[derive(Clone, Debug)]
pub struct Usage {
    pub loaded_at: SystemTime,
    pub load_time: Duration,
    pub calls: u64,
    /// Texts or pictures.
    pub items: u64,
    pub total_time: Duration,
}

/// The folder of the model `name`. Only a plain name of a folder that has a manifest is accepted.
pub fn folder_of(model_path: &Path, name: &str) -> Result<PathBuf, Error> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME || name.starts_with('.') || !name.bytes().all(plain) {
        return Err(Error::InvalidModelName { name: name.chars().take(MAX_NAME).collect() });
    }
    let folder = model_path.join(name);
    match folder.is_dir() {
        true => Ok(folder),
        false => Err(Error::ModelMissing { name: name.into(), present: names(model_path) }),
    }
}

/// The models under `model_path`, in the order of their names.
pub fn names(model_path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(model_path).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter(|entry| entry.path().join(MANIFEST_FILE).is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

impl Model {
    /// Read the manifest and the configuration of the model `name` in `path`. Loads no weights.
    pub fn open(path: &Path, name: &str, interrupted: Interrupted) -> Result<Self, Error> {
        let folder = Folder { path, model: name };
        let manifest = Manifest::read(folder)?;
        let graphs = [&manifest.text_graph, &manifest.image_graph];
        for file in manifest.files.keys().filter(|file| !graphs.contains(file)) {
            manifest.verify(folder, file, interrupted)?;
        }
        let spec = ModelSpec::read(folder, manifest.exif_orientation)?;
        Ok(Self { path: path.into(), manifest, spec, tokens: None, text: None, image: None })
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What a tower has done since it was loaded; nothing if it is not.
    pub fn usage(&self, tower: Tower) -> Option<&Usage> {
        match tower {
            Tower::Text => self.text.as_ref(),
            Tower::Image => self.image.as_ref(),
        }
        .map(|loaded| &loaded.usage)
    }

    /// Load a tower now, if it is not loaded with these threads already.
    pub fn load(&mut self, tower: Tower, options: &Options) -> Result<(), Error> {
        if tower == Tower::Text {
            self.tokens()?;
        }
        let slot = match tower {
            Tower::Text => &mut self.text,
            Tower::Image => &mut self.image,
        };
        if slot.as_ref().is_some_and(|loaded| loaded.threads == options.threads) {
            return Ok(());
        }
        let started = Instant::now();
        let Manifest { name, family, text_graph, image_graph, .. } = &self.manifest;
        let file = match tower {
            Tower::Text => text_graph,
            Tower::Image => image_graph,
        };
        let runtime = Runtime::load(&options.runtime)?;
        self.manifest.verify(Folder { path: &self.path, model: name }, file, options.interrupted)?;
        let which = (name.as_str(), family.as_str(), tower);
        let graph = Graph::open(runtime, &self.path.join(file), which, options.threads, options.interrupted)?;
        let usage = Usage {
            loaded_at: SystemTime::now(),
            load_time: started.elapsed(),
            calls: 0,
            items: 0,
            total_time: Duration::ZERO,
        };
        *slot = Some(Loaded { graph, threads: options.threads, usage });
        Ok(())
    }

    /// Forget the loaded towers and say how many there were.
    pub fn unload(&mut self) -> usize {
        self.tokens = None;
        [self.text.take(), self.image.take()].into_iter().flatten().count()
    }

    /// Count the tokens of a text, begin and end included, before any cut.
    pub fn token_count(&mut self, text: &str) -> Result<usize, Error> {
        Ok(self.tokens()?.encode(text)?.count)
    }

    /// Embed texts, in their order.
    pub fn embed_texts(&mut self, texts: &[&str], options: &Options) -> Result<Vec<TextEmbedding>, Error> {
        let context_length = self.manifest.context_length;
        let tokens = self.tokens()?;
        let mut encoded = reserve(texts.len())?;
        for (index, text) in texts.iter().enumerate() {
            if (options.interrupted)() {
                return Err(Error::Interrupted);
            }
            let text = tokens.encode(text).map_err(|error| error.at(index))?;
            check_overflow(text.count, context_length, options.overflow).map_err(|error| error.at(index))?;
            encoded.push(text);
        }
        self.embed_encoded(&encoded, options)
    }

    fn embed_encoded(&mut self, encoded: &[Encoded], options: &Options) -> Result<Vec<TextEmbedding>, Error> {
        self.load(Tower::Text, options)?;
        let (Some(loaded), Some(tokens)) = (&mut self.text, &self.tokens) else {
            unreachable!("a tower is not there after it was loaded. This is a bug.")
        };
        // Texts of like length share a run: a short one is not filled up to the longest of the batch.
        let mut order: Vec<usize> = (0..encoded.len()).collect();
        order.sort_by_key(|&index| encoded[index].ids.len());
        let started = Instant::now();
        let mut embeddings = vec![None; encoded.len()];
        for batch in order.chunks(options.batch_size.clamp(1, MAX_TEXT_BATCH)) {
            let length = match self.manifest.natural_length {
                true => batch.iter().map(|&index| encoded[index].ids.len()).max().unwrap_or(0),
                false => self.manifest.context_length,
            };
            let mut ids = reserve(batch.len() * length)?;
            let mut mask = reserve(batch.len() * length)?;
            for (row, &index) in batch.iter().enumerate() {
                ids.extend_from_slice(&encoded[index].ids);
                mask.resize(ids.len(), true);
                ids.resize((row + 1) * length, tokens.pad_id);
                mask.resize(ids.len(), false);
            }
            let rows = loaded.graph.run_texts(batch.len(), &ids, &mask, options.interrupted)?;
            for (row, &index) in rows.iter().zip(batch) {
                let embedding = self.manifest.embedding(row, Tower::Text).map_err(|error| error.at(index))?;
                embeddings[index] = Some(TextEmbedding { embedding, tokens: encoded[index].count });
            }
        }
        loaded.usage.add(encoded.len(), started.elapsed());
        Ok(embeddings.into_iter().flatten().collect())
    }

    /// Embed pictures, in their order.
    pub fn embed_images(&mut self, images: &[&[u8]], options: &Options) -> Result<Vec<Embedding>, Error> {
        let spec = &self.spec.image;
        let (width, height) = spec.size;
        let samples = 3 * width as usize * height as usize;
        let mut embeddings = reserve(images.len())?;
        let started = Instant::now();
        for (number, batch) in images.chunks(options.batch_size.clamp(1, MAX_IMAGE_BATCH)).enumerate() {
            let first = number * options.batch_size.clamp(1, MAX_IMAGE_BATCH);
            let mut pixels = reserve(batch.len() * samples)?;
            for (index, image) in batch.iter().enumerate() {
                if (options.interrupted)() {
                    return Err(Error::Interrupted);
                }
                let spec = &self.spec.image;
                pixels::tensor(image, spec, &options.limits, &mut pixels).map_err(|error| error.at(first + index))?;
            }
            self.load(Tower::Image, options)?;
            let Some(loaded) = &mut self.image else {
                unreachable!("a tower is not there after it was loaded. This is a bug.")
            };
            let rows = loaded.graph.run_images(batch.len(), &pixels, (width, height), options.interrupted)?;
            for (index, row) in rows.iter().enumerate() {
                let embedding = self.manifest.embedding(row, Tower::Image).map_err(|error| error.at(first + index))?;
                embeddings.push(embedding);
            }
        }
        if let Some(loaded) = &mut self.image {
            loaded.usage.add(images.len(), started.elapsed());
        }
        Ok(embeddings)
    }

    fn tokens(&mut self) -> Result<&Tokens, Error> {
        let folder = Folder { path: &self.path, model: &self.manifest.name };
        match &mut self.tokens {
            Some(tokens) => Ok(tokens),
            none => Ok(none.insert(Tokens::open(folder, &self.spec)?)),
        }
    }
}

/// Refuse a text that would be cut, if that is what the caller wants.
fn check_overflow(tokens: usize, limit: usize, overflow: Overflow) -> Result<(), Error> {
    match overflow {
        Overflow::Error if tokens > limit => Err(Error::TooManyTokens { tokens, limit }),
        Overflow::Error | Overflow::Truncate => Ok(()),
    }
}

impl TextEmbedding {
    /// The embedding, unless the text was cut and that is not wanted.
    pub fn checked(&self, limit: usize, overflow: Overflow) -> Result<&Embedding, Error> {
        check_overflow(self.tokens, limit, overflow).map(|()| &self.embedding)
    }
}

impl Usage {
    fn add(&mut self, items: usize, time: Duration) {
        self.calls += 1;
        self.items += items as u64;
        self.total_time += time;
    }
}

impl Manifest {
    /// Make an embedding of a row, which must have as many dimensions as the manifest says.
    fn embedding(&self, row: &[f32], tower: Tower) -> Result<Embedding, Error> {
        if row.len() != self.dimensions {
            let reason = format!("it gave {} dimensions, expected {}", row.len(), self.dimensions);
            return Err(Error::Inference { model: self.name.clone(), tower, reason });
        }
        Embedding::normalise(row, &self.name, tower)
    }

    /// Examine a model folder by running it, and describe it as the model `name`.
    ///
    /// Both towers must give finite vectors of one dimension.
    pub fn examine(path: &Path, name: &str, license: Option<&str>, options: &Options) -> Result<Self, Error> {
        const TEXT_GRAPH: &str = "onnx/text_model.onnx";
        const IMAGE_GRAPH: &str = "onnx/vision_model.onnx";
        let folder = Folder { path, model: name };
        let spec = ModelSpec::read(folder, true)?;
        let tokens = Tokens::open(folder, &spec)?;
        let runtime = Runtime::load(&options.runtime)?;
        let open = |file: &str, tower| {
            let which = (name, spec.family.as_str(), tower);
            Graph::open(runtime, &path.join(file), which, options.threads, options.interrupted)
        };
        let (width, height) = spec.image.size;
        let mut manifest = Self::new(name, &spec.family, 0, tokens.context_length, [height, width]);

        let mut text = open(TEXT_GRAPH, Tower::Text)?;
        let (dimensions, natural_length) = probe_text(&mut text, &tokens, name, options)?;
        (manifest.dimensions, manifest.natural_length) = (dimensions, natural_length);
        if spec.dimensions.is_some_and(|expected| expected != dimensions) {
            let reason = format!("\"projection_dim\" is not {dimensions}, which {TEXT_GRAPH:?} gives");
            return Err(Error::invalid(name, "config.json", reason));
        }
        let grey = vec![0.0; 3 * width as usize * height as usize];
        let rows = open(IMAGE_GRAPH, Tower::Image)?.run_images(1, &grey, spec.image.size, options.interrupted)?;
        for row in rows.iter() {
            manifest.embedding(row, Tower::Image)?;
        }

        manifest.logit_scale = spec.logit_scale;
        manifest.license = license.map(Into::into);
        (manifest.text_graph, manifest.image_graph) = (TEXT_GRAPH.into(), IMAGE_GRAPH.into());
        const CONFIGURATION: [&str; 5] = [
            "config.json",
            "preprocessor_config.json",
            "processor_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ];
        for file in CONFIGURATION.into_iter().filter(|file| folder.has(file)).chain([TEXT_GRAPH, IMAGE_GRAPH]) {
            manifest.files.insert(file.into(), digest_file(folder, file, options.interrupted)?);
        }
        manifest.digest = manifest.digest_of();
        Ok(manifest)
    }
}

/// Equal to the last digits that differ between kernels for different shapes.
const SAME: f64 = 0.999_99;

/// The dimension of a text's embedding, and whether a text at its own length gives the same one as padded.
///
/// That holds where the graph is causal. Where it looks at the padding, or has one fixed length, it does not.
fn probe_text(graph: &mut Graph, tokens: &Tokens, name: &str, options: &Options) -> Result<(usize, bool), Error> {
    const PROBES: [&str; 2] = ["a photo of a cat", "two dogs"];
    let mut run = |ids: &[u32], length: usize| {
        let mut padded = ids.to_vec();
        padded.resize(length, tokens.pad_id);
        let mask: Vec<bool> = (0..length).map(|position| position < ids.len()).collect();
        let rows = graph.run_texts(1, &padded, &mask, options.interrupted)?;
        let row = rows.iter().next().unwrap_or_default();
        Ok((row.len(), Embedding::normalise(row, name, Tower::Text)?))
    };
    let mut dimensions = 0;
    let mut natural_length = true;
    for probe in PROBES {
        let ids = tokens.encode(probe)?.ids;
        let (width, padded) = run(&ids, tokens.context_length)?;
        dimensions = width;
        // A graph with a fixed length refuses any other.
        let same = run(&ids, ids.len()).is_ok_and(|(_, natural)| natural.cosine(&padded) > SAME);
        natural_length = natural_length && same;
    }
    Ok((dimensions, natural_length))
}
