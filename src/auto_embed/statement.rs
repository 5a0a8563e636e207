//! `clip_auto_embed_statement`, the trigger that embeds all rows of a statement after the statement.

use std::ffi::CStr;

use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;

use super::columns::Columns;
use super::fill::{Manner, fill};
use super::filling::Filling;
use super::trigger_row::trigger_named;
use crate::pg::encoding::from_server;
use crate::pg::finfo::declare_finfo;
use crate::pg::messages::{broken_statement, broken_trigger};
use crate::pg::spi::Cursor;
use crate::pg::text::Text;

declare_finfo!(pg_finfo_clip_auto_embed_statement_wrapper);

/// # Safety
///
/// Only the server may call this function.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn clip_auto_embed_statement_wrapper(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the server's call; the context of a trigger's call is its TriggerData.
    let data = unsafe {
        pgrx::trigger_support::called_as_trigger(fcinfo)
            .then(|| (*fcinfo).context.cast::<pg_sys::TriggerData>().as_mut())
            .flatten()
    };
    data.ok_or_else(|| broken_trigger("it must be an AFTER INSERT OR UPDATE trigger FOR EACH STATEMENT"))
        .and_then(embed_statement)
        .unwrap_or_report();
    pg_sys::Datum::null()
}

fn embed_statement(data: &mut pg_sys::TriggerData) -> Result<(), ErrorReport> {
    let is_update = data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_UPDATE;
    // SAFETY: trigger and relation live as long as the call. The server's strings are null-terminated.
    let (relation, name) = unsafe {
        let trigger = data.tg_trigger.as_ref().filter(|trigger| trigger.tgnargs == 1);
        let name = trigger.map(|trigger| CStr::from_ptr(*trigger.tgargs));
        (data.tg_relation.as_ref(), name)
    };
    let (Some(relation), Some(name)) = (relation, name) else {
        return Err(broken_trigger("its one argument must be the name of the table's row trigger"));
    };
    // Without a row trigger, the source column was dropped, and nothing can be embedded.
    let Some(row_trigger) = trigger_named(relation, name) else { return Ok(()) };
    let columns = Columns::of(row_trigger, relation)?;
    if data.tg_newtable.is_null() {
        return Err(broken_trigger("it has no transition table"));
    }
    // SAFETY: the transition table of this call, whose rows belong to the relation.
    if !unsafe { has_row_without_vector(data.tg_newtable, relation, columns) } {
        return Ok(());
    }
    let trigger_name = Text(from_server(name.to_bytes())?.to_owned());
    let Some(filling) = Filling::find(relation.rd_id, &trigger_name)? else { return Ok(()) };
    let manner = Manner { tolerant: filling.on_error == "null", locked: false, isolated: false };
    Spi::connect_mut(|_| {
        // SAFETY: the data of this call. The statements below read its transition tables.
        let code = unsafe { pg_sys::SPI_register_trigger_data(data) };
        if code < 0 {
            return Err(broken_statement(&format!("SPI returned {code}")));
        }
        let query = if is_update { &filling.updated } else { &filling.inserted };
        let mut rows = Cursor::open(query.bytes(), &[], false)?;
        fill(&filling, &mut rows, usize::MAX, manner)?;
        rows.close();
        Ok(())
    })
}

/// Returns true if a row is pending. Most statements leave no pending row, and statements of a fill never do, so this avoids a
/// query.
///
/// # Safety
///
/// The rows of the table must belong to the relation, which must have the columns.
unsafe fn has_row_without_vector(
    table: *mut pg_sys::Tuplestorestate,
    relation: &pg_sys::RelationData,
    columns: Columns,
) -> bool {
    // SAFETY: by the caller's promise. The table is read through a read pointer of its own, as in each query.
    unsafe {
        let pointer = pg_sys::tuplestore_alloc_read_pointer(table, pg_sys::EXEC_FLAG_REWIND as i32);
        pg_sys::tuplestore_select_read_pointer(table, pointer);
        pg_sys::tuplestore_rescan(table);
        let slot = pg_sys::MakeSingleTupleTableSlot(relation.rd_att, &raw const pg_sys::TTSOpsMinimalTuple);
        let is_null = |column: i16| {
            let last = columns.source.max(columns.target);
            if (*slot).tts_nvalid < last {
                pg_sys::slot_getsomeattrs_int(slot, i32::from(last));
            }
            *(*slot).tts_isnull.add(column as usize - 1)
        };
        let mut found = false;
        while !found && pg_sys::tuplestore_gettupleslot(table, true, false, slot) {
            found = is_null(columns.target) && !is_null(columns.source);
        }
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        found
    }
}
