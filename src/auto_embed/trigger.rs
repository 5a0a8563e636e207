//! `clip_auto_embed_row`, the trigger that embeds rows or marks them as pending.
//!
//! All modes use the same rule: the source decides. If the source is new or has changed, or if the embedding was cleared, mode
//! row computes an embedding, and modes statement and queue set it to NULL, which makes the row pending. An embedding that a
//! statement writes is replaced, unless the column was attached with on_vector => 'keep'.

use std::cell::RefCell;
use std::ffi::CStr;

use clip::{Embedding, Error};
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;

use super::check;
use super::columns::Columns;
use super::embed_rows::{Source, check_digest};
use super::pairs::{self, Origin};
use super::trigger_row::{Row, is_restore};
use crate::failures;
use crate::failures::Failure;
use crate::model_cache;
use crate::pg::error::report;
use crate::pg::finfo::declare_finfo;
use crate::pg::messages::{broken_trigger, trigger_fires_later};
use crate::pg::roles::{Extension, with_fixed_output};
use crate::pg::settings;
use crate::pg::spi::{Row as Found, read, required};
use crate::pg::summary::summary_of;
use crate::pg::text::Text;
use crate::pg::values::OwnedValue;
use crate::pg::varlena::Varlena;
use crate::pg::vector::Vector;
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
    let brings_vectors = column.on_vector == "keep" || !row.is_update() && is_restore();
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
                    pairs::remember(column.digest, source, vector);
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
        "queue" => {
            wake();
            Ok(Decision::Replace(None))
        }
        "row" => match (embed(columns, source, column.model, column.digest), column.on_error) {
            (Ok(vector), on_error) => {
                if on_error == "null" && row.is_update() && row.old_value(columns.target).is_none() {
                    forget_failure(row)?;
                }
                // SAFETY: the vector was created above, in the memory of the row.
                let vector = unsafe { Varlena::from_datum(vector.datum()) };
                if column.on_vector == "keep" {
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
    let moved = || pairs::of_moved_row(column.digest, source, vector);
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

fn embed(columns: Columns, source: Varlena<'_>, model: &str, digest: &str) -> Result<Vector, ErrorReport> {
    check_digest(model, digest)?;
    let embedded = match Source::read(source, columns.is_image(), &settings::limits())? {
        Source::Text(text) => model_cache::embed_text(model, &text),
        Source::Image(image) => embed_image(model, digest, image),
    };
    match embedded {
        Ok(embedding) => Vector::new(&embedding),
        // An interrupt is no failure of the row: it ends the statement.
        Err(Error::Interrupted) => Err(report(Error::Interrupted)).unwrap_or_report(),
        Err(error) => Err(report(error)),
    }
}

fn embed_image(model: &str, digest: &str, image: &[u8]) -> Result<Embedding, Error> {
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

fn record_failure(row: &Row<'_>, columns: Columns, source: Varlena<'_>, error: ErrorReport) -> Result<(), ErrorReport> {
    let (sqlstate, message) = summary_of(error);
    let source_digest = failures::source_digest(source, columns.is_image());
    let row_key = RowKey::look_up(row)?;
    // Rows without a key are identified by their source.
    let key = match row_key.key(row)? {
        Some(key) => key,
        None => json_object(&["'source'".into()], &[Text(source_digest.clone()).into()])?,
    };
    let failure = Failure {
        trigger_name: row_key.trigger_name.into(),
        key: key.argument(),
        source_digest: &source_digest,
        sqlstate: &sqlstate,
        message: &message,
        retry: false,
    };
    failures::record(row_key.relation, failure)
}

fn forget_failure(row: &Row<'_>) -> Result<(), ErrorReport> {
    let row_key = RowKey::look_up(row)?;
    match row_key.key(row)? {
        Some(key) => failures::forget_one(row_key.relation, row_key.trigger_name, key.argument()),
        None => Ok(()),
    }
}

fn failed(error: spi::Error) -> ErrorReport {
    broken_trigger(&error.to_string())
}

/// The key by which failures identify a row. Looked up each time, because a key may change while its trigger does not.
struct RowKey {
    /// The table and the trigger of the managed column, of which those of a partition are copies.
    relation: pg_sys::Oid,
    trigger_name: Text,
    /// SQL expressions for the names of the key's columns, and the numbers of the columns.
    names: Vec<String>,
    numbers: Vec<i16>,
}

impl RowKey {
    fn look_up(row: &Row<'_>) -> Result<Self, ErrorReport> {
        let extension = Extension::find().ok_or_else(|| broken_trigger("the extension does not exist"))?;
        let row_key = extension.as_owner(|schema| {
            // The trigger of a partition is a copy of its table's trigger. Columns of the table may have other numbers.
            let query = format!(
                "WITH RECURSIVE up (oid, parent) AS ( \
                    SELECT t.oid, t.tgparentid FROM pg_trigger AS t WHERE t.oid = $1 \
                    UNION ALL SELECT t.oid, t.tgparentid FROM pg_trigger AS t JOIN up ON t.oid = up.parent) \
                 SELECT c.relation::oid, c.trigger_name::text, k.names, k.numbers \
                 FROM up JOIN {schema}._clip_columns AS c ON c.trigger_oid = up.oid \
                 LEFT JOIN LATERAL ( \
                    SELECT array_agg(format('(SELECT attname::pg_catalog.text FROM pg_catalog.pg_attribute \
                        WHERE attrelid OPERATOR(pg_catalog.=) %s AND attnum OPERATOR(pg_catalog.=) %s)', a.attrelid, a.attnum) ORDER BY k.i) AS names, \
                        array_agg(a.attnum ORDER BY k.i) AS numbers \
                    FROM unnest(c.key_names) WITH ORDINALITY AS k (name, i) \
                    JOIN pg_attribute AS a ON a.attrelid = $2 AND a.attname = k.name \
                 ) AS k ON true"
            );
            read(&query, &[row.trigger().into(), row.relation().into()], |found: &Found<'_>| {
                Ok(Self {
                    relation: required(found, 1)?,
                    trigger_name: required(found, 2)?,
                    names: found.get(3)?.unwrap_or_default(),
                    numbers: found.get(4)?.unwrap_or_default(),
                })
            })
        });
        row_key.map_err(failed)?.ok_or_else(|| broken_trigger("clip_auto_embed did not create it"))
    }

    /// Returns the key of a row as a JSON object, if the table has a key.
    fn key(&self, row: &Row<'_>) -> Result<Option<OwnedValue>, ErrorReport> {
        let Some(values) = self.numbers.iter().map(|&number| row.argument(number)).collect::<Option<Vec<_>>>() else {
            return Err(broken_trigger("the key of its table has changed"));
        };
        if values.is_empty() { Ok(None) } else { json_object(&self.names, &values).map(Some) }
    }
}

/// Builds a JSON object of names (SQL expressions) and values. Settings of the session do not change it.
fn json_object(names: &[String], values: &[DatumWithOid<'_>]) -> Result<OwnedValue, ErrorReport> {
    let pairs: Vec<_> = names.iter().zip(1..).map(|(name, number)| format!("{name}, ${number}")).collect();
    let query = format!("SELECT pg_catalog.jsonb_build_object({})", pairs.join(", "));
    let object = with_fixed_output(|| read(&query, values, |row| Ok(row.owned(1))));
    object.map_err(failed)?.unwrap_or_else(|| Err(broken_trigger("its key cannot be converted to JSON")))
}
