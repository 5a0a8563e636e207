//! Failures and progress: the tables behind `clip_failures`, `clip_progress` and `clip_auto_embed_status`.
//!
//! Only the extension's owner can write to these tables. No SQL function records a failure or progress: only the code that
//! embeds a row does.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::pg::messages::{broken_extension, not_owner};
use crate::pg::roles::Extension;
use crate::pg::settings;
use crate::pg::spi::{read, required};
use crate::pg::summary::is_of_the_row;
use crate::pg::text::Text;
use crate::pg::varlena::Varlena;

/// A failure to record: a row that could not be embedded.
pub struct Failure<'a> {
    pub trigger_name: DatumWithOid<'a>,
    /// The key as jsonb, or as text that is JSON. JSON null stands for the whole column.
    pub key: DatumWithOid<'a>,
    /// Empty if the source was not read.
    pub source_digest: &'a str,
    pub sqlstate: &'a str,
    pub message: &'a str,
    /// True if the row is retried even though the cause is the row itself.
    pub retry: bool,
}

/// Returns the SHA-256 of a source, which shows later if the source has changed. Empty if the source is above the size limit.
pub fn source_digest(source: Varlena<'_>, is_image: bool) -> String {
    let limit = if is_image { settings::limits().bytes } else { clip::MAX_TEXT_BYTES as u64 };
    if source.len() <= limit { clip::digest(source.detoast()) } else { String::new() }
}

/// Records that a row could not be embedded.
pub fn record(relation: pg_sys::Oid, failure: Failure<'_>) -> Result<(), ErrorReport> {
    let args = [
        relation.into(),
        failure.trigger_name,
        failure.key,
        failure.source_digest.into(),
        failure.sqlstate.into(),
        Text(failure.message.into()).into(),
        (failure.retry || !is_of_the_row(failure.sqlstate)).into(),
    ];
    // Retries follow after 2, 4, 8 … seconds, at most after an hour. Other rows are not retried.
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

/// Clears the failures of all rows of a column. Only the owner of the table can.
#[pg_extern(sql = false)]
fn clip_forget_failures(relation: Option<pg_sys::Oid>, trigger_name: Option<Varlena<'_>>) -> Result<i64, ErrorReport> {
    let (Some(relation), Some(trigger_name)) = (relation, trigger_name) else { return Ok(0) };
    let question = "SELECT pg_catalog.pg_has_role(c.relowner, 'USAGE') FROM pg_catalog.pg_class AS c \
        WHERE c.oid OPERATOR(pg_catalog.=) $1";
    if read(question, &[relation.into()], |row| required(row, 1)) != Ok(Some(true)) {
        return Err(not_owner());
    }
    sweep()?;
    // SAFETY: the SQL declaration of the argument is text.
    let trigger_name = unsafe { trigger_name.argument(pg_sys::TEXTOID) };
    let forgotten = write(
        "DELETE FROM _clip.failures WHERE relation = $1 AND trigger_name = $2",
        &[relation.into(), trigger_name],
    )?;
    Ok(forgotten as i64)
}

/// Clears the failures of some rows. `keys` is an array of jsonb.
pub fn forget(relation: pg_sys::Oid, trigger_name: Text, keys: DatumWithOid<'_>) -> Result<(), ErrorReport> {
    let arguments = [relation.into(), trigger_name.into(), keys];
    write("DELETE FROM _clip.failures WHERE relation = $1 AND trigger_name = $2 AND key = ANY ($3)", &arguments)?;
    Ok(())
}

/// Clears the failure of one row. `key` is jsonb, or text that is JSON.
pub fn forget_one(relation: pg_sys::Oid, trigger_name: Text, key: DatumWithOid<'_>) -> Result<(), ErrorReport> {
    let arguments = [relation.into(), trigger_name.into(), key];
    write("DELETE FROM _clip.failures WHERE relation = $1 AND trigger_name = $2 AND key = $3::jsonb", &arguments)?;
    Ok(())
}

/// Deletes failures and progress of tables and triggers that no longer exist.
pub fn sweep() -> Result<(), ErrorReport> {
    // A later sweep deletes the rows that another session has locked. In a transaction that keeps its snapshot, rows that another
    // session has deleted would be an error.
    // SAFETY: a variable of this process.
    if unsafe { pg_sys::XactIsoLevel } > pg_sys::XACT_READ_COMMITTED as i32 {
        return Ok(());
    }
    for table in ["_clip.failures", "_clip.activity"] {
        write(
            &format!(
                "DELETE FROM {table} WHERE ctid = ANY (ARRAY(SELECT r.ctid FROM {table} AS r WHERE NOT EXISTS \
                    (SELECT FROM pg_trigger AS t WHERE t.tgrelid = r.relation AND t.tgname = r.trigger_name) FOR UPDATE OF r SKIP LOCKED))"
            ),
            &[],
        )?;
    }
    Ok(())
}

/// The kind of a process that embeds a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    Worker,
    Backfill,
    /// A worker has found that no row is pending.
    FoundEmpty,
}

