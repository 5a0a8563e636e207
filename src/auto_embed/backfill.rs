//! The batches of `clip_backfill` and `clip_backfill_batch`.

use std::cell::RefCell;
use std::collections::HashMap;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::fill::{Filled, Position, fill_next, fire_triggers_at_once};
use super::filling::Filling;
use crate::failures::{Activity, add_activity, begin_activity, end_activity, sweep};
use crate::pg::messages::{broken_statement, not_writable};
use crate::pg::roles::without_forced_policies;
use crate::pg::spi::{read, required, select_once};
use crate::pg::text::Text;
use crate::pg::varlena::Varlena;

/// The progress of the backfill of a column in this session.
#[derive(Default)]
struct Pass {
    after: Option<Position>,
    embedded: i64,
}

thread_local! {
    static PASSES: RefCell<HashMap<(pg_sys::Oid, String), Pass>> = RefCell::default();
}

type Step = TableIterator<'static, (name!(embedded, i64), name!(failed, i64), name!(finished, bool))>;

/// Starts a backfill, or embeds its next batch. Skips rows that other sessions have locked. If these sessions do not embed them,
/// another pass does, so the backfill ends after a pass that has embedded no row.
#[pg_extern(sql = false)]
fn clip_backfill_step(
    relation: Option<pg_sys::Oid>,
    trigger_name: Option<Varlena<'_>>,
    batch_size: Option<i32>,
    begins: Option<bool>,
) -> Result<Step, ErrorReport> {
    let (Some(relation), Some(trigger_name), Some(batch_size), Some(begins)) =
        (relation, trigger_name, batch_size, begins)
    else {
        return Ok(TableIterator::empty());
    };
    let trigger_name = Text(trigger_name.text()?.into_owned());
    let column = (relation, trigger_name.0.clone());
    let Some(filling) = find(relation, &trigger_name)? else {
        PASSES.with_borrow_mut(|passes| passes.remove(&column));
        return Ok(TableIterator::once((0, 0, true)));
    };
    if begins {
        sweep()?;
        let total = without_forced_policies(|| filling.ask(&filling.count_rows))?;
        begin_activity(relation, &trigger_name, Activity::Backfill, total)?;
        PASSES.with_borrow_mut(|passes| passes.insert(column, Pass::default()));
        return Ok(TableIterator::once((0, 0, false)));
    }
    let mut pass = PASSES.with_borrow_mut(|passes| passes.remove(&column)).unwrap_or_default();
    // The batch is a transaction of its own.
    fire_triggers_at_once()?;
    let filled = without_forced_policies(|| fill_next(&filling, i64::from(batch_size), pass.after.take()))?;
    pass.embedded += filled.embedded;
    add_activity(relation, &trigger_name, Activity::Backfill, None, filled.embedded, filled.failed)?;
    let ends = filled.last.is_none();
    let finished = ends && pass.embedded == 0;
    if finished {
        end_activity(relation, &trigger_name)?;
    } else {
        let embedded = if ends { 0 } else { pass.embedded };
        PASSES.with_borrow_mut(|passes| passes.insert(column, Pass { after: filled.last, embedded }));
    }
    Ok(TableIterator::once((filled.embedded, filled.failed, finished)))
}

/// Embeds up to `batch_size` rows in this transaction. Returns 0 only if no row is left that can be embedded.
#[pg_extern(sql = false)]
fn clip_backfill_rows(
    relation: Option<pg_sys::Oid>,
    trigger_name: Option<Varlena<'_>>,
    batch_size: Option<i32>,
) -> Result<i64, ErrorReport> {
    let (Some(relation), Some(trigger_name), Some(batch_size)) = (relation, trigger_name, batch_size) else {
        return Ok(0);
    };
    let trigger_name = Text(trigger_name.text()?.into_owned());
    let Some(filling) = find(relation, &trigger_name)? else { return Ok(0) };
    let mut filled = Filled::default();
    loop {
        let after = filled.last.take();
        filled = without_forced_policies(|| fill_next(&filling, i64::from(batch_size), after))?;
        if filled.embedded > 0 || filled.last.is_none() {
            return Ok(filled.embedded);
        }
    }
}

/// Runs a query that returns a boolean, with the caller's privileges.
#[pg_extern(sql = false)]
fn clip_is_true(question: Varlena<'_>) -> Result<Option<bool>, ErrorReport> {
    without_forced_policies(|| {
        Spi::connect(|_| {
            select_once(question.detoast(), &[])?
                .row(0)
                .map(|row| row.get(1))
                .transpose()
                .map_err(|error| broken_statement(&error.to_string()))
        })
    })
    .map(Option::flatten)
}

/// Finds and locks the column. Fails if the role may not write to its table.
fn find(relation: pg_sys::Oid, trigger_name: &Text) -> Result<Option<Filling>, ErrorReport> {
    let question = "SELECT pg_catalog.has_any_column_privilege($1, 'UPDATE')";
    if read(question, &[relation.into()], |row| required(row, 1)) != Ok(Some(true)) {
        let name = "SELECT $1::pg_catalog.regclass::pg_catalog.text";
        let Text(label) =
            read(name, &[relation.into()], |row| required(row, 1)).ok().flatten().unwrap_or(Text(String::new()));
        return Err(not_writable(&label));
    }
    // SAFETY: waits for the lock, which the transaction holds until its end.
    unsafe { pg_sys::LockRelationOid(relation, pg_sys::RowExclusiveLock as i32) };
    Filling::find(relation, trigger_name)
}
