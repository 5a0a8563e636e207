//! `clip_auto_embed_row`, the trigger that embeds rows or marks them for a worker.
//!
//! The rule is the same in all modes. A vector that the statement itself writes is respected; otherwise, where the source
//! is new or has changed, or the vector was cleared, the row gets a vector (mode row) or none (modes statement and queue,
//! whose rows without vector are the work that is left). So no row ever shows a vector of another source.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CString;

use clip::{Embedding, Error};
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;

use crate::batch::{Source, check_digest};
use crate::datum::{Varlena, Vector};
use crate::encoding::{Raw, Text};
use crate::error::{broken_trigger, report, summary_of};
use crate::journal::{self, Failure};
use crate::models;
use crate::rights::{Extension, read, required};
use crate::row::Row;
use crate::{settings, worker};

/// What a trigger says about its column: numbers and types in the table that it fires for.
#[derive(Clone, Copy)]
struct Column {
    source: i16,
    source_type: pg_sys::Oid,
    target: i16,
    target_type: pg_sys::Oid,
}

/// A trigger keeps its number when it is redefined, but not its condition, which names the columns.
type Definition = (pg_sys::Oid, CString);

thread_local! {
    static COLUMNS: RefCell<HashMap<Definition, Column>> = RefCell::new(HashMap::new());
}

/// More triggers than a session fires; beyond that, all are looked up anew.
const MOST_COLUMNS: usize = 1000;

#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_clip_auto_embed_row_wrapper() -> &'static pg_sys::Pg_finfo_record {
    const CALLING_CONVENTION: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &CALLING_CONVENTION
}

/// # Safety
///
/// Called by the server alone.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn clip_auto_embed_row_wrapper(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the server's call.
    let row = unsafe { Row::of(fcinfo) };
    row.ok_or_else(|| broken_trigger("it is to be fired BEFORE INSERT OR UPDATE, FOR EACH ROW"))
        .and_then(|row| embed_row(&row))
        .unwrap_or_report()
}

fn embed_row(row: &Row<'_>) -> Result<pg_sys::Datum, ErrorReport> {
    let arguments = row.arguments();
    let &[mode, model, digest, on_error] = arguments.as_slice() else {
        return Err(broken_trigger("it has four arguments: mode, model, digest, on_error"));
    };
    if mode == "stamp" {
        return Ok(row.keep());
    }
    let column = Column::of(row)?;
    let (source, target) = (row.new_value(column.source), row.new_value(column.target));
    let changed = |new: Option<Varlena<'_>>, column| match (row.old_value(column), new) {
        (Some(old), Some(new)) => !old.same_as(new),
        (old, new) => old.is_some() != new.is_some(),
    };
    let cleared_or_written = changed(target, column.target);
    if target.is_some() && cleared_or_written
        || row.is_update() && !cleared_or_written && !changed(source, column.source)
    {
        return Ok(row.keep());
    }
    let Some(source) = source else {
        return Ok(row.with_vector(column.target, None));
    };
    match mode {
        "queue" => {
            worker::wake();
            Ok(row.with_vector(column.target, None))
        }
        "row" => match (embed(&column, source, model, digest), on_error) {
            (Ok(vector), on_error) => {
                if on_error == "null" && row.is_update() && row.old_value(column.target).is_none() {
                    forget_failure(row)?;
                }
                Ok(row.with_vector(column.target, Some(vector)))
            }
            (Err(error), "null") => {
                record_failure(row, &column, source, error)?;
                Ok(row.with_vector(column.target, None))
            }
            (Err(error), _) => Err(error),
        },
        _ => Ok(row.with_vector(column.target, None)),
    }
}

/// The image that the last row was embedded from. ON CONFLICT DO UPDATE fires the trigger twice with one source; texts are
/// remembered as those of queries are.
struct LastImage {
    model: String,
    image: String,
    embedding: Embedding,
}