impl Activity {
    fn name(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Backfill => "backfill",
            Self::FoundEmpty => "empty",
        }
    }
}

/// Starts to record the progress of this process. `total` is the number of pending rows.
pub fn begin_activity(
    relation: pg_sys::Oid,
    trigger_name: &Text,
    kind: Activity,
    total: i64,
) -> Result<(), ErrorReport> {
    end_activity(relation, trigger_name)?;
    add_activity(relation, trigger_name, kind, Some(total), 0, 0)
}

/// Adds to the recorded progress of this process.
pub fn add_activity(
    relation: pg_sys::Oid,
    trigger_name: &Text,
    kind: Activity,
    total: Option<i64>,
    embedded: i64,
    failed: i64,
) -> Result<(), ErrorReport> {
    if kind == Activity::FoundEmpty {
        end_activity(relation, trigger_name)?;
    }
    let process = if kind == Activity::FoundEmpty { 0 } else { own_process() };
    write(
        "INSERT INTO _clip.activity AS a VALUES ($1, $2, $3, $4, now(), clock_timestamp(), $5, $6, $7) \
         ON CONFLICT (relation, trigger_name, pid) DO UPDATE SET reported_at = clock_timestamp(), \
            total = COALESCE(a.total, $5), embedded = a.embedded + $6, failed = a.failed + $7",
        &[
            relation.into(),
            trigger_name.clone().into(),
            process.into(),
            kind.name().into(),
            total.into(),
            embedded.into(),
            failed.into(),
        ],
    )?;
    Ok(())
}

/// Deletes the recorded progress of this process.
pub fn end_activity(relation: pg_sys::Oid, trigger_name: &Text) -> Result<(), ErrorReport> {
    let arguments = [relation.into(), trigger_name.clone().into(), own_process().into()];
    write("DELETE FROM _clip.activity WHERE relation = $1 AND trigger_name = $2 AND pid = $3", &arguments)?;
    Ok(())
}

fn own_process() -> i32 {
    // SAFETY: a number of this process.
    unsafe { pg_sys::MyProcPid }
}

/// Runs one statement on the extension's tables. Returns the number of rows.
fn write(statement: &str, args: &[DatumWithOid<'_>]) -> Result<usize, ErrorReport> {
    // Without this check, a standby would raise a less clear error about transaction IDs.
    // SAFETY: only raises an error in a read-only transaction.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"INSERT".as_ptr()) };
    let extension = Extension::find().ok_or_else(|| broken_extension("the extension does not exist"))?;
    extension.as_owner(|_| {
        Spi::connect_mut(|client| client.update(statement, None, args).map(|rows| rows.len()))
            .map_err(|error| broken_extension(&error.to_string()))
    })
}
