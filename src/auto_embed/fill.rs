//! Fill rows that have no vector: read some, embed them together, store their vectors, note what failed.
//!
//! Keys go from the query to the update as the values that they are. What is read is locked, or was written by the same
//! statement, so that a vector is stored beside the source that it was computed from.

use pgrx::PgMemoryContexts;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::embed_rows::embed_each;
use super::filling::Filling;
use super::pairs;
use crate::failures;
use crate::failures::Failure;
use crate::pg::roles::{with_fixed_output, with_settings};
use crate::pg::spi::{Cursor, Row, Rows, Statement};
use crate::pg::summary::summary_of;
use crate::pg::text::Raw;
use crate::pg::values::{OwnedValue, RawDatum, reserve};
use crate::pg::varlena::Varlena;
use crate::pg::vector::Vector;

/// One run of an image tower; enough texts to find some of like length.
const MAX_IMAGES: usize = clip::MAX_IMAGE_BATCH;
const MAX_TEXTS: usize = 128;

/// Images of one run are in memory together.
const MAX_RUN_BYTES: u64 = 32 * 1024 * 1024;

/// The key of a row: a pass goes on after it.
pub type Position = Vec<OwnedValue>;

/// What came of some rows.
#[derive(Default)]
pub struct Filled {
    pub embedded: i64,
    pub failed: i64,
    /// Where the pass goes on; none at its end.
    pub last: Option<Position>,
}

/// How rows are filled.
#[derive(Clone, Copy)]
pub struct Manner {
    /// What cannot be embedded is noted; else it is an error.
    pub tolerant: bool,
    /// Nobody else can change the rows meanwhile.
    pub locked: bool,
}

/// Lock, embed and store the next rows that wait.
pub fn fill_next(filling: &Filling, limit: i64, after: Option<Position>) -> Result<Filled, ErrorReport> {
    let (before, after) = if filling.is_ordered { (None, after) } else { (after, None) };
    let query = if after.is_some() { &filling.next_rows } else { &filling.first_rows };
    let mut arguments: Vec<DatumWithOid<'_>> = vec![limit.into()];
    arguments.extend(after.iter().flatten().map(OwnedValue::argument));
    // In the order of the key, by its index, so that a pass reads the table once however many batches it takes.
    let by_index =
        [(c"enable_seqscan", c"off"), (c"enable_bitmapscan", c"off"), (c"enable_sort", c"off"), (c"jit", c"off")];
    let mut filled = Spi::connect_mut(|_| {
        let mut rows = with_settings(&by_index, || Cursor::open(query.bytes(), &arguments, false))?;
        let filled = fill(filling, &mut rows, limit as usize, Manner { tolerant: true, locked: true })?;
        rows.close();
        Ok::<_, ErrorReport>(filled)
    })?;
    if filled.last.is_none() && filling.has_failures {
        forget_gone(filling)?;
    }
    if filled.embedded == 0 && before.is_some() && filled.last == before {
        // Without an order to go on in, rows come again that fail, to those who are not told that they have failed.
        filled.last = None;
    }
    Ok(filled)
}

/// Embed the rows of a query, at most `limit`, and store their vectors. SPI must be connected.
pub fn fill(filling: &Filling, rows: &mut Cursor, limit: usize, manner: Manner) -> Result<Filled, ErrorReport> {
    let stores = Statement::prepare(filling.store.bytes(), &filling.types_with(filling.target_type))?;
    let run = if filling.is_image { MAX_IMAGES } else { MAX_TEXTS };
    let mut filled = Filled::default();
    let mut seen = 0;
    while seen < limit {
        // The query compares keys with those of failures as JSON: settings must not change its text.
        let found = with_fixed_output(|| rows.fetch(run.min(limit - seen)));
        let count = found.processed;
        seen += count;
        if let Some(last) = count.checked_sub(1).and_then(|last| found.row(last)) {
            filled.last = Some(key_of(filling, &last)?);
        }
        let mut begin = 0;
        while begin < count {
            let end = end_of_run(filling, &found, begin, count);
            // Sources that are read from disk, and vectors, are given back after each run.
            let mut memory = PgMemoryContexts::new("pg_clip rows");
            // SAFETY: nothing that is made within is used after it.
            unsafe { memory.switch_to(|_| fill_run(filling, &stores, &found, begin..end, manner, &mut filled)) }?;
            begin = end;
        }
        if count < run.min(limit - (seen - count)) {
            filled.last = None;
            break;
        }
    }
    Ok(filled)
}

/// The end of a run whose sources are in memory together.
fn end_of_run(filling: &Filling, found: &Rows<'_>, begin: usize, count: usize) -> usize {
    let mut bytes = 0;
    for number in begin..count {
        let size = found.row(number).and_then(|row| Some(row.varlena(source_column(filling))?.len())).unwrap_or(0);
        if number > begin && bytes + size > MAX_RUN_BYTES {
            return number;
        }
        bytes += size;
    }
    count
}

