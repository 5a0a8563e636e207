//! `clip_auto_embed_row`, the trigger that embeds rows or marks them as pending.
//!
//! All modes use the same rule: the source decides. If the source is new or has changed, or if the embedding was cleared, mode
//! row computes an embedding, and modes statement and queue set it to NULL, which makes the row pending. An embedding that a
//! statement writes is replaced, unless the column was attached with on_vector => 'keep'.

use std::cell::RefCell;
use std::ffi::CStr;

use clip::Embedding;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;

use super::check;
use super::columns::Columns;
use super::embed_rows::{Source, check_digest};
use super::pairs::{self, Origin};
use super::row_failure::{forget_failure, record_failure};
use super::trigger_row::{Row, is_restore};
use crate::model_cache;
use crate::pg::finfo::declare_finfo;
use crate::pg::messages::{broken_trigger, other_dimensions, trigger_fires_later};
use crate::pg::settings;
use crate::pg::varlena::Varlena;
use crate::pg::vector::Vector;
use crate::service::failure::Failure;
use crate::worker::wake::wake;

declare_finfo!(pg_finfo_clip_auto_embed_row_wrapper);

/// # Safety
///
/// Only the server may call this function.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn clip_auto_embed_row_wrapper(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the server's call.
    let row = unsafe { Row::of(fcinfo) };
    row.ok_or_else(|| broken_trigger("it must be a BEFORE INSERT OR UPDATE trigger FOR EACH ROW"))
        .and_then(|row| embed_row(&row))
        .unwrap_or_report()
}

/// The embedding that the stored row gets.
enum Decision<'a> {
    Keep(Option<Varlena<'a>>),
    Replace(Option<Varlena<'a>>),
    /// The row stays as it was before the update.
    Skip,
}

fn embed_row(row: &Row<'_>) -> Result<pg_sys::Datum, ErrorReport> {
    let arguments = row.arguments();
    let (mode, model, digest, on_error, on_vector) = match *arguments.as_slice() {
        ["stamp", ..] => return Ok(row.keep()),
        [mode, model, digest, on_error] => (mode, model, digest, on_error, "replace"),
        [mode, model, digest, on_error, on_vector] => (mode, model, digest, on_error, on_vector),
        _ => return Err(broken_trigger("its arguments must be mode, model, digest, on_error, on_vector")),
    };
    let (columns, column) = (row.columns()?, Recorded { mode, model, digest, on_error, on_vector });
    let decision = decide(row, columns, &column)?;
    if row.is_foreign() {
        return Ok(match decision {
            Decision::Replace(vector) => row.with_value(columns.target, vector.map(Varlena::datum)),
            Decision::Keep(_) => row.keep(),
            Decision::Skip => row.skip(),
        });
    }
    let vector = match decision {
        Decision::Keep(vector) | Decision::Replace(vector) => vector,
        Decision::Skip => return Ok(row.skip()),
    };
    if row.has_check() {
        // The check trigger compares each stored row, whichever triggers have fired for it.
        if let (Some(source), Some(vector)) = (row.new_value(columns.source), vector) {
            check::pass(source, vector);
        }
    } else if let Some(later) = row.later_triggers().next() {
        return Err(fires_later(later));
    }
    Ok(match decision {
        Decision::Replace(vector) => row.with_value(columns.target, vector.map(Varlena::datum)),
        _ => row.keep(),
    })
}

/// The arguments of a trigger.
struct Recorded<'a> {
    mode: &'a str,
    model: &'a str,
    digest: &'a str,
    on_error: &'a str,
    on_vector: &'a str,
}

impl Recorded<'_> {
    /// Returns true if the column keeps an embedding that a statement writes.
    fn keeps(&self) -> bool {
        self.on_vector == "keep"
    }
}

