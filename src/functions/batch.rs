//! `clip_embed_texts` and `clip_embed_images`, which embed an array in windows.

use std::cell::Cell;
use std::collections::VecDeque;

use clip::{Embedding, Error, MAX_IMAGE_BATCH, Model, Options, TEXT_WINDOW};
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;

use crate::model_cache;
use crate::model_choice::model_or_default;
use crate::pg::error::report;
use crate::pg::varlena::{Varlena, VarlenaArray};
use crate::pg::vector::Vector;

type EmbeddingRows<'a> = TableIterator<'a, (name!(ordinality, i32), name!(embedding, Option<Vector>))>;

#[pg_extern(sql = false)]
fn clip_embed_texts<'a>(
    inputs: Option<VarlenaArray<'a>>,
    model: Option<Varlena<'a>>,
) -> Result<EmbeddingRows<'a>, ErrorReport> {
    let embed = |model: &mut Model, inputs: &[Varlena<'a>], options: &Options| {
        let texts = inputs.iter().map(|input| input.text()).collect::<Result<Vec<_>, _>>()?;
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let embedded = model.embed_texts(&texts, options).map_err(BatchError::Clip)?;
        Ok(embedded.into_iter().map(|text| text.embedding).collect())
    };
    batch(inputs, model, TEXT_WINDOW, embed)
}

#[pg_extern(sql = false)]
fn clip_embed_images<'a>(
    inputs: Option<VarlenaArray<'a>>,
    model: Option<Varlena<'a>>,
) -> Result<EmbeddingRows<'a>, ErrorReport> {
    let embed = |model: &mut Model, inputs: &[Varlena<'a>], options: &Options| {
        let limit = options.limits.bytes;
        let images = inputs.iter().map(|input| input.image(limit)).collect::<Result<Vec<_>, _>>()?;
        model.embed_images(&images, options).map_err(BatchError::Clip)
    };
    batch(inputs, model, MAX_IMAGE_BATCH, embed)
}

/// The error of a window: from `clip`, or from reading its elements.
enum BatchError {
    Clip(Error),
    Argument(ErrorReport),
}

impl From<ErrorReport> for BatchError {
    fn from(report: ErrorReport) -> Self {
        Self::Argument(report)
    }
}

/// Embeds an array window by window, when the rows are fetched. So memory holds one window, and a query can be canceled
/// between two windows.
fn batch<'a>(
    inputs: Option<VarlenaArray<'a>>,
    model: Option<Varlena<'a>>,
    window: usize,
    embed: impl Fn(&mut Model, &[Varlena<'a>], &Options) -> Result<Vec<Embedding>, BatchError> + 'a,
) -> Result<EmbeddingRows<'a>, ErrorReport> {
    let name = model_or_default(model)?;
    let elements = inputs.map(VarlenaArray::into_elements).transpose()?.unwrap_or_default();
    let mut ready = VecDeque::new();
    let mut next = 0;
    Ok(TableIterator::new((1..=elements.len() as i32).map(move |ordinality| {
        if ready.is_empty() {
            let elements = &elements[next..(next + window).min(elements.len())];
            ready = embed_window(&name, elements, next, &embed).unwrap_or_report();
            next += elements.len();
        }
        (ordinality, ready.pop_front().flatten().as_ref().map(Vector::new_or_raise))
    })))
}

/// Embeds the elements that are not null. `first` is the position of the window in the array.
fn embed_window<'a>(
    name: &str,
    elements: &[Option<Varlena<'a>>],
    first: usize,
    embed: &impl Fn(&mut Model, &[Varlena<'a>], &Options) -> Result<Vec<Embedding>, BatchError>,
) -> Result<VecDeque<Option<Embedding>>, ErrorReport> {
    pgrx::check_for_interrupts!();
    let positions: Vec<usize> = (0..elements.len()).filter(|&position| elements[position].is_some()).collect();
    let present: Vec<Varlena<'a>> = elements.iter().copied().flatten().collect();
    let mut rows = VecDeque::from(vec![None; elements.len()]);
    if present.is_empty() {
        return Ok(rows);
    }
    let argument = Cell::new(None);
    let embedded = model_cache::with(name, |model, options| match embed(model, &present, options) {
        Ok(embedded) => Ok(embedded),
        Err(BatchError::Clip(Error::Item { index, source })) => {
            Err(Error::Item { index: first + positions[index], source })
        }
        Err(BatchError::Clip(error)) => Err(error),
        Err(BatchError::Argument(report)) => {
            argument.set(Some(report));
            Ok(Vec::new())
        }
    });
    if let Some(report) = argument.take() {
        return Err(report);
    }
    for (position, embedding) in positions.into_iter().zip(embedded.map_err(report)?) {
        rows[position] = Some(embedding);
    }
    Ok(rows)
}