/// The source stands after the key.
fn source_column(filling: &Filling) -> usize {
    filling.key_types.len() + 1
}

fn key_of(filling: &Filling, row: &Row<'_>) -> Result<Position, ErrorReport> {
    (1..=filling.key_types.len()).map(|column| row.owned(column)).collect()
}

fn fill_run(
    filling: &Filling,
    stores: &Statement,
    found: &Rows<'_>,
    numbers: std::ops::Range<usize>,
    manner: Manner,
    filled: &mut Filled,
) -> Result<(), ErrorReport> {
    let rows: Vec<Row<'_>> = numbers.filter_map(|number| found.row(number)).collect();
    let mut sources: Vec<Varlena<'_>> = reserve(rows.len())?;
    sources.extend(rows.iter().filter_map(|row| row.varlena(source_column(filling))));
    let results = embed_each(&filling.model, &filling.digest, &sources, filling.is_image, manner.tolerant)?;
    for ((row, source), result) in rows.iter().zip(sources).zip(results) {
        let key = key_of(filling, row)?;
        let (sqlstate, message) = match result {
            Ok(embedding) => match store(filling, stores, &key, source, Vector::new(&embedding)?)? {
                true => {
                    filled.embedded += 1;
                    if filling.has_failures {
                        forget(filling, &key)?;
                    }
                    continue;
                }
                // A row that is gone or has a vector by now.
                false if !manner.locked => continue,
                // A locked row that was not stored would be tried again for ever: nobody else can have changed it.
                false => (
                    "09000".into(),
                    "could not store the vector: A trigger or a policy of the table prevents it.".into(),
                ),
            },
            Err(error) => summary_of(error),
        };
        filled.failed += 1;
        let object = key_object(filling, &key)?;
        let failure = Failure {
            trigger_name: filling.trigger_name.clone().into(),
            key: object.argument(),
            source_digest: &failures::source_digest(source, filling.is_image),
            sqlstate: &sqlstate,
            message: &message,
            retry: filling.mode == "queue" && filling.on_error == "error",
        };
        failures::record(filling.relation, failure)?;
    }
    Ok(())
}

/// Whether the row has the vector now.
fn store(
    filling: &Filling,
    stores: &Statement,
    key: &Position,
    source: Varlena<'_>,
    vector: Vector,
) -> Result<bool, ErrorReport> {
    let vector = vector.datum();
    // SAFETY: a vector that was made just now; it is of the type that the column has, and lives as long as this call.
    let (argument, written) =
        unsafe { (DatumWithOid::new(RawDatum::new(vector), filling.target_type), Varlena::from_datum(vector)) };
    let arguments: Vec<_> = [argument].into_iter().chain(key.iter().map(OwnedValue::argument)).collect();
    pairs::while_storing(&filling.digest, source, written, || {
        let rows = stores.run(&arguments, false, 0)?;
        let has_vector = rows.row(0).map(|row| row.get::<bool>(1)).transpose();
        Ok(has_vector.ok().flatten().flatten().unwrap_or(false))
    })
}

fn key_object(filling: &Filling, key: &Position) -> Result<OwnedValue, ErrorReport> {
    let statement = Statement::prepare(filling.key_object.bytes(), &filling.key_types)?;
    let arguments: Vec<_> = key.iter().map(OwnedValue::argument).collect();
    with_fixed_output(|| one_value(&statement, &arguments))
}

fn one_value(statement: &Statement, arguments: &[DatumWithOid<'_>]) -> Result<OwnedValue, ErrorReport> {
    let rows = statement.run(arguments, false, 1)?;
    rows.row(0).ok_or_else(|| crate::pg::messages::broken_statement("it gave no value"))?.owned(1)
}

/// With the failure of a row that has its vector now goes that of the whole column, if there was one.
fn forget(filling: &Filling, key: &Position) -> Result<(), ErrorReport> {
    let object = key_object(filling, key)?;
    failures::forget_one(filling.relation, filling.trigger_name.clone(), object.argument())?;
    failures::forget_one(filling.relation, filling.trigger_name.clone(), "null".into())
}

/// Forget failures of rows that are gone, or have got a vector otherwise.
fn forget_gone(filling: &Filling) -> Result<(), ErrorReport> {
    let keys = keys_of(&filling.gone)?;
    failures::forget(filling.relation, filling.trigger_name.clone(), keys.argument())
}

fn keys_of(query: &Raw) -> Result<OwnedValue, ErrorReport> {
    Spi::connect(|_| {
        let statement = Statement::prepare(query.bytes(), &[])?;
        with_fixed_output(|| one_value(&statement, &[]))
    })
}
