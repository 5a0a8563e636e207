//! The models of this backend, and the embeddings of recent texts. Each embedding of the extension is computed here: by the embedding
//! service, or by this process.
//!
//! Invariants: a backend has one thread, so a `thread_local` needs no lock. A model whose directory changed is opened again.
//! Open models are never dropped at exit, because ONNX Runtime's destructors are not safe there.

pub mod labels;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::mem::ManuallyDrop;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use clip::{
    Embedding, Error, Format, Limits, MANIFEST_FILE, MAX_CACHED_TEXT, Manifest, Model, Options, Overflow, Tower,
};
use lru::LruCache;

use crate::pg::error::report;
use crate::pg::interrupt::{end_with_postmaster, interrupted};
use crate::pg::messages::warn;
use crate::pg::settings;
use crate::service;
use crate::service::failure::Failure;
use crate::service::request::{Class, Inputs, Request};

/// Bytes per entry to reserve before the cache's hash table grows, because it doubles its size at once.
const CACHE_GROWTH: u64 = 64;

/// A PNG image of one pixel.
const ONE_PIXEL: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0\x90wS\xde\0\0\0\x0cIDATx\x9cc8!\x17\x05\0\x02\xf2\x01A\xd7/\xd1f\0\0\0\0IEND\xaeB`\x82";

/// An open model and the version of its directory.
pub struct Open {
    pub model: Model,
    pub cache_hits: u64,
    /// True after the warning that its weights are not shared.
    warned: bool,
    stamp: Stamp,
}

/// A version of a model directory. The manifest is replaced by rename and never written in place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    folder: PathBuf,
    inode: u64,
    modified: (i64, i64),
}

#[derive(Hash, PartialEq, Eq)]
struct Query {
    digest: String,
    /// A text that one call may truncate is an error for another.
    overflow: Overflow,
    text: String,
}

struct Backend {
    open: BTreeMap<String, Open>,
    queries: LruCache<Query, Embedding>,
}

thread_local! {
    static BACKEND: RefCell<ManuallyDrop<Backend>> = RefCell::new(ManuallyDrop::new(Backend {
        open: BTreeMap::new(),
        queries: LruCache::unbounded(),
    }));
}

/// Runs `act` with the model `name` of this process, and opens the model first if necessary.
pub fn with<T>(name: &str, act: impl FnOnce(&mut Model, &Options) -> Result<T, Error>) -> Result<T, Error> {
    let done = BACKEND.with_borrow_mut(|backend| act(&mut backend.open(name)?.model, &settings::options()));
    warn_if_not_prepared(name);
    done
}

/// Calls `look` with the manifest of the model `name`. Loads no weights.
pub fn manifest<T>(name: &str, look: impl FnOnce(&Manifest) -> T) -> Result<T, Error> {
    BACKEND.with_borrow_mut(|backend| Ok(look(backend.open(name)?.model.manifest())))
}

/// Embeds one text, or returns its cached embedding.
pub fn embed_text(name: &str, text: &str) -> Result<Embedding, Failure> {
    // A long text is not cached, and not copied.
    if text.len() > MAX_CACHED_TEXT {
        return embed_texts(name, &[text], Class::Search).map_err(Failure::of_one).map(only);
    }
    let digest = manifest(name, |manifest| manifest.digest.clone())?;
    let query = Query { digest, overflow: settings::text_overflow(), text: text.into() };
    if let Some(known) = BACKEND.with_borrow_mut(|backend| backend.known(name, &query)) {
        return Ok(known);
    }
    let embedding = embed_texts(name, &[text], Class::Search).map_err(Failure::of_one).map(only)?;
    BACKEND.with_borrow_mut(|backend| backend.keep(query, &embedding));
    Ok(embedding)
}

/// Embeds one image.
pub fn embed_image(name: &str, image: &[u8]) -> Result<Embedding, Failure> {
    embed_images(name, &[image], Class::Search).map_err(Failure::of_one).map(only)
}

/// Embeds one text or image that may have ended the service. This process does not compute it.
pub fn embed_suspect(name: &str, input: Inputs<'_>) -> Result<Embedding, Failure> {
    ask(name, input, Class::Bulk, settings::limits, true)
        .and_then(|embedded| embedded.ok_or(Failure::Crash))
        .map(only)
        .map_err(Failure::of_one)
}

/// Embeds texts, in their order.
pub fn embed_texts(name: &str, texts: &[&str], class: Class) -> Result<Vec<Embedding>, Failure> {
    compute(name, Inputs::Texts(texts), class, settings::limits, |model, options| {
        Ok(model.embed_texts(texts, options)?.into_iter().map(|text| text.embedding).collect())
    })
}

/// Embeds images, in their order.
pub fn embed_images(name: &str, images: &[&[u8]], class: Class) -> Result<Vec<Embedding>, Failure> {
    compute(name, Inputs::Images(images), class, settings::limits, |model, options| model.embed_images(images, options))
}

/// Loads a tower where it will be used: into this process, or into the service, which loads it for the first request.
pub fn load(name: &str, tower: Tower) -> Result<(), Failure> {
    let inputs = match tower {
        Tower::Text => Inputs::Texts(&["a"]),
        Tower::Image => Inputs::Images(&[ONE_PIXEL]),
    };
    // The sample is not the user's, so the formats that users may send do not matter.
    let limits = || Limits { formats: Format::ALL.to_vec(), ..settings::limits() };
    let here = |model: &mut Model, options: &Options| model.load(tower, options).map(|()| Vec::new());
    compute(name, inputs, Class::Search, limits, here).map(drop).map_err(Failure::of_one)
}

/// Decides whether the service or this process computes.
fn compute(
    name: &str,
    inputs: Inputs<'_>,
    class: Class,
    limits: impl FnOnce() -> Limits,
    here: impl FnOnce(&mut Model, &Options) -> Result<Vec<Embedding>, Error>,
) -> Result<Vec<Embedding>, Failure> {
    if let Some(embedded) = ask(name, inputs, class, limits, false)? {
        return Ok(embedded);
    }
    Ok(with(name, here)?)
}

/// Lets the service compute. Returns None if this process should.
fn ask(
    name: &str,
    inputs: Inputs<'_>,
    class: Class,
    limits: impl FnOnce() -> Limits,
    suspect: bool,
) -> Result<Option<Vec<Embedding>>, Failure> {
    if !service::settings::is_on() {
        return Ok(None);
    }
    let (digest, dimensions) = manifest(name, |manifest| (manifest.digest.clone(), manifest.dimensions))?;
    // No borrow of the cache is held, because the wait calls Postgres, which may raise an error.
    service::embed(&Request { model: name, digest: &digest, dimensions, inputs, class, limits: limits(), suspect })
}

/// Returns the embedding of the only input.
fn only(embedded: Vec<Embedding>) -> Embedding {
    embedded.into_iter().next().unwrap_or_else(|| unreachable!("one input has no embedding. This is a bug."))
}

/// Warns once if a model's weights are not shared. Must not hold a borrow of the cache, because it calls Postgres, which may
/// raise an error.
fn warn_if_not_prepared(name: &str) {
    let reason = BACKEND.with_borrow_mut(|backend| {
        let open = backend.open.get_mut(name)?;
        open.model.take_not_prepared().filter(|_| !std::mem::replace(&mut open.warned, true))
    });
    if let Some(reason) = reason {
        warn(report(reason));
    }
}

/// Unloads the towers of one model, or of all models. Returns the number of unloaded towers.
pub fn unload(name: Option<&str>) -> usize {
    BACKEND.with_borrow_mut(|backend| {
        let chosen = backend.open.iter_mut().filter(|(open, _)| name.is_none_or(|name| name == open.as_str()));
        chosen.map(|(_, open)| open.model.unload()).sum()
    })
}

/// Calls `look` with each open model.
pub fn for_each(mut look: impl FnMut(&str, &Open)) {
    BACKEND.with_borrow(|backend| backend.open.iter().for_each(|(name, open)| look(name, open)));
}

impl Backend {
    fn open(&mut self, name: &str) -> Result<&mut Open, Error> {
        end_with_postmaster();
        let folder = clip::store::folder_in(&settings::model_paths(), name)?;
        let stamp = Stamp::of(folder, name)?;
        if self.open.get(name).is_none_or(|open| open.stamp != stamp) {
            let model = Model::open(&stamp.folder, name, interrupted)?;
            self.open.insert(name.into(), Open { model, cache_hits: 0, warned: false, stamp });
        }
        self.open.get_mut(name).ok_or_else(|| unreachable!("an open model is missing from the cache. This is a bug."))
    }

    /// Returns the cached embedding of a text.
    fn known(&mut self, name: &str, query: &Query) -> Option<Embedding> {
        let capacity = settings::query_cache_size();
        while self.queries.len() > capacity {
            self.queries.pop_lru();
        }
        let known = self.queries.get(query).cloned()?;
        if let Some(open) = self.open.get_mut(name) {
            open.cache_hits += 1;
        }
        Some(known)
    }

    /// Caches the embedding of a text.
    fn keep(&mut self, query: Query, embedding: &Embedding) {
        let Some(capacity) = NonZeroUsize::new(settings::query_cache_size()) else { return };
        while self.queries.len() >= capacity.get() {
            self.queries.pop_lru();
        }
        // The hash table doubles its size at once.
        if clip::headroom(CACHE_GROWTH * self.queries.len() as u64).is_ok() {
            self.queries.put(query, embedding.clone());
        }
    }
}

impl Stamp {
    fn of(folder: PathBuf, name: &str) -> Result<Self, Error> {
        let metadata = fs::metadata(folder.join(MANIFEST_FILE)).map_err(|error| Error::ModelFile {
            model: name.into(),
            file: MANIFEST_FILE.into(),
            reason: error.to_string(),
        })?;
        Ok(Self { folder, inode: metadata.ino(), modified: (metadata.mtime(), metadata.mtime_nsec()) })
    }
}
