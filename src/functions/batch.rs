//! `clip_embed_texts` and `clip_embed_images`, which embed an array in windows.

use std::collections::VecDeque;

use clip::{Embedding, Error, MAX_IMAGE_BATCH, TEXT_WINDOW};
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;

use crate::model_cache;
use crate::model_choice::model_or_default;
use crate::pg::settings;
use crate::pg::varlena::{Varlena, VarlenaArray};
use crate::pg::vector::Vector;
use crate::service::failure::Failure;
use crate::service::request::Class;

type EmbeddingRows<'a> = TableIterator<'a, (name!(ordinality, i32), name!(embedding, Option<Vector>))>;

#[pg_extern(sql = false)]
fn clip_embed_texts<'a>(
    inputs: Option<VarlenaArray<'a>>,
    model: Option<Varlena<'a>>,
) -> Result<EmbeddingRows<'a>, ErrorReport> {
    let embed = |model: &str, inputs: &[Varlena<'a>]| {
        let texts = inputs.iter().map(|input| input.text()).collect::<Result<Vec<_>, _>>()?;
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        Ok(model_cache::embed_texts(model, &texts, Class::Bulk))
    };
    batch(inputs, model, TEXT_WINDOW, embed)
}

#[pg_extern(sql = false)]
fn clip_embed_images<'a>(
    inputs: Option<VarlenaArray<'a>>,
    model: Option<Varlena<'a>>,
) -> Result<EmbeddingRows<'a>, ErrorReport> {
    let embed = |model: &str, inputs: &[Varlena<'a>]| {
        let limit = settings::limits().bytes;
        let images = inputs.iter().map(|input| input.image(limit)).collect::<Result<Vec<_>, _>>()?;
        Ok(model_cache::embed_images(model, &images, Class::Bulk))
    };
    batch(inputs, model, MAX_IMAGE_BATCH, embed)
}

/// The result of a window: the outer error is from reading its elements.
type Embedded = Result<Result<Vec<Embedding>, Failure>, ErrorReport>;

/// Embeds an array window by window, when the rows are fetched. So memory holds one window, and a query can be canceled
/// between two windows.
fn batch<'a>(
    inputs: Option<VarlenaArray<'a>>,
    model: Option<Varlena<'a>>,
    window: usize,
    embed: impl Fn(&str, &[Varlena<'a>]) -> Embedded + 'a,
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
    embed: &impl Fn(&str, &[Varlena<'a>]) -> Embedded,
) -> Result<VecDeque<Option<Embedding>>, ErrorReport> {
    pgrx::check_for_interrupts!();
    let positions: Vec<usize> = (0..elements.len()).filter(|&position| elements[position].is_some()).collect();
    let present: Vec<Varlena<'a>> = elements.iter().copied().flatten().collect();
    let mut rows = VecDeque::from(vec![None; elements.len()]);
    if present.is_empty() {
        return Ok(rows);
    }
    let embedded = embed(name, &present)?.map_err(|failure| match failure {
        Failure::Clip(Error::Item { index, source }) => {
            Failure::Clip(Error::Item { index: first + positions[index], source })
        }
        other => other,
    });
    for (position, embedding) in positions.into_iter().zip(embedded?) {
        rows[position] = Some(embedding);
    }
    Ok(rows)
}