fn embed(column: &Column, source: Varlena<'_>, model: &str, digest: &str) -> Result<Vector, ErrorReport> {
    check_digest(model, digest)?;
    let embedded = match Source::read(source, column.is_image(), &settings::limits())? {
        Source::Text(text) => models::embed_text(model, &text),
        Source::Image(image) => embed_image(model, digest, image),
    };
    match embedded {
        Ok(embedding) => Vector::new(&embedding),
        // Not a failure of the row: the statement ends here.
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
    let embedding = models::embed_image(model, image)?;
    LAST.set(Some(LastImage { model: digest.into(), image: image_digest, embedding: embedding.clone() }));
    Ok(embedding)
}

fn record_failure(row: &Row<'_>, column: &Column, source: Varlena<'_>, error: ErrorReport) -> Result<(), ErrorReport> {
    let (sqlstate, message) = summary_of(error);
    let limit = if column.is_image() { settings::limits().bytes } else { clip::MAX_TEXT_BYTES as u64 };
    let kind = if column.is_image() { pg_sys::BYTEAOID } else { pg_sys::TEXTOID };
    let extension = Extension::find().ok_or_else(no_extension)?;
    let digest = format!(
        "SELECT CASE WHEN pg_catalog.octet_length($1) OPERATOR(pg_catalog.<=) {limit} THEN {}._clip_digest($1) ELSE '' END",
        extension.schema
    );
    let Text(source_digest) = value(&digest, &[source.argument(kind)])?;
    let keyed = Keyed::look_up(row)?;
    // Rows without a key are told apart by their source.
    let key = match keyed.key(row)? {
        Some(key) => key.into(),
        None => Text(format!("{{\"source\": \"{source_digest}\"}}")).into(),
    };
    let failure = Failure {
        trigger_name: keyed.trigger_name.into(),
        key,
        source_digest: source_digest.into(),
        sqlstate: &sqlstate,
        message: Text(message).into(),
        retry: false,
    };
    journal::record_failure(keyed.relation, failure)
}

fn forget_failure(row: &Row<'_>) -> Result<(), ErrorReport> {
    let keyed = Keyed::look_up(row)?;
    match keyed.key(row)? {
        Some(key) => journal::forget_failure(keyed.relation, keyed.trigger_name, key),
        None => Ok(()),
    }
}

fn no_extension() -> ErrorReport {
    broken_trigger("the extension is not there")
}

fn failed(error: spi::Error) -> ErrorReport {
    broken_trigger(&error.to_string())
}

/// The one value of a query.
fn value<T: IntoDatum + FromDatum>(query: &str, arguments: &[DatumWithOid<'_>]) -> Result<T, ErrorReport> {
    let value = read(query, arguments, |row| required(row, 1));
    value.and_then(|value| value.ok_or(spi::SpiError::InvalidPosition)).map_err(failed)
}

/// The triggers from which a partition's is copied, itself included: their table is the one that was named.
const UP: &str = "WITH RECURSIVE up (oid, parent) AS ( \
    SELECT t.oid, t.tgparentid FROM pg_catalog.pg_trigger AS t WHERE t.oid OPERATOR(pg_catalog.=) $1 \
    UNION ALL \
    SELECT t.oid, t.tgparentid FROM pg_catalog.pg_trigger AS t JOIN up ON t.oid OPERATOR(pg_catalog.=) up.parent)";

impl Column {
    fn of(row: &Row<'_>) -> Result<Self, ErrorReport> {
        let condition =
            row.condition().ok_or_else(|| broken_trigger("its condition names the columns, and it has none"))?;
        let definition = (row.trigger(), condition.to_owned());
        if let Some(known) = COLUMNS.with_borrow(|columns| columns.get(&definition).copied())
            && known.fits(row)
        {
            return Ok(known);
        }
        let found = Self::look_up(row)?;
        if !found.fits(row) {
            return Err(broken_trigger("its columns were changed meanwhile"));
        }
        COLUMNS.with_borrow_mut(|columns| {
            if columns.len() >= MOST_COLUMNS {
                columns.clear();
            }
            columns.insert(definition, found);
        });
        Ok(found)
    }

    /// Whether the row has such columns. What the catalogs said may be older than the row, or newer.
    fn fits(self, row: &Row<'_>) -> bool {
        row.kind(self.source) == Some(self.source_type) && row.kind(self.target) == Some(self.target_type)
    }

    fn is_image(self) -> bool {
        self.source_type == pg_sys::BYTEAOID
    }

    fn look_up(row: &Row<'_>) -> Result<Self, ErrorReport> {
        let extension = Extension::find().ok_or_else(no_extension)?;
        // The trigger of a partition is a copy of its table's, whose columns may have other numbers.
        let query = format!(
            "{UP} SELECT s.attnum, s.atttypid, e.attnum, e.atttypid \
             FROM up JOIN {}._clip_columns AS c ON c.trigger_oid OPERATOR(pg_catalog.=) up.oid \
             JOIN pg_catalog.pg_attribute AS s ON s.attrelid OPERATOR(pg_catalog.=) $2 AND s.attname OPERATOR(pg_catalog.=) c.source \
             JOIN pg_catalog.pg_attribute AS e ON e.attrelid OPERATOR(pg_catalog.=) $2 AND e.attname OPERATOR(pg_catalog.=) c.target \
             WHERE s.atttypid OPERATOR(pg_catalog.=) ANY ('{{pg_catalog.text,pg_catalog.varchar,pg_catalog.bytea}}'::pg_catalog.regtype[]::pg_catalog.oid[])",
            extension.schema,
        );
        let column = read(&query, &[row.trigger().into(), row.relation().into()], |found| {
            Ok(Self {
                source: required(found, 1)?,
                source_type: required(found, 2)?,
                target: required(found, 3)?,
                target_type: required(found, 4)?,
            })
        });
        column
            .map_err(failed)?
            .ok_or_else(|| broken_trigger("its condition does not name a source and a column of type vector"))
    }
}

/// How a row of the table is named in the journal. Looked up each time, as a key may change while its trigger does not.
struct Keyed {
    /// Which table and trigger it was defined for: a partition's are copies.
    relation: pg_sys::Oid,
    trigger_name: Text,
    /// SQL expressions for the names of the key's columns, and their numbers.
    names: Vec<String>,
    numbers: Vec<i16>,
}

impl Keyed {
    fn look_up(row: &Row<'_>) -> Result<Self, ErrorReport> {
        let extension = Extension::find().ok_or_else(no_extension)?;
        let query = format!(
            "{UP} SELECT c.relation::pg_catalog.oid, c.trigger_name::pg_catalog.text, k.names, k.numbers \
             FROM up JOIN {}._clip_columns AS c ON c.trigger_oid OPERATOR(pg_catalog.=) up.oid \
             LEFT JOIN LATERAL ( \
                SELECT pg_catalog.array_agg(pg_catalog.format('(SELECT attname::pg_catalog.text FROM pg_catalog.pg_attribute \
                    WHERE attrelid OPERATOR(pg_catalog.=) %s AND attnum OPERATOR(pg_catalog.=) %s)', a.attrelid, a.attnum) ORDER BY k.i) AS names, \
                    pg_catalog.array_agg(a.attnum ORDER BY k.i) AS numbers \
                FROM pg_catalog.unnest(c.key_names) WITH ORDINALITY AS k (name, i) \
                JOIN pg_catalog.pg_attribute AS a ON a.attrelid OPERATOR(pg_catalog.=) $2 AND a.attname OPERATOR(pg_catalog.=) k.name \
             ) AS k ON true",
            extension.schema,
        );
        let keyed = read(&query, &[row.trigger().into(), row.relation().into()], |found| {
            Ok(Self {
                relation: required(found, 1)?,
                trigger_name: required(found, 2)?,
                names: found.get(3)?.unwrap_or_default(),
                numbers: found.get(4)?.unwrap_or_default(),
            })
        });
        keyed.map_err(failed)?.ok_or_else(|| broken_trigger("it is not among those of clip_auto_embed"))
    }

    /// The key of a row as JSON, if it has one.
    fn key(&self, row: &Row<'_>) -> Result<Option<Raw>, ErrorReport> {
        let Some(values) = self.numbers.iter().map(|&number| row.argument(number)).collect::<Option<Vec<_>>>() else {
            return Err(broken_trigger("the key of its table was changed meanwhile"));
        };
        if values.is_empty() {
            return Ok(None);
        }
        let pairs: Vec<_> = self.names.iter().zip(1..).map(|(name, number)| format!("{name}, ${number}")).collect();
        let query = format!("SELECT pg_catalog.jsonb_build_object({})::pg_catalog.text", pairs.join(", "));
        value(&query, &values).map(Some)
    }
}
