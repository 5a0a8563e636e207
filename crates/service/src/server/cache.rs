//! The cache of text embeddings, which all connections share. External crate: `lru`.

use std::sync::{Arc, Mutex};

use clip::{MAX_CACHED_TEXT, TextEmbedding};
use lru::LruCache;

use super::locks::unpoisoned;

/// Bytes of all entries: 25,000 short texts in 512 dimensions.
const MAX_BYTES: usize = 64 << 20;

/// Bytes of an entry in addition to its text and its numbers.
const ENTRY: usize = 256;

#[derive(PartialEq, Eq, Hash)]
struct Query {
    digest: Arc<str>,
    text: Box<str>,
}

pub struct Cache(Mutex<Entries>);

struct Entries {
    known: LruCache<Query, Arc<TextEmbedding>>,
    bytes: usize,
}

impl Cache {
    pub fn new() -> Self {
        Self(Mutex::new(Entries { known: LruCache::unbounded(), bytes: 0 }))
    }

    /// Returns the embedding of a text by the model with this digest.
    pub fn find(&self, digest: &Arc<str>, text: &str) -> Option<Arc<TextEmbedding>> {
        if text.len() > MAX_CACHED_TEXT {
            return None;
        }
        let query = Query { digest: digest.clone(), text: text.into() };
        unpoisoned(&self.0).known.get(&query).cloned()
    }

    pub fn add(&self, digest: &Arc<str>, text: &str, embedding: TextEmbedding) {
        if text.len() > MAX_CACHED_TEXT {
            return;
        }
        let mut entries = unpoisoned(&self.0);
        entries.bytes += size(text, &embedding);
        let query = Query { digest: digest.clone(), text: text.into() };
        if let Some((query, former)) = entries.known.push(query, Arc::new(embedding)) {
            entries.bytes -= size(&query.text, &former);
        }
        while entries.bytes > MAX_BYTES {
            let Some((query, oldest)) = entries.known.pop_lru() else { return };
            entries.bytes -= size(&query.text, &oldest);
        }
    }
}

fn size(text: &str, embedding: &TextEmbedding) -> usize {
    ENTRY + text.len() + size_of_val(embedding.embedding.as_slice())
}
