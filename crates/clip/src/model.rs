//! An open model: texts and images in, embeddings out.
//! Invariant: changes in its folder never change an open model, because a file that is read later is verified against
//! the manifest that was read first.

pub(crate) mod stages;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::agreement;
use crate::embedding::Embedding;
use crate::error::{Error, Tower};
use crate::folder::Folder;
use crate::memory::{HEADROOM, MemoryCheck, headroom, reserve};
use crate::options::{MAX_IMAGE_BATCH, MAX_TEXT_BATCH, Options, Overflow};
use crate::pixels;
use crate::provider::Provider;
use crate::recipe::Levels;
use crate::runtime::library::Runtime;
use crate::runtime::session::Graph;
use crate::store::manifest::Manifest;
use crate::threads::{self, Interrupted};
use crate::tokenizer::{self, Encoded, TextTokenizer};
use crate::tower;

/// The embedding of a text, and its number of tokens before truncation.
#[derive(Clone, Debug, PartialEq)]
pub struct TextEmbedding {
    pub embedding: Embedding,
    pub tokens: usize,
}

pub struct Model {
    path: PathBuf,
    manifest: Manifest,
    levels: Levels,
    tokens: Option<Arc<TextTokenizer>>,
    text: Option<Loaded>,
    image: Option<Loaded>,
    /// The reason why a loaded tower does not share its weights.
    not_prepared: Option<Error>,
}

/// Smallest weights for which it is reported that connections do not share them: 32 MiB.
const SHARING_PAYS: u64 = 32 << 20;

/// A tower in memory and its usage.
struct Loaded {
    graph: Graph,
    threads: usize,
    provider: Provider,
    usage: Usage,
}

/// The usage of a loaded tower.
#[derive(Clone, Debug)]
pub struct Usage {
    pub loaded_at: SystemTime,
    pub load_time: Duration,
    /// True if its weights are mapped from files that all processes share.
    pub shared: bool,
    pub calls: u64,
    /// Texts or images.
    pub items: u64,
    pub total_time: Duration,
}

