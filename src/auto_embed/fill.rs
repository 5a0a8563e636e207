//! Fills pending rows: reads rows, embeds them in batches, stores the embeddings and records failures.
//!
//! Keys are passed from the query to the update as datums. The rows are locked, or were written by the same statement, so that an
//! embedding is stored next to the source from which it was computed.

use pgrx::PgMemoryContexts;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;

use super::embed_rows::embed_each;
use super::filling::Filling;
use super::pairs;
use crate::failures;
use crate::failures::Failure;
use crate::pg::messages::{not_stored, source_changes};
use crate::pg::roles::{as_role, with_fixed_output, with_settings, without_forced_policies};
use crate::pg::spi::{Cursor, Row, Rows, Statement};
use crate::pg::subtransaction::in_subtransaction;
use crate::pg::summary::{may_be_of_one_row, summary_of, summary_of_caught};
use crate::pg::text::ServerText;
use crate::pg::values::{OwnedValue, RawDatum, reserve};
use crate::pg::varlena::Varlena;
use crate::pg::vector::Vector;

/// One run of the image encoder, and enough texts to batch those of similar length.
const MAX_IMAGES: usize = clip::MAX_IMAGE_BATCH;
const MAX_TEXTS: usize = 128;

/// Size of the sources of one run, which are in memory at the same time.
const MAX_RUN_BYTES: u64 = 32 * 1024 * 1024;

/// The key of the last row of a batch, after which a pass continues.
pub type Position = Vec<OwnedValue>;

/// The result of a batch.
#[derive(Default)]
pub struct Filled {
    pub embedded: i64,
    pub failed: i64,
    /// The position after which the pass continues. None at its end.
    pub last: Option<Position>,
}

/// The mode of a fill.
#[derive(Clone, Copy)]
pub struct Manner {
    /// True if a failure is recorded, false if it is an error.
    pub tolerant: bool,
    /// True if the rows are locked against changes by other sessions.
    pub locked: bool,
    /// True if each row is stored in a subtransaction of its own.
    pub isolated: bool,
}

/// Lets deferred constraint triggers fire at the end of each statement of this transaction. So a trigger that raises an error
/// fails its row, and not the whole batch.
pub fn fire_triggers_at_once() -> Result<(), ErrorReport> {
    Spi::connect_mut(|_| Statement::prepare(b"SET CONSTRAINTS ALL IMMEDIATE", &[])?.run(&[], false, 0).map(drop))
}

/// Locks and embeds the next pending rows.
pub fn fill_next(filling: &Filling, limit: i64, after: Option<Position>) -> Result<Filled, ErrorReport> {
    let (before, after) = if filling.is_ordered { (None, after) } else { (after, None) };
    let query = if after.is_some() { &filling.next_rows } else { &filling.first_rows };
    let mut arguments: Vec<DatumWithOid<'_>> = vec![limit.into()];
    arguments.extend(after.iter().flatten().map(OwnedValue::argument));
    // A trigger or a constraint of the table may reject a row: then the other rows of the batch are stored without it.
    let mut filled = match in_subtransaction(|| fill_batch(filling, query, &arguments, limit, false).unwrap_or_report())
    {
        Ok(filled) => filled,
        Err(error) if may_be_of_one_row(&summary_of_caught(&error).0) => {
            fill_batch(filling, query, &arguments, limit, true)?
        }
        Err(error) => error.rethrow(),
    };
    if filled.last.is_none() && filling.has_failures {
        forget_gone(filling)?;
    }
    if filled.embedded == 0 && before.is_some() && filled.last == before {
        // Without an order, a batch can return the same failing rows again to a role that cannot see their failures.
        filled.last = None;
    }
    Ok(filled)
}

