//! Embeds rows in batches with the model of their column, for triggers, backfills and workers.

use std::borrow::Cow;

use clip::{Embedding, Error, Limits};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::model_cache;
use crate::model_choice::model_or_default;
use crate::pg::error::report;
use crate::pg::messages::{another_model, in_transaction_block};
use crate::pg::settings;
use crate::pg::text::Text;
use crate::pg::values::reserve;
use crate::pg::varlena::Varlena;
use crate::service::failure::Failure;
use crate::service::request::{Class, Inputs};

/// A detoasted source: a text or an image.
pub enum Source<'a> {
    Text(Cow<'a, str>),
    Image(&'a [u8]),
}

impl<'a> Source<'a> {
    pub fn read(value: Varlena<'a>, is_image: bool, limits: &Limits) -> Result<Self, ErrorReport> {
        match is_image {
            true => value.image(limits.bytes).map(Self::Image),
            false => value.text().map(Self::Text),
        }
    }
}

/// Embeds sources that are all texts or all images.
fn embed_all(sources: &[&Source<'_>], model: &str) -> Result<Vec<Embedding>, Failure> {
    let (mut texts, mut images) = (clip::reserve(sources.len())?, clip::reserve(sources.len())?);
    for source in sources {
        match source {
            Source::Text(text) => texts.push(text.as_ref()),
            Source::Image(image) => images.push(*image),
        }
    }
    match images.is_empty() {
        true => model_cache::embed_texts(model, &texts, Class::Bulk),
        false => model_cache::embed_images(model, &images, Class::Bulk),
    }
}

/// Fails if the installed model has another digest than the column records.
pub fn check_digest(model: &str, digest: &str) -> Result<(), ErrorReport> {
    let found = model_cache::manifest(model, |manifest| manifest.digest.clone()).map_err(report)?;
    if found == digest { Ok(()) } else { Err(another_model(model, digest, &found)) }
}

/// Embeds some rows of a column with its model. If `tolerant`, the result of a source that cannot be embedded is its error.
/// Otherwise the first error ends the call.
pub fn embed_each(
    model: &str,
    digest: &str,
    values: &[Varlena<'_>],
    is_image: bool,
    tolerant: bool,
) -> Result<Vec<Result<Embedding, ErrorReport>>, ErrorReport> {
    let limits = settings::limits();
    check_digest(model, digest)?;
    let mut results: Vec<Option<Result<Embedding, ErrorReport>>> = reserve(values.len())?;
    let mut sources = reserve(values.len())?;
    for (position, &value) in values.iter().enumerate() {
        results.push(None);
        match Source::read(value, is_image, &limits) {
            Ok(source) => sources.push((position, source)),
            Err(error) if tolerant => results[position] = Some(Err(error)),
            Err(error) => return Err(error),
        }
    }
    // A source that fails is removed, and the others are embedded again without it.
    while !sources.is_empty() {
        pgrx::check_for_interrupts!();
        let mut live = reserve(sources.len())?;
        live.extend(sources.iter().map(|(_, source)| source));
        match embed_all(&live, model) {
            Ok(embedded) => {
                for ((position, _), embedding) in sources.drain(..).zip(embedded) {
                    results[position] = Some(Ok(embedding));
                }
            }
            Err(Failure::Clip(Error::Item { index, source })) if tolerant && !source.is_interrupt() => {
                let (position, _) = sources.remove(index);
                results[position] = Some(Err(report(*source)));
            }
            // One of the sources may have ended the service. Each is embedded without the others.
            Err(Failure::Crash) if tolerant => {
                for (position, source) in sources.drain(..) {
                    let suspect = match &source {
                        Source::Text(text) => model_cache::embed_suspect(model, Inputs::Texts(&[text])),
                        Source::Image(image) => model_cache::embed_suspect(model, Inputs::Images(&[image])),
                    };
                    results[position] = Some(match suspect {
                        Ok(embedding) => Ok(embedding),
                        Err(failure) if failure.is_of_the_input() => Err(failure.into()),
                        Err(failure) => return Err(failure.into()),
                    });
                }
            }
            Err(failure) => return Err(failure.of_one().into()),
        }
    }
    Ok(results.into_iter().flatten().collect())
}

#[pg_extern(sql = false)]
fn clip_max_bytes(image: bool) -> i64 {
    // Both limits are far below the largest i64.
    if image { settings::limits().bytes as i64 } else { clip::MAX_TEXT_BYTES as i64 }
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "the columns are the type")]
fn clip_resolve_model(
    model: Option<Varlena<'_>>,
) -> Result<TableIterator<'static, (name!(name, Text), name!(digest, String), name!(dimensions, i32))>, ErrorReport> {
    let name = model_or_default(model)?;
    let row = model_cache::manifest(&name, |manifest| {
        (Text(name.clone()), manifest.digest.clone(), manifest.dimensions as i32)
    });
    Ok(TableIterator::once(row.map_err(report)?))
}

#[pg_extern(sql = false)]
fn clip_require_no_transaction(what: Varlena<'_>, instead: Varlena<'_>) -> Result<(), ErrorReport> {
    // SAFETY: reads the state of this session's transaction.
    match unsafe { pg_sys::IsTransactionBlock() } {
        true => Err(in_transaction_block(&what.text()?, &instead.text()?)),
        false => Ok(()),
    }
}
