//! What failed and what was done: the tables behind `clip_failures`, `clip_progress` and `clip_auto_embed_status`.
//!
//! Only the extension's owner may write there. Whoever may write to the table in question has it written for him.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::datum::Varlena;
use crate::encoding::{Raw, Text};
use crate::error::{broken_extension, is_of_the_row, not_writable};
use crate::rights::{Extension, read, required};

#[pg_extern(sql = false)]
fn clip_record_failure(
    relation: pg_sys::Oid,
    trigger_name: Varlena<'_>,
    key: Varlena<'_>,
    source_digest: Varlena<'_>,
    sqlstate: Varlena<'_>,
    message: Varlena<'_>,
    retry: bool,
) -> Result<(), ErrorReport> {
    require_writable(relation)?;
    let failure = Failure {
        trigger_name: trigger_name.argument(pg_sys::TEXTOID),
        key: key.argument(pg_sys::JSONBOID),
        source_digest: source_digest.argument(pg_sys::TEXTOID),
        sqlstate: &sqlstate.text()?,
        message: message.argument(pg_sys::TEXTOID),
        retry,
    };
    record_failure(relation, failure)
}

/// What is noted of a row that could not be embedded.
pub struct Failure<'a> {
    pub trigger_name: DatumWithOid<'a>,
    /// As jsonb, or as text that is JSON. Null is that of the whole column.
    pub key: DatumWithOid<'a>,
    /// Empty where the source was not read.
    pub source_digest: DatumWithOid<'a>,
    pub sqlstate: &'a str,
    pub message: DatumWithOid<'a>,
    /// Whether it is tried again though it is the row that fails.
    pub retry: bool,
}

/// For whoever is known to write to the table.
pub fn record_failure(relation: pg_sys::Oid, failure: Failure<'_>) -> Result<(), ErrorReport> {
    let args = [
        relation.into(),
        failure.trigger_name,
        failure.key,
        failure.source_digest,
        failure.sqlstate.into(),
        failure.message,
        (failure.retry || !is_of_the_row(failure.sqlstate)).into(),
    ];
    // Another try after 2, 4, 8 … seconds, at most after an hour; or none.
    write(
        "INSERT INTO _clip.failures AS f VALUES ($1, $2, $3::jsonb, $4, $5, $6, 1, now(), now(), \
            CASE WHEN $7 THEN now() + interval '2 seconds' ELSE 'infinity' END) \
         ON CONFLICT (relation, trigger_name, key) DO UPDATE SET source_digest = $4, sqlstate = $5, message = $6, \
            attempts = CASE WHEN f.source_digest = $4 THEN f.attempts + 1 ELSE 1 END, \
            first_failed_at = CASE WHEN f.source_digest = $4 THEN f.first_failed_at ELSE now() END, last_failed_at = now(), \
            retry_at = CASE WHEN $7 THEN now() + least(interval '1 hour', \
                interval '2 seconds' * 2 ^ least(12, CASE WHEN f.source_digest = $4 THEN f.attempts ELSE 0 END)) ELSE 'infinity' END",
        &args,
    )?;
    Ok(())
}

#[pg_extern(sql = false)]
fn clip_forget_failures(
    relation: Option<pg_sys::Oid>,
    trigger_name: Option<Varlena<'_>>,
    keys: Option<Varlena<'_>>,
) -> Result<i64, ErrorReport> {
    let (Some(relation), Some(trigger_name)) = (relation, trigger_name) else { return Ok(0) };
    require_writable(relation)?;
    let keys = keys.map_or(DatumWithOid::null_oid(pg_sys::JSONBARRAYOID), |keys| keys.argument(pg_sys::JSONBARRAYOID));
    let forgotten = write(
        "DELETE FROM _clip.failures WHERE relation = $1 AND trigger_name = $2 AND ($3 IS NULL OR key = ANY ($3))",
        &[relation.into(), trigger_name.argument(pg_sys::TEXTOID), keys],
    )?;
    Ok(forgotten as i64)
}

/// One row was embedded after all. For whoever is known to write to the table.
pub fn forget_failure(relation: pg_sys::Oid, trigger_name: Text, key: Raw) -> Result<(), ErrorReport> {
    write(
        "DELETE FROM _clip.failures WHERE relation = $1 AND trigger_name = $2 AND key = $3::jsonb",
        &[relation.into(), trigger_name.into(), key.into()],
    )?;
    Ok(())
}

#[pg_extern(sql = false)]
fn clip_report_activity(
    relation: Option<pg_sys::Oid>,
    trigger_name: Option<Varlena<'_>>,
    kind: Option<Varlena<'_>>,
    total: Option<i64>,
    embedded: Option<i64>,
    failed: Option<i64>,
) -> Result<(), ErrorReport> {
    let (Some(relation), Some(trigger_name)) = (relation, trigger_name) else { return Ok(()) };
    let kind = kind.map(|kind| kind.text()).transpose()?;
    report_activity(relation, &trigger_name.text()?, kind.as_deref(), total, embedded.unwrap_or(0), failed.unwrap_or(0))
}

/// Add to what this process has done for a column. No kind ends its entry; "empty" ends it and notes that nothing waits.
pub fn report_activity(
    relation: pg_sys::Oid,
    trigger_name: &str,
    kind: Option<&str>,
    total: Option<i64>,
    embedded: i64,
    failed: i64,
) -> Result<(), ErrorReport> {
    require_writable(relation)?;
    // SAFETY: a number of this process.
    let own = unsafe { pg_sys::MyProcPid };
    if kind.is_none_or(|kind| kind == "empty") {
        write(
            "DELETE FROM _clip.activity WHERE relation = $1 AND trigger_name = $2 AND pid = $3",
            &[relation.into(), Text(trigger_name.into()).into(), own.into()],
        )?;
    }
    if let Some(kind) = kind {
        write(
            "INSERT INTO _clip.activity AS a VALUES ($1, $2, $3, $4, now(), clock_timestamp(), $5, $6, $7) \
             ON CONFLICT (relation, trigger_name, pid) DO UPDATE SET reported_at = clock_timestamp(), \
                total = COALESCE(a.total, $5), embedded = a.embedded + $6, failed = a.failed + $7",
            &[
                relation.into(),
                Text(trigger_name.into()).into(),
                if kind == "empty" { 0 } else { own }.into(),
                kind.into(),
                total.into(),
                embedded.into(),
                failed.into(),
            ],
        )?;
    }
    Ok(())
}

fn require_writable(relation: pg_sys::Oid) -> Result<(), ErrorReport> {
    let question = "SELECT pg_catalog.has_any_column_privilege($1, 'INSERT, UPDATE')";
    match read(question, &[relation.into()], |row| required(row, 1)) {
        Ok(Some(true)) => Ok(()),
        _ => Err(not_writable()),
    }
}

/// Run one statement on the extension's tables; returns the number of rows.
fn write(statement: &str, args: &[DatumWithOid<'_>]) -> Result<usize, ErrorReport> {
    // Otherwise the first that a standby says is that it has no transaction numbers to give.
    // SAFETY: raises an error in a transaction that only reads, and does nothing else.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"INSERT".as_ptr()) };
    let extension = Extension::find().ok_or_else(|| broken_extension("it is not there"))?;
    extension.as_owner(|_| {
        Spi::connect_mut(|client| client.update(statement, None, args).map(|rows| rows.len()))
            .map_err(|error| broken_extension(&error.to_string()))
    })
}
