//! The label sets of `clip_classify` that this backend has used recently.

use std::cell::RefCell;
use std::rc::Rc;

use clip::{Classifier, Error, Manifest, Overflow};

use super::{embed_texts, manifest};
use crate::pg::settings;
use crate::service::failure::Failure;
use crate::service::request::Class;

/// Size of the cached label sets in bytes: 64 MiB, which holds ImageNet's 21,000 classes in 512 dimensions. The last label
/// set is cached whatever its size.
const MAX_CACHED_LABELS: usize = 64 << 20;

/// Most texts that a user waits for like for one. More of them are bulk work.
const FEW: usize = 32;

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
    model: String,
    digest: String,
    /// Logit scale and bias, which are not part of the model's digest.
    head: (Option<f64>, Option<f64>),
    overflow: Overflow,
    labels: Box<[u8]>,
    templates: Box<[u8]>,
}

thread_local! {
    /// The most recently used label set comes last.
    static LABEL_SETS: RefCell<Vec<Rc<LabelSet>>> = const { RefCell::new(Vec::new()) };
}

fn head(manifest: &Manifest) -> (Option<f64>, Option<f64>) {
    (manifest.logit_scale, manifest.logit_bias)
}

/// Returns a label set from the cache.
pub fn known_labels(name: &str, arguments: Arguments<'_>) -> Result<Option<Rc<LabelSet>>, Error> {
    let (digest, head) = manifest(name, |manifest| (manifest.digest.clone(), head(manifest)))?;
    let overflow = settings::text_overflow();
    let is_it = |set: &Rc<LabelSet>| {
        set.digest == digest
            && set.head == head
            && set.overflow == overflow
            && *set.labels == *arguments.labels
            && *set.templates == *arguments.templates
    };
    Ok(LABEL_SETS.with_borrow_mut(|sets| {
        let set = sets.remove(sets.iter().rposition(is_it)?);
        sets.push(set.clone());
        Some(set)
    }))
}

/// Embeds labels and caches the label set.
pub fn embed_labels(
    name: &str,
    arguments: Arguments<'_>,
    labels: Vec<String>,
    templates: &[&str],
) -> Result<Rc<LabelSet>, Failure> {
    let copy = |bytes: &[u8]| -> Result<Box<[u8]>, Error> {
        let mut copy = clip::reserve(bytes.len())?;
        copy.extend_from_slice(bytes);
        Ok(copy.into())
    };
    let given = (copy(arguments.labels)?, copy(arguments.templates)?);
    let mut texts = clip::reserve(labels.len())?;
    texts.extend(labels.iter().map(String::as_str));
    let class = if texts.len() * templates.len() > FEW { Class::Bulk } else { Class::Search };
    let manifest = manifest(name, Manifest::clone)?;
    let classifier = Classifier::new(&manifest, &texts, templates, |texts| {
        embed_texts(name, texts, class).map_err(Failure::of_one)
    })?;
    let set = Rc::new(LabelSet {
        names: labels,
        classifier,
        head: head(&manifest),
        model: name.into(),
        digest: manifest.digest,
        overflow: settings::text_overflow(),
        labels: given.0,
        templates: given.1,
    });
    LABEL_SETS.with_borrow_mut(|sets| {
        sets.push(set.clone());
        // The labels are stored twice: as bytes of the array, and as names.
        let size = |set: &Rc<LabelSet>| set.classifier.size() + 2 * set.labels.len();
        while sets.len() > 1 && sets.iter().map(size).sum::<usize>() > MAX_CACHED_LABELS {
            sets.remove(0);
        }
    });
    Ok(set)
}

/// Removes the label sets of one model, or of all models, from the cache.
pub fn unload(name: Option<&str>) {
    LABEL_SETS.with_borrow_mut(|sets| sets.retain(|set| name.is_some_and(|name| set.model != name)));
}
