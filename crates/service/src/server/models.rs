//! The models of the service's directories.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use clip::{Error, MANIFEST_FILE, Manifest, Model, Options, TextReader, store};

use super::failure::{Failure, failure};
use super::locks::unpoisoned;

/// Longest digest and name that are looked up.
const MAX_NAME: usize = 128;

/// A model whose manifest was read.
pub struct Opened {
    /// Distinguishes models with the same name and digest that were opened at different times.
    pub id: u64,
    pub manifest: Manifest,
    pub digest: Arc<str>,
    pub folder: PathBuf,
    stamp: Option<Stamp>,
    /// Has the tokenizer, and no weights.
    texts: Mutex<Model>,
}

/// A version of a manifest, which is replaced by rename and never written in place.
#[derive(PartialEq, Eq)]
struct Stamp {
    inode: u64,
    modified: (i64, i64),
}

pub struct Models {
    paths: Vec<PathBuf>,
    options: Options,
    /// By name and digest.
    opened: Mutex<HashMap<(String, String), Arc<Opened>>>,
    /// One thread opens a model at a time.
    opening: Mutex<()>,
    ids: AtomicU64,
}

impl Models {
    pub fn new(paths: Vec<PathBuf>, options: Options) -> Self {
        Self { paths, options, opened: Mutex::default(), opening: Mutex::new(()), ids: AtomicU64::new(0) }
    }

    /// Returns the model with this name and digest.
    pub fn find(&self, name: &str, digest: &str) -> Result<Arc<Opened>, Failure> {
        if name.len() > MAX_NAME || digest.len() > MAX_NAME {
            return Err(Failure::Declined("The service has no model of that name".into()));
        }
        let key = (name.to_owned(), digest.to_owned());
        if let Some(known) = unpoisoned(&self.opened).get(&key) {
            return Ok(known.clone());
        }
        let _one = unpoisoned(&self.opening);
        if let Some(known) = unpoisoned(&self.opened).get(&key) {
            return Ok(known.clone());
        }
        let opened = Arc::new(self.open(name, digest)?);
        unpoisoned(&self.opened).insert(key, opened.clone());
        Ok(opened)
    }

    fn open(&self, name: &str, digest: &str) -> Result<Opened, Failure> {
        let folder = store::folder_in(&self.paths, name).map_err(failure)?;
        let stamp = Stamp::of(&folder);
        let model = Model::open(&folder, name, self.options.interrupted).map_err(failure)?;
        let manifest = model.manifest().clone();
        if manifest.digest != digest {
            return Err(Failure::Declined(format!("The service has model \"{name}\" with another digest")));
        }
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        Ok(Opened { id, digest: digest.into(), manifest, folder, stamp, texts: Mutex::new(model) })
    }

    /// Removes a model that cannot be loaded if its manifest was replaced since, so that the next request opens it again.
    pub fn check(&self, opened: &Opened) {
        if Stamp::of(&opened.folder) != opened.stamp {
            unpoisoned(&self.opened).retain(|_, other| other.id != opened.id);
        }
    }
}

impl Stamp {
    fn of(folder: &Path) -> Option<Self> {
        let found = std::fs::metadata(folder.join(MANIFEST_FILE)).ok()?;
        Some(Self { inode: found.ino(), modified: (found.mtime(), found.mtime_nsec()) })
    }
}

impl Opened {
    /// Returns the reader of texts, which is loaded first if necessary.
    pub fn text_reader(&self, options: &Options) -> Result<TextReader, Error> {
        unpoisoned(&self.texts).text_reader(options)
    }

    /// Unloads the tokenizer.
    pub fn unload_texts(&self) {
        unpoisoned(&self.texts).unload();
    }
}
