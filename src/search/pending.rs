//! The notice about pending rows, which searches do not find.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;
use std::time::{Duration, Instant};

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::column::{Key, SearchColumn};
use super::select::select;
use crate::pg::arguments::{name, regclass};
use crate::pg::messages::{new, notice};
use crate::pg::roles::{Extension, with_settings};
use crate::pg::spi::{read, required};
use crate::pg::text::{ServerText, Text};

impl SearchColumn<'_> {
    /// Raises a notice, once per session and column, if rows are pending, because searches do not find them. Checks again after a
    /// minute.
    pub fn notice_pending(&self) {
        const LOOK_AGAIN: Duration = Duration::from_secs(60);
        const MAX_COLUMNS: usize = 1000;
        thread_local! {
            // The time of the last check. None after the notice.
            static LOOKED: RefCell<HashMap<Key, Option<Instant>>> = RefCell::default();
        }
        // SAFETY: an integer that the server sets before any of our code runs.
        if self.made_by.is_none() || unsafe { pg_sys::ParallelWorkerNumber } >= 0 {
            return;
        }
        let column = (self.relation, self.target.to_bytes().to_vec());
        let last = LOOKED.with_borrow(|looked| looked.get(&column).copied());
        if last.is_some_and(|last| last.is_none_or(|last| last.elapsed() < LOOK_AGAIN)) {
            return;
        }
        // Recorded before the check, because the check may run functions of a policy, which may search in turn.
        LOOKED.with_borrow_mut(|looked| {
            if looked.len() >= MAX_COLUMNS {
                looked.clear();
            }
            looked.insert(column.clone(), Some(Instant::now()));
        });
        let Some(pending) = pending(self.relation, self.target) else { return };
        LOOKED.with_borrow_mut(|looked| looked.insert(column, None));
        if let (Some((Text(table), _)), Some((_, Text(literal)))) = (named(self.relation), named(pending.top)) {
            notice(pending_rows(&self.target.to_string_lossy(), &table, &literal, &pending));
        }
    }
}

/// Rows that have a source and no vector.
pub struct Pending {
    pub rows: i64,
    /// True if they were counted in a sample of the table.
    pub is_sample: bool,
    /// True if a worker embeds them.
    pub is_queued: bool,
    /// The table that records the model: for a partition, the partitioned table.
    top: pg_sys::Oid,
}

/// Returns the name of a table, qualified as the caller's search_path requires, and the name as a literal.
fn named(relation: pg_sys::Oid) -> Option<(Text, Text)> {
    let question = "SELECT r.n, pg_catalog.quote_literal(r.n) FROM (SELECT $1::pg_catalog.text) AS r (n)";
    read(question, &[regclass(relation)], |row| Ok((required(row, 1)?, required(row, 2)?))).ok().flatten()
}

fn pending(relation: pg_sys::Oid, target: &CStr) -> Option<Pending> {
    // SAFETY: a variable of this process.
    let role = unsafe { pg_sys::GetUserId() };
    let found = Extension::find()?.as_owner(|schema| {
        let question = format!(
            "SELECT p.statement, p.sampled, p.failed, p.queued, p.top::pg_catalog.oid FROM {schema}._clip_pending_statement($1, $2, $3) AS p"
        );
        read(&question, &[role.into(), regclass(relation), name(target)], |row| {
            Ok((row.get::<ServerText>(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
        })
    });
    let Ok(Some((Some(statement), Some(is_sample), Some(failed), Some(is_queued), Some(top)))) = found else {
        return None;
    };
    let (failed, top): (i64, pg_sys::Oid) = (failed, top);
    // Uses an index of pending rows even if old statistics make it look useless.
    let settings = [(c"enable_seqscan", c"off"), (c"jit", c"off")];
    let rows =
        with_settings(&settings, || select(statement.bytes(), &[], |row| row.get::<i64>(1))).ok()?.pop().flatten()?;
    // Failed rows have no embedding either, and are in clip_failures.
    (rows > failed).then_some(Pending { rows, is_sample, is_queued, top })
}

/// The notice about pending rows.
fn pending_rows(target: &str, relation: &str, literal: &str, pending: &Pending) -> ErrorReport {
    let detail = match (pending.is_sample, pending.rows) {
        (true, _) => {
            "A sample of the table contains rows that have a source and no embedding. Searches do not find them.".into()
        }
        (false, 1) => "1 row has a source and no embedding. Searches do not find it.".into(),
        (false, 1001..) => "More than 1000 rows have a source and no embedding. Searches do not find them.".into(),
        (false, rows) => format!("{rows} rows have a source and no embedding. Searches do not find them."),
    };
    let hint = match (pending.is_queued, target) {
        (true, _) => "A background worker embeds them. To see the progress: SELECT relation, target, embedded, pending FROM clip_auto_embed_status.".into(),
        (false, "embedding") => format!("To embed them: CALL clip_backfill({literal})."),
        (false, _) => format!("To embed them: CALL clip_backfill({literal}, '{}').", target.replace('\'', "''")),
    };
    let message = format!("column \"{target}\" of table {relation} has rows without an embedding");
    new(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message).set_detail(detail).set_hint(hint)
}