fn decide<'a>(row: &Row<'a>, columns: Columns, column: &Recorded<'_>) -> Result<Decision<'a>, ErrorReport> {
    let (source, target) = (row.new_value(columns.source), row.new_value(columns.target));
    let changed = |new: Option<Varlena<'_>>, column| match (row.old_value(column), new) {
        (Some(old), Some(new)) => !old.same_as(new),
        (old, new) => old.is_some() != new.is_some(),
    };
    let is_written = changed(target, columns.target);
    let written = target.filter(|_| is_written);
    let origin = match written.map(|vector| pairs::of_fill(column.digest, source, vector)) {
        Some(Origin::Matching) => return Ok(Decision::Keep(target)),
        // A trigger that changes the source of every update would let a fill store the row again and again.
        Some(Origin::Mismatched) if changed(source, columns.source) && pairs::skip(row.old_value(columns.source)) => {
            return Ok(Decision::Skip);
        }
        Some(Origin::Mismatched) => Origin::Mismatched,
        _ => written.map_or(Origin::Foreign, |vector| origin(row, column, source, vector)),
    };
    let brings_vectors = column.keeps() || !row.is_update() && is_restore();
    if brings_vectors && written.is_some() && origin != Origin::Mismatched {
        return Ok(Decision::Keep(target));
    }
    let Some(source) = source else { return Ok(Decision::Replace(None)) };
    if !row.is_update() && origin == Origin::Matching {
        return Ok(Decision::Keep(target));
    }
    if row.is_update() && !changed(Some(source), columns.source) {
        match target {
            Some(vector) if !is_written => {
                if row.is_in_partition() {
                    pairs::remember(column.digest, column.keeps(), source, vector);
                }
                return Ok(Decision::Keep(target));
            }
            Some(_) => {
                if let Some(former) = row.old_value(columns.target) {
                    return Ok(Decision::Replace(Some(former)));
                }
            }
            None if !is_written => return Ok(Decision::Keep(None)),
            // The embedding was cleared, which requests a new one.
            None => (),
        }
    }
    match column.mode {
        // The server that stores the row embeds it. Until then no embedding of a former source stays in the row.
        _ if row.is_foreign() => Ok(Decision::Replace(None)),
        "queue" => {
            wake();
            Ok(Decision::Replace(None))
        }
        "row" => match (embed(row, columns, source, column), column.on_error) {
            (Ok(vector), on_error) => {
                if on_error == "null" && row.is_update() && row.old_value(columns.target).is_none() {
                    forget_failure(row)?;
                }
                // SAFETY: the vector was created above, in the memory of the row.
                let vector = unsafe { Varlena::from_datum(vector.datum()) };
                if column.keeps() {
                    pairs::computed(column.digest, source, vector);
                }
                Ok(Decision::Replace(Some(vector)))
            }
            (Err(error), "null") => {
                record_failure(row, columns, source, error)?;
                Ok(Decision::Replace(None))
            }
            (Err(error), _) => Err(error),
        },
        _ => Ok(Decision::Replace(None)),
    }
}

/// Relates an embedding that a statement writes to those that this process has computed.
fn origin(row: &Row<'_>, column: &Recorded<'_>, source: Option<Varlena<'_>>, vector: Varlena<'_>) -> Origin {
    let moved = || pairs::of_moved_row(column.digest, column.keeps(), source, vector);
    let known = [(!row.is_update()).then(moved), Some(pairs::of_trigger(column.digest, source, vector))];
    known.into_iter().flatten().find(|&origin| origin != Origin::Foreign).unwrap_or(Origin::Foreign)
}

/// The error for a table with a later trigger and without the check trigger.
fn fires_later(later: &pg_sys::Trigger) -> ErrorReport {
    // SAFETY: names are null-terminated and live as long as the trigger.
    let name = unsafe { CStr::from_ptr(later.tgname) };
    trigger_fires_later(&name.to_string_lossy())
}

/// The image of the last embedded row. ON CONFLICT DO UPDATE fires the trigger twice with the same source. Texts are in the cache of
/// query texts.
struct LastImage {
    model: String,
    image: String,
    embedding: Embedding,
}

fn embed(row: &Row<'_>, columns: Columns, source: Varlena<'_>, column: &Recorded<'_>) -> Result<Vector, ErrorReport> {
    let Recorded { model, digest, .. } = *column;
    check_digest(model, digest)?;
    let embedded = match Source::read(source, columns.is_image(), &settings::limits())? {
        Source::Text(text) => model_cache::embed_text(model, &text),
        Source::Image(image) => embed_image(model, digest, image),
    };
    match embedded {
        Ok(embedding) => {
            let length = embedding.as_slice().len();
            match row.dimensions_of(columns.target).filter(|declared| *declared != length) {
                Some(declared) => Err(other_dimensions(model, length, declared)),
                None => columns.target_type.value(&embedding),
            }
        }
        // An interrupt is no failure of the row: it ends the statement.
        Err(failure) if failure.is_interrupt() => Err(ErrorReport::from(failure)).unwrap_or_report(),
        Err(failure) => Err(failure.into()),
    }
}

fn embed_image(model: &str, digest: &str, image: &[u8]) -> Result<Embedding, Failure> {
    thread_local! {
        static LAST: RefCell<Option<LastImage>> = const { RefCell::new(None) };
    }
    let image_digest = clip::digest(image);
    let is_last = |last: &&LastImage| last.model == digest && last.image == image_digest;
    if let Some(known) = LAST.with_borrow(|last| last.as_ref().filter(is_last).map(|last| last.embedding.clone())) {
        return Ok(known);
    }
    let embedding = model_cache::embed_image(model, image)?;
    LAST.set(Some(LastImage { model: digest.into(), image: image_digest, embedding: embedding.clone() }));
    Ok(embedding)
}