impl Model {
    /// Reads the manifest and the configuration of the model `name` in `path`. Loads no weights and no tokenizer, whose digests are
    /// verified when they are loaded.
    pub fn open(path: &Path, name: &str, interrupted: Interrupted) -> Result<Self, Error> {
        headroom(HEADROOM)?;
        let folder = Folder { path, model: name };
        let manifest = Manifest::read(folder)?;
        let is_loaded_later = |file: &&String| {
            **file == manifest.text.tokenizer || manifest.graph_files().any(|weights| weights == *file)
        };
        for file in manifest.files.keys().filter(|file| !is_loaded_later(file)) {
            manifest.verify(folder, file, interrupted)?;
        }
        let levels = manifest.image.levels();
        Ok(Self { path: path.into(), manifest, levels, tokens: None, text: None, image: None, not_prepared: None })
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the usage of a tower, or None if it is not loaded.
    pub fn usage(&self, tower: Tower) -> Option<&Usage> {
        self.loaded(tower).map(|loaded| &loaded.usage)
    }

    fn loaded(&self, tower: Tower) -> Option<&Loaded> {
        match tower {
            Tower::Text => self.text.as_ref(),
            Tower::Image => self.image.as_ref(),
        }
    }

    /// Loads a tower, unless it is loaded with this number of threads and this provider.
    pub fn load(&mut self, tower: Tower, options: &Options) -> Result<(), Error> {
        self.load_now(tower, options).map_err(|error| self.of_load(error))
    }

    fn of_load(&self, error: Error) -> Error {
        match error {
            Error::Interrupted => Error::LoadInterrupted { model: self.manifest.name.clone() },
            other => other,
        }
    }

    fn load_now(&mut self, tower: Tower, options: &Options) -> Result<(), Error> {
        if tower == Tower::Text {
            self.tokens(options)?;
        }
        self.load_tower(tower, options)
    }

    /// Loads a tower like [`Model::load`], without the tokenizer.
    pub fn load_tower(&mut self, tower: Tower, options: &Options) -> Result<(), Error> {
        let slot = match tower {
            Tower::Text => &mut self.text,
            Tower::Image => &mut self.image,
        };
        if slot.as_ref().is_some_and(|loaded| loaded.is_for(options)) {
            return Ok(());
        }
        let started = Instant::now();
        let folder = Folder { path: &self.path, model: &self.manifest.name };
        let runtime = Runtime::load(&options.runtime)?;
        let opened = match options.provider {
            Provider::Cpu => tower::open_prepared(folder, &self.manifest, tower, runtime, options),
            _ => agreement::open(folder, &self.manifest, tower, runtime, options).map(|graph| (graph, 0)),
        };
        let (graph, shared) = match opened {
            Ok((graph, bytes)) => (graph, bytes > 0),
            Err(reason @ Error::NotPrepared { .. }) => {
                if self.manifest.tower_bytes(tower) >= SHARING_PAYS {
                    self.not_prepared = Some(reason);
                }
                (tower::open_published(folder, &self.manifest, tower, runtime, options)?, false)
            }
            Err(error) => return Err(error),
        };
        let usage = Usage {
            loaded_at: SystemTime::now(),
            load_time: started.elapsed(),
            shared,
            calls: 0,
            items: 0,
            total_time: Duration::ZERO,
        };
        *slot = Some(Loaded { graph, threads: options.threads, provider: options.provider, usage });
        Ok(())
    }

    /// Returns, once per load, why a tower with large weights does not share them.
    pub fn take_not_prepared(&mut self) -> Option<Error> {
        self.not_prepared.take()
    }

    /// Unloads the towers and returns how many were loaded.
    pub fn unload(&mut self) -> usize {
        self.tokens = None;
        [self.text.take(), self.image.take()].into_iter().flatten().count()
    }

    /// Returns the number of tokens of a text, begin and end included, before truncation.
    pub fn token_count(&mut self, text: &str, options: &Options) -> Result<usize, Error> {
        Ok(self.tokens(options)?.encode(text)?.count)
    }

    /// Embeds texts, in their order.
    pub fn embed_texts(&mut self, texts: &[&str], options: &Options) -> Result<Vec<TextEmbedding>, Error> {
        let context_length = self.manifest.text.context_length;
        let tokens = self.tokens(options)?;
        let mut encoded = reserve(texts.len())?;
        for (index, text) in texts.iter().enumerate() {
            if (options.interrupted)() {
                return Err(Error::Interrupted);
            }
            let text = tokens.encode(text).map_err(|error| error.at(index))?;
            options.overflow.check(text.count, context_length).map_err(|error| error.at(index))?;
            encoded.push(text);
        }
        self.embed_encoded(&encoded, options)
    }

    /// Embeds texts that are encoded already, in their order.
    pub fn embed_encoded(&mut self, encoded: &[Encoded], options: &Options) -> Result<Vec<TextEmbedding>, Error> {
        self.load_tower(Tower::Text, options).map_err(|error| self.of_load(error))?;
        let spec = &self.manifest.text;
        let Some(loaded) = &mut self.text else {
            unreachable!("a tower is not there after it was loaded. This is a bug.")
        };
        // Texts of similar length share a run, so that a short text is not padded to the longest one.
        let mut order: Vec<usize> = reserve(encoded.len())?;
        order.extend(0..encoded.len());
        order.sort_unstable_by_key(|&index| (encoded[index].ids.len(), index));
        let started = Instant::now();
        let mut embeddings: Vec<Option<TextEmbedding>> = reserve(encoded.len())?;
        embeddings.resize(encoded.len(), None);
        for batch in order.chunks(options.batch(&spec.graph, MAX_TEXT_BATCH)) {
            let length = match spec.natural_length {
                true => batch.iter().map(|&index| encoded[index].ids.len()).max().unwrap_or(0),
                false => spec.context_length,
            };
            let texts: Vec<&[u32]> = batch.iter().map(|&index| encoded[index].ids.as_slice()).collect();
            let (ids, mask) = tokenizer::rows(&texts, length, spec.pad_id, spec.pad_left)?;
            let rows = loaded.graph.run_texts(batch.len(), &ids, &mask, options.interrupted)?;
            for (row, &index) in rows.iter().zip(batch) {
                let embedding = tower::embedding(&self.manifest, row, Tower::Text).map_err(|error| error.at(index))?;
                embeddings[index] = Some(TextEmbedding { embedding, tokens: encoded[index].count });
            }
        }
        loaded.usage.add(encoded.len(), started.elapsed());
        Ok(embeddings.into_iter().flatten().collect())
    }

    /// Embeds images, in their order.
    pub fn embed_images(&mut self, images: &[&[u8]], options: &Options) -> Result<Vec<Embedding>, Error> {
        let batch_size = options.batch(&self.manifest.image.graph, MAX_IMAGE_BATCH);
        let samples = self.manifest.image.samples();
        let mut embeddings = reserve(images.len())?;
        let mut pixels = reserve(batch_size.min(images.len()) * samples)?;
        let started = Instant::now();
        for (number, batch) in images.chunks(batch_size).enumerate() {
            let first = number * batch_size;
            pixels.resize(batch.len() * samples, 0.0);
            let jobs = batch.iter().zip(pixels.chunks_exact_mut(samples)).enumerate();
            let (spec, levels, limits) = (&self.manifest.image, &self.levels, &options.limits);
            // All threads make tensors first, then all threads run the tower. If memory does not suffice to decode in
            // parallel, one thread makes the tensors.
            let threads = options.threads.min(batch.len());
            let (threads, memory) =
                match threads > 1 && pixels::fit_at_once(batch, spec, limits, threads, options.interrupted)? {
                    true => (threads, MemoryCheck::Done),
                    false => (1, MemoryCheck::PerStep),
                };
            threads::in_parallel(threads, jobs, |(index, (image, tensor))| {
                if (options.interrupted)() {
                    return Err(Error::Interrupted);
                }
                pixels::tensor(image, spec, levels, limits, memory, tensor).map_err(|error| error.at(first + index))
            })?;
            self.run_images(first, batch.len(), &pixels, &mut embeddings, options)?;
        }
        if let Some(loaded) = &mut self.image {
            loaded.usage.add(images.len(), started.elapsed());
        }
        Ok(embeddings)
    }

    fn tokens(&mut self, options: &Options) -> Result<&Arc<TextTokenizer>, Error> {
        let folder = Folder { path: &self.path, model: &self.manifest.name };
        match &mut self.tokens {
            Some(tokens) => Ok(tokens),
            none => {
                self.manifest.verify(folder, &self.manifest.text.tokenizer, options.interrupted)?;
                Ok(none.insert(Arc::new(TextTokenizer::open(folder, &self.manifest.text)?)))
            }
        }
    }
}

impl TextEmbedding {
    /// Returns the embedding. Fails if the text was truncated and the caller does not want that.
    pub fn checked(&self, limit: usize, overflow: Overflow) -> Result<&Embedding, Error> {
        overflow.check(self.tokens, limit).map(|()| &self.embedding)
    }
}

impl Loaded {
    /// Returns true if the tower runs as the options say.
    fn is_for(&self, options: &Options) -> bool {
        self.threads == options.threads && self.provider == options.provider
    }
}

impl Usage {
    fn add(&mut self, items: usize, time: Duration) {
        self.calls += 1;
        self.items += items as u64;
        self.total_time += time;
    }
}
