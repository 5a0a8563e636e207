//! `clip_auto_embed_check`, for tables with a BEFORE trigger that fires after ours and may change an embedded source.
//!
//! Our BEFORE trigger records each pair of source and embedding. This AFTER trigger looks up the stored pair among them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;
use pgrx::{PgXactCallbackEvent, register_xact_callback};

use super::columns::Columns;
use super::trigger_row::{Row, fires, trigger_named};
use crate::pg::encoding::from_server;
use crate::pg::finfo::declare_finfo;
use crate::pg::messages::{broken_trigger, source_changed};
use crate::pg::varlena::Varlena;

thread_local! {
    /// Digests of the pairs that were not compared yet in this transaction, with the number of their rows.
    static PASSED: RefCell<HashMap<String, u32>> = RefCell::default();
    static ENDS: Cell<bool> = const { Cell::new(false) };
}

fn digest_of(source: Varlena<'_>, vector: Varlena<'_>) -> String {
    let source = clip::digest(source.detoast());
    clip::digest(&[source.as_bytes(), vector.detoast()].concat())
}

/// Records that an embedding matches a source.
pub fn pass(source: Varlena<'_>, vector: Varlena<'_>) {
    if !ENDS.replace(true) {
        for event in [PgXactCallbackEvent::Commit, PgXactCallbackEvent::Abort, PgXactCallbackEvent::Prepare] {
            register_xact_callback(event, || {
                ENDS.set(false);
                PASSED.with_borrow_mut(HashMap::clear);
            });
        }
    }
    PASSED.with_borrow_mut(|passed| *passed.entry(digest_of(source, vector)).or_default() += 1);
}

/// Takes a pair off the record, so that the record of a large statement does not stay in memory.
fn take(digest: &str) -> bool {
    PASSED.with_borrow_mut(|passed| {
        let Some(rows) = passed.get_mut(digest) else { return false };
        *rows -= 1;
        if *rows == 0 {
            passed.remove(digest);
        }
        true
    })
}

declare_finfo!(pg_finfo_clip_auto_embed_check_wrapper);

/// # Safety
///
/// Only the server may call this function.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn clip_auto_embed_check_wrapper(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the server's call.
    let row = unsafe { Row::stored_by(fcinfo) };
    row.ok_or_else(|| broken_trigger("it must be an AFTER INSERT OR UPDATE trigger FOR EACH ROW"))
        .and_then(|row| check(&row))
        .unwrap_or_report();
    pg_sys::Datum::null()
}

fn check(row: &Row<'_>) -> Result<(), ErrorReport> {
    // The server that stores the row has embedded it.
    if row.is_foreign() {
        return Ok(());
    }
    let name = row.argument_strings().next().unwrap_or_default();
    let Some(ours) = trigger_named(row.relation_data(), name).filter(|trigger| fires(trigger)) else { return Ok(()) };
    let columns = Columns::of(ours, row.relation_data())?;
    let Some(vector) = row.new_value(columns.target) else { return Ok(()) };
    if row.new_value(columns.source).is_some_and(|source| take(&digest_of(source, vector))) {
        return Ok(());
    }
    Err(source_changed(from_server(name.to_bytes())?))
}
