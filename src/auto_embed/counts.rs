//! Counts of the rows of a table, with the privileges of the table's owner: to plan a statement, the server may call functions of the
//! owner, for example those of an index.

use std::ffi::CStr;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::filling::Filling;
use crate::pg::arguments::{optional_name, regclass};
use crate::pg::messages::broken_extension;
use crate::pg::roles::{Extension, as_role, with_pinned_search_path, without_forced_policies};
use crate::pg::spi::{Row, Statement, read, required};
use crate::pg::text::{ServerText, Text};
use crate::pg::varlena::Varlena;

/// The statements about a table. None if the table does not exist, or the role of the caller cannot read all its rows.
struct Counting {
    owner: pg_sys::Oid,
    counts: ServerText,
    is_filled: ServerText,
}

impl Counting {
    /// `asked` is the table that the caller named: the table itself, or a partitioned table above it.
    fn find(
        relation: pg_sys::Oid,
        source: Option<&CStr>,
        target: Option<&CStr>,
        asked: pg_sys::Oid,
    ) -> Result<Option<Self>, ErrorReport> {
        // SAFETY: a variable of this process.
        let role = unsafe { pg_sys::GetUserId() };
        let extension = Extension::find().ok_or_else(|| broken_extension("the extension does not exist"))?;
        let found = extension.as_owner(|schema| {
            let question = format!(
                "SELECT c.owner, c.counts, c.is_filled FROM {schema}._clip_counting($1, $2, $3, $4, $5) AS c WHERE c.may_count"
            );
            let arguments =
                [regclass(relation), optional_name(source), optional_name(target), role.into(), regclass(asked)];
            read(&question, &arguments, |row| {
                Ok(Self { owner: required(row, 1)?, counts: required(row, 2)?, is_filled: required(row, 3)? })
            })
        });
        found.map_err(|error| broken_extension(&error.to_string()))
    }

    /// Runs a statement, which returns one row, as the owner of the table.
    fn run<T>(&self, statement: &ServerText, read: impl Fn(&Row<'_>) -> spi::SpiResult<T>) -> Result<T, ErrorReport> {
        let extension = Extension::find().ok_or_else(|| broken_extension("the extension does not exist"))?;
        Spi::connect(|_| {
            // The owner of the table may not be able to use its schema, which the parser checks. The parser calls no function.
            let statement = extension.as_owner(|_| Statement::prepare(statement.bytes(), &[]))?;
            let run = || without_forced_policies(|| statement.run(&[], false, 1));
            // The search_path of the caller would decide which functions the owner's code calls.
            let rows = as_role(self.owner, || with_pinned_search_path(run))?;
            let row = rows.row(0).map(|row| read(&row)).transpose();
            row.ok().flatten().ok_or_else(|| broken_extension("a count returned no row"))
        })
    }
}

/// Returns true if the role can count the rows of a table. Locks the table, and does not wait for a lock.
#[pg_extern(sql = false)]
fn clip_may_count(relation: Option<pg_sys::Oid>) -> Result<bool, ErrorReport> {
    let Some(relation) = relation else { return Ok(false) };
    // SAFETY: the transaction holds the lock until its end, as that of any query.
    let lock = || unsafe { pg_sys::ConditionalLockRelationOid(relation, pg_sys::AccessShareLock as i32) };
    Ok(Counting::find(relation, None, Some(c"embedding"), relation)?.is_some() && lock())
}

type Counts = TableIterator<'static, (name!(rows, i64), name!(embedded, i64), name!(pending, i64))>;

#[pg_extern(sql = false)]
fn clip_count_rows(
    relation: Option<pg_sys::Oid>,
    source: Option<&CStr>,
    target: Option<&CStr>,
) -> Result<Counts, ErrorReport> {
    let Some(relation) = relation else { return Ok(TableIterator::empty()) };
    let Some(counting) = Counting::find(relation, source, target, relation)? else { return Ok(TableIterator::empty()) };
    let counts = counting.run(&counting.counts, |row| Ok((required(row, 1)?, required(row, 2)?, required(row, 3)?)))?;
    Ok(TableIterator::once(counts))
}

#[pg_extern(sql = false)]
fn clip_is_filled(
    relation: Option<pg_sys::Oid>,
    target: Option<&CStr>,
    asked: Option<pg_sys::Oid>,
) -> Result<Option<bool>, ErrorReport> {
    let (Some(relation), Some(asked)) = (relation, asked) else { return Ok(None) };
    let counting = Counting::find(relation, None, target, asked)?;
    counting.map(|counting| counting.run(&counting.is_filled, |row| required(row, 1))).transpose()
}

/// Counts the pending rows.
#[pg_extern(sql = false)]
fn clip_count_pending(
    relation: Option<pg_sys::Oid>,
    trigger_name: Option<Varlena<'_>>,
) -> Result<Option<i64>, ErrorReport> {
    let (Some(relation), Some(trigger_name)) = (relation, trigger_name) else { return Ok(None) };
    let Some(counting) = Counting::find(relation, None, Some(c"embedding"), relation)? else { return Ok(None) };
    let filling = Filling::find(relation, &Text(trigger_name.text()?.into_owned()))?;
    filling.map(|filling| counting.run(&filling.count_rows, |row| required(row, 1))).transpose()
}
