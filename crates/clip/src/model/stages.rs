//! The stages of an embedding, for a caller that reads inputs and runs towers in different threads.

use std::sync::Arc;
use std::time::Instant;

use super::Model;
use crate::embedding::Embedding;
use crate::error::{Error, Tower};
use crate::memory::reserve;
use crate::options::{MAX_IMAGE_BATCH, Options, Overflow};
use crate::runtime::canceler::Canceler;
use crate::tokenizer::{Encoded, TextTokenizer};
use crate::tower;

/// Encodes the texts of a model. Threads can share it.
#[derive(Clone)]
pub struct TextReader {
    tokens: Arc<TextTokenizer>,
    context_length: usize,
}

impl TextReader {
    /// Encodes a text, or rejects it if it would be truncated and the caller does not want that.
    pub fn encode(&self, text: &str, overflow: Overflow) -> Result<Encoded, Error> {
        let encoded = self.tokens.encode(text)?;
        overflow.check(encoded.count, self.context_length)?;
        Ok(encoded)
    }
}

impl Encoded {
    /// Returns the number of tokens that the text encoder reads.
    pub fn length(&self) -> usize {
        self.ids.len()
    }
}

impl Model {
    /// Returns the reader of texts. Loads the tokenizer, and no weights.
    pub fn text_reader(&mut self, options: &Options) -> Result<TextReader, Error> {
        let context_length = self.manifest.text.context_length;
        Ok(TextReader { tokens: self.tokens(options)?.clone(), context_length })
    }

    /// Returns the canceler of the runs of a loaded tower, or None if it is not loaded.
    pub fn canceler(&self, tower: Tower) -> Option<&Canceler> {
        self.loaded(tower).map(|loaded| loaded.graph.canceler())
    }

    /// Embeds images from tensors of [`crate::image_tensor`], one after the other, in their order.
    pub fn embed_tensors(&mut self, tensors: &[f32], options: &Options) -> Result<Vec<Embedding>, Error> {
        let samples = self.manifest.image.samples();
        let batch_size = options.batch(&self.manifest.image.graph, MAX_IMAGE_BATCH);
        let mut embeddings = reserve(tensors.len() / samples)?;
        let started = Instant::now();
        for batch in tensors.chunks(batch_size * samples) {
            let first = embeddings.len();
            self.run_images(first, batch.len() / samples, batch, &mut embeddings, options)?;
        }
        if let Some(loaded) = &mut self.image {
            loaded.usage.add(embeddings.len(), started.elapsed());
        }
        Ok(embeddings)
    }

    /// Runs one batch of images, the first of which is number `first` of the call, and adds their embeddings.
    pub(super) fn run_images(
        &mut self,
        first: usize,
        images: usize,
        pixels: &[f32],
        embeddings: &mut Vec<Embedding>,
        options: &Options,
    ) -> Result<(), Error> {
        self.load(Tower::Image, options)?;
        let Some(loaded) = &mut self.image else {
            unreachable!("a tower is not there after it was loaded. This is a bug.")
        };
        let size = (self.manifest.image.width, self.manifest.image.height);
        let rows = loaded.graph.run_images(images, pixels, size, options.interrupted)?;
        for (index, row) in rows.iter().enumerate() {
            let embedding =
                tower::embedding(&self.manifest, row, Tower::Image).map_err(|error| error.at(first + index))?;
            embeddings.push(embedding);
        }
        Ok(())
    }
}
