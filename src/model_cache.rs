//! The caches of this backend: open models, embeddings of recent texts, and recent label sets.
//!
//! Invariants: a backend has one thread, so a `thread_local` needs no lock. A model whose directory changed is opened again.
//! Open models are never dropped at exit, because ONNX Runtime's destructors are not safe there.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::mem::ManuallyDrop;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::rc::Rc;

use clip::{Classifier, Embedding, Error, MANIFEST_FILE, Model, Options, Overflow, TextEmbedding, of_one};
use lru::LruCache;

use crate::pg::error::report;
use crate::pg::interrupt::{end_with_postmaster, interrupted};
use crate::pg::messages::warn;
use crate::pg::settings;

/// Longest text in bytes that is cached. Longer texts are documents and not queries; caching them could use too much memory.
const MAX_CACHED_TEXT: usize = 4096;

/// Bytes per entry to reserve before the cache's hash table grows, because it doubles its size at once.
const CACHE_GROWTH: u64 = 64;

/// Size of the cached label sets in bytes: 64 MiB, which holds ImageNet's 21,000 classes in 512 dimensions. The last label
/// set is cached whatever its size.
const MAX_CACHED_LABELS: usize = 64 << 20;

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
    text: String,
}

/// Labels and templates as the bytes of the SQL arrays, which compare in a microsecond.
#[derive(Clone, Copy)]
pub struct Arguments<'a> {
    pub labels: &'a [u8],
    pub templates: &'a [u8],
}

/// Labels and their embeddings.
pub struct LabelSet {
    pub names: Vec<String>,
    pub classifier: Classifier,
    digest: String,
    /// Logit scale and bias, which are not part of the model's digest.
    head: (Option<f64>, Option<f64>),
    overflow: Overflow,
    labels: Box<[u8]>,
    templates: Box<[u8]>,
}

struct Backend {
    open: BTreeMap<String, Open>,
    /// The most recently used label set comes last.
    label_sets: Vec<Rc<LabelSet>>,
    queries: LruCache<Query, TextEmbedding>,
}

thread_local! {
    static BACKEND: RefCell<ManuallyDrop<Backend>> = RefCell::new(ManuallyDrop::new(Backend {
        open: BTreeMap::new(),
        label_sets: Vec::new(),
        queries: LruCache::unbounded(),
    }));
}

/// Runs `act` with the model `name`, and opens the model first if necessary.
pub fn with<T>(name: &str, act: impl FnOnce(&mut Model, &Options) -> Result<T, Error>) -> Result<T, Error> {
    let done = BACKEND.with_borrow_mut(|backend| act(&mut backend.open(name)?.model, &settings::options()));
    warn_if_not_prepared(name);
    done
}

/// Embeds one text, or returns its cached embedding.
pub fn embed_text(name: &str, text: &str) -> Result<Embedding, Error> {
    let embedding = BACKEND.with_borrow_mut(|backend| backend.embed_text(name, text));
    warn_if_not_prepared(name);
    embedding
}

/// Embeds one image.
pub fn embed_image(name: &str, image: &[u8]) -> Result<Embedding, Error> {
    let embedded = with(name, |model, options| model.embed_images(&[image], options)).map_err(of_one)?;
    embedded.into_iter().next().ok_or_else(|| unreachable!("one image has no embedding. This is a bug."))
}

/// Returns a label set from the cache.
pub fn known_labels(name: &str, arguments: Arguments<'_>) -> Result<Option<Rc<LabelSet>>, Error> {
    BACKEND.with_borrow_mut(|backend| {
        let manifest = backend.open(name)?.model.manifest();
        let (digest, head) = (manifest.digest.clone(), (manifest.logit_scale, manifest.logit_bias));
        let overflow = settings::text_overflow();
        let sets = &mut backend.label_sets;
        let is_it = |set: &Rc<LabelSet>| {
            set.digest == digest
                && set.head == head
                && set.overflow == overflow
                && *set.labels == *arguments.labels
                && *set.templates == *arguments.templates
        };
        let found = sets.iter().rposition(is_it);
        Ok(found.map(|place| {
            let set = sets.remove(place);
            sets.push(set.clone());
            set
        }))
    })
}

/// Embeds labels and caches the label set.
pub fn embed_labels(
    name: &str,
    arguments: Arguments<'_>,
    labels: Vec<String>,
    templates: &[&str],
) -> Result<Rc<LabelSet>, Error> {
    let copy = |bytes: &[u8]| -> Result<Box<[u8]>, Error> {
        let mut copy = clip::reserve(bytes.len())?;
        copy.extend_from_slice(bytes);
        Ok(copy.into())
    };
    let given = (copy(arguments.labels)?, copy(arguments.templates)?);
    let embedded = with(name, |model, options| {
        let mut texts = clip::reserve(labels.len())?;
        texts.extend(labels.iter().map(String::as_str));
        let classifier = Classifier::new(model, &texts, templates, options)?;
        let manifest = model.manifest();
        Ok((classifier, manifest.digest.clone(), (manifest.logit_scale, manifest.logit_bias), options.overflow))
    });
    let (classifier, digest, head, overflow) = embedded?;
    let set =
        Rc::new(LabelSet { names: labels, classifier, digest, head, overflow, labels: given.0, templates: given.1 });
    BACKEND.with_borrow_mut(|backend| {
        let sets = &mut backend.label_sets;
        sets.push(set.clone());
        // The labels are stored twice: as bytes of the array, and as names.
        let size = |set: &Rc<LabelSet>| set.classifier.size() + 2 * set.labels.len();
        while sets.len() > 1 && sets.iter().map(size).sum::<usize>() > MAX_CACHED_LABELS {
            sets.remove(0);
        }
    });
    Ok(set)
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

/// Unloads the towers and label sets of one model, or of all models. Returns the number of unloaded towers.
pub fn unload(name: Option<&str>) -> usize {
    BACKEND.with_borrow_mut(|backend| {
        let digest = name.and_then(|name| Some(backend.open.get(name)?.model.manifest().digest.clone()));
        backend.label_sets.retain(|set| name.is_some() && digest.as_ref() != Some(&set.digest));
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

    fn embed_text(&mut self, name: &str, text: &str) -> Result<Embedding, Error> {
        let options = settings::options();
        let capacity = settings::query_cache_size();
        while self.queries.len() > capacity {
            self.queries.pop_lru();
        }
        // A long text is not cached, and not copied.
        let query = match text.len() <= MAX_CACHED_TEXT {
            true => Some(Query { digest: self.open(name)?.model.manifest().digest.clone(), text: text.into() }),
            false => None,
        };
        if let Some(known) = query.as_ref().and_then(|query| self.queries.get(query)).cloned() {
            let open = self.open(name)?;
            open.cache_hits += 1;
            return known.checked(open.model.manifest().text.context_length, options.overflow).cloned();
        }
        let embedded = self.open(name)?.model.embed_texts(&[text], &options).map_err(of_one)?;
        let Some(embedded) = embedded.into_iter().next() else {
            unreachable!("one text has no embedding. This is a bug.")
        };
        let embedding = embedded.embedding.clone();
        if let (Some(query), Some(capacity)) = (query, NonZeroUsize::new(capacity)) {
            while self.queries.len() >= capacity.get() {
                self.queries.pop_lru();
            }
            // The hash table doubles its size at once.
            if clip::headroom(CACHE_GROWTH * self.queries.len() as u64).is_ok() {
                self.queries.put(query, embedded);
            }
        }
        Ok(embedding)
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
