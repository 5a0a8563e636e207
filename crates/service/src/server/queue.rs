//! The inputs that wait for one encoder, and the sizes of its batches.

use std::sync::Arc;

use clip::{EncodedText, MAX_IMAGE_BATCH, MAX_TEXT_BATCH, TEXT_WINDOW, Tower};

use super::lane::Lane;
use super::request::Request;
use crate::protocol::{Class, Kind};

/// Texts of one batch of searches. More texts would gain little and delay all of them.
const SEARCH_BATCH: usize = 16;

/// Bytes of texts that one job reads.
const READ_BYTES: usize = 64 * 1024;

/// An input on its way through the service.
pub struct Item {
    pub request: Arc<Request>,
    pub index: usize,
    /// None before the input was read.
    pub ready: Option<Ready>,
}

/// An input that can run.
pub enum Ready {
    Text(EncodedText),
    Image(Vec<f32>),
}

/// Inputs for one encoder.
pub struct Queue {
    searches: Lane<Item>,
    bulk: Lane<Item>,
    pub limits: BatchLimits,
}

#[derive(Clone, Copy)]
pub struct BatchLimits {
    pub search: usize,
    pub bulk: usize,
    /// Inputs that are read ahead. Texts are read ahead to find some of equal length.
    pub window: usize,
}

/// Returns a function that accepts the inputs of one job. An image is decoded alone, texts are read by the dozen.
pub fn portion() -> impl FnMut(&Item) -> bool {
    let mut bytes = 0;
    move |item| {
        bytes += item.request.inputs.bytes(item.index).len();
        item.request.inputs.kind == Kind::Texts && bytes <= READ_BYTES
    }
}

impl Queue {
    pub fn of(request: &Request) -> Self {
        let tower = tower_of(request.inputs.kind);
        let limits = match (tower, request.model.manifest.graph(tower).alone) {
            (Tower::Text, false) => BatchLimits { search: SEARCH_BATCH, bulk: MAX_TEXT_BATCH, window: TEXT_WINDOW },
            (Tower::Text, true) => BatchLimits { search: 1, bulk: 1, window: TEXT_WINDOW },
            (Tower::Image, false) => {
                BatchLimits { search: MAX_IMAGE_BATCH, bulk: MAX_IMAGE_BATCH, window: MAX_IMAGE_BATCH }
            }
            (Tower::Image, true) => BatchLimits { search: 1, bulk: 1, window: 1 },
        };
        Self { searches: Lane::new(), bulk: Lane::new(), limits }
    }

    pub fn lane(&mut self, class: Class) -> &mut Lane<Item> {
        match class {
            Class::Search => &mut self.searches,
            Class::Bulk => &mut self.bulk,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.searches.is_empty() && self.bulk.is_empty()
    }
}

/// Returns the encoder of a kind of inputs.
pub fn tower_of(kind: Kind) -> Tower {
    match kind {
        Kind::Texts => Tower::Text,
        Kind::Images => Tower::Image,
    }
}