fn fill_batch(
    filling: &Filling,
    query: &ServerText,
    arguments: &[DatumWithOid<'_>],
    limit: i64,
    isolated: bool,
) -> Result<Filled, ErrorReport> {
    let manner = Manner { tolerant: true, locked: true, isolated };
    // Reads rows in the order of the key, by its index, so that a pass of many batches reads the table once.
    let by_index =
        [(c"enable_seqscan", c"off"), (c"enable_bitmapscan", c"off"), (c"enable_sort", c"off"), (c"jit", c"off")];
    Spi::connect_mut(|_| {
        let mut rows = with_settings(&by_index, || Cursor::open(query.bytes(), arguments, false))?;
        let filled = fill(filling, &mut rows, limit as usize, manner)?;
        rows.close();
        Ok(filled)
    })
}

/// Embeds at most `limit` rows of a query and stores the embeddings. SPI must be connected.
pub fn fill(filling: &Filling, rows: &mut Cursor, limit: usize, manner: Manner) -> Result<Filled, ErrorReport> {
    let stores = Statement::prepare(filling.store.bytes(), &filling.types_with(filling.target_type))?;
    let run = if filling.is_image { MAX_IMAGES } else { MAX_TEXTS };
    let mut filled = Filled::default();
    let mut seen = 0;
    while seen < limit {
        // The query compares keys with those of failures as JSON, so settings must not change the text of values.
        let found = with_fixed_output(|| rows.fetch(run.min(limit - seen)));
        let count = found.processed;
        seen += count;
        if let Some(last) = count.checked_sub(1).and_then(|last| found.row(last)) {
            filled.last = Some(key_of(filling, &last)?);
        }
        let mut begin = 0;
        while begin < count {
            let end = end_of_run(filling, &found, begin, count);
            // Frees detoasted sources and embeddings after each run.
            let mut memory = PgMemoryContexts::new("pg_clip rows");
            // SAFETY: no value allocated inside is used afterwards.
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

/// Returns the end of a run whose sources are at most `MAX_RUN_BYTES` together.
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

/// The source follows the columns of the key.
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
            Ok(embedding) => match store(filling, stores, &key, source, filling.value(&embedding)?, manner.isolated)? {
                Stored::Yes => {
                    filled.embedded += 1;
                    if filling.has_failures {
                        forget(filling, &key)?;
                    }
                    continue;
                }
                Stored::Rejected(sqlstate, message) => (sqlstate, message),
                Stored::Skipped if !manner.tolerant => return Err(source_changes()),
                Stored::Skipped => ("09000".into(), source_changes().message().into()),
                // The row is gone, or has an embedding now.
                Stored::No if !manner.locked && !is_left(filling, &key)? => continue,
                Stored::No if !manner.tolerant => return Err(not_stored()),
                // Nobody else can have changed a locked row. Without a failure, it would be retried endlessly.
                Stored::No => ("09000".into(), not_stored().message().into()),
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

/// What became of an embedding.
enum Stored {
    Yes,
    No,
    /// The trigger skipped the row, because another trigger changes the source of every update.
    Skipped,
    /// A trigger or a constraint of the table raised an error: SQLSTATE and message.
    Rejected(String, String),
}

/// Stores an embedding in the row of a key if the row has none.
fn store(
    filling: &Filling,
    stores: &Statement,
    key: &Position,
    source: Varlena<'_>,
    vector: Vector,
    isolated: bool,
) -> Result<Stored, ErrorReport> {
    let vector = vector.datum();
    // SAFETY: the vector was created above; it is of the type of the column, and lives as long as this call.
    let (argument, written) =
        unsafe { (DatumWithOid::new(RawDatum::new(vector), filling.target_type), Varlena::from_datum(vector)) };
    let arguments: Vec<_> = [argument].into_iter().chain(key.iter().map(OwnedValue::argument)).collect();
    let run = || {
        let (has_vector, is_skipped) = pairs::while_storing(&filling.digest, source, written, || {
            let rows = stores.run(&arguments, false, 0)?;
            let has_vector = rows.row(0).map(|row| row.get::<bool>(1)).transpose();
            Ok::<_, ErrorReport>(has_vector.ok().flatten().flatten().unwrap_or(false))
        });
        Ok::<_, ErrorReport>(match has_vector? {
            true => Stored::Yes,
            false if is_skipped => Stored::Skipped,
            false => Stored::No,
        })
    };
    if !isolated {
        return run();
    }
    in_subtransaction(|| run().unwrap_or_report()).or_else(|error| match summary_of_caught(&error) {
        (sqlstate, message) if may_be_of_one_row(&sqlstate) => Ok(Stored::Rejected(sqlstate, message)),
        _ => error.rethrow(),
    })
}

/// Returns true if a row is still pending, also if policies hide it from the writer.
fn is_left(filling: &Filling, key: &Position) -> Result<bool, ErrorReport> {
    as_role(filling.owner, || {
        without_forced_policies(|| {
            let statement = Statement::prepare(filling.is_left.bytes(), &filling.key_types)?;
            let arguments: Vec<_> = key.iter().map(OwnedValue::argument).collect();
            let rows = statement.run(&arguments, false, 1)?;
            let is_left = rows.row(0).map(|row| row.get::<bool>(1)).transpose();
            Ok(is_left.ok().flatten().flatten().unwrap_or(false))
        })
    })
}

fn key_object(filling: &Filling, key: &Position) -> Result<OwnedValue, ErrorReport> {
    let statement = Statement::prepare(filling.key_object.bytes(), &filling.key_types)?;
    let arguments: Vec<_> = key.iter().map(OwnedValue::argument).collect();
    with_fixed_output(|| one_value(&statement, &arguments))
}

fn one_value(statement: &Statement, arguments: &[DatumWithOid<'_>]) -> Result<OwnedValue, ErrorReport> {
    let rows = statement.run(arguments, false, 1)?;
    rows.row(0).ok_or_else(|| crate::pg::messages::broken_statement("it returned no value"))?.owned(1)
}

/// Clears the failure of a row that has an embedding now, and the failure of the whole column, if there is one.
fn forget(filling: &Filling, key: &Position) -> Result<(), ErrorReport> {
    let object = key_object(filling, key)?;
    failures::forget_one(filling.relation, filling.trigger_name.clone(), object.argument())?;
    failures::forget_one(filling.relation, filling.trigger_name.clone(), "null".into())
}

/// Clears failures of rows that were deleted or have an embedding.
fn forget_gone(filling: &Filling) -> Result<(), ErrorReport> {
    let keys = keys_of(&filling.gone)?;
    failures::forget(filling.relation, filling.trigger_name.clone(), keys.argument())
}

fn keys_of(query: &ServerText) -> Result<OwnedValue, ErrorReport> {
    Spi::connect(|_| {
        let statement = Statement::prepare(query.bytes(), &[])?;
        with_fixed_output(|| one_value(&statement, &[]))
    })
}
