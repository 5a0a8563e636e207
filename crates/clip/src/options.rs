//! Options of a call, and the sizes of batches.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::pixels::Limits;
use crate::provider::Provider;
use crate::recipe::GraphSpec;
use crate::threads::Interrupted;

/// Options for how the work is done. None of them changes a vector, except in its last digits.
#[derive(Clone, Debug)]
pub struct Options {
    /// The ONNX Runtime library.
    pub runtime: PathBuf,
    /// Computes the graphs. A provider must give the embeddings of [`Provider::Cpu`] before it is used.
    pub provider: Provider,
    /// The directory of prepared files, if they are not in the folders of the models.
    pub prepared: Option<PathBuf>,
    /// Cores that one call may use.
    pub threads: usize,
    /// Texts or images in one run of a graph, at most [`MAX_TEXT_BATCH`] or [`MAX_IMAGE_BATCH`].
    pub batch_size: usize,
    pub overflow: Overflow,
    pub limits: Limits,
    pub interrupted: Interrupted,
}

/// The treatment of a text with more tokens than the model reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Overflow {
    /// Truncates the text and keeps the end token, as the reference does.
    Truncate,
    /// Rejects the text.
    Error,
}

/// Largest number of images in one run. More images gain nothing (1.2 times at 8), cost memory and delay a cancel.
pub const MAX_IMAGE_BATCH: usize = 8;

/// Largest number of texts in one run. More texts gain nothing.
pub const MAX_TEXT_BATCH: usize = 32;

/// Texts that one call embeds together: enough to group texts of similar length into one run, and few enough to hold in
/// memory.
pub const TEXT_WINDOW: usize = 256;

/// Longest text in bytes whose embedding sessions and the service cache. Longer texts are documents and not queries.
pub const MAX_CACHED_TEXT: usize = 4096;

impl Options {
    /// Returns the number of texts or images in one run.
    pub(crate) fn batch(&self, graph: &GraphSpec, max: usize) -> usize {
        if graph.alone { 1 } else { self.batch_size.clamp(1, max) }
    }
}

impl Overflow {
    /// Rejects a text that would be truncated, if the caller wants that.
    pub(crate) fn check(self, tokens: usize, limit: usize) -> Result<(), Error> {
        match self {
            Self::Error if tokens > limit => Err(Error::TooManyTokens { tokens, limit }),
            Self::Error | Self::Truncate => Ok(()),
        }
    }
}
