//! `clip_ddl`, the event trigger that keeps managed columns consistent with statements that change their tables.
//!
//! Postgres does not change the type of a column that a trigger's condition names. So the triggers are dropped before such a
//! statement and created again after it. If a new trigger fires after ours and may change a source, the check trigger is added.
//! Failures and progress of dropped tables are deleted.

use std::cell::RefCell;
use std::ffi::{CStr, CString};

use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;

use super::trigger_row::is_restore;
use crate::failures::sweep;
use crate::pg::finfo::declare_finfo;
use crate::pg::messages::{broken_extension, broken_statement, not_an_event, vectors_cleared};
use crate::pg::roles::{Extension, as_role, without_forced_policies};
use crate::pg::spi::{Statement, prepared, read, required};
use crate::pg::text::ServerText;
use crate::worker::wake::wake;

/// Statements to run after an ALTER TABLE, first as the owner of the table, then as the extension's owner.
struct After {
    /// Identifies the statement. The pointer is valid while the statement runs.
    statement: *const pg_sys::Node,
    /// Statements that clear embeddings, with the owner of the table.
    clear: Vec<(pg_sys::Oid, ServerText)>,
    create: Vec<ServerText>,
}

thread_local! {
    static AFTER: RefCell<Vec<After>> = const { RefCell::new(Vec::new()) };
}

declare_finfo!(pg_finfo_clip_ddl_wrapper);

/// # Safety
///
/// Only the server may call this function.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn clip_ddl_wrapper(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the server's call; the context of an event trigger's call is its EventTriggerData.
    let data = unsafe {
        let context = (*fcinfo).context.as_ref();
        let is_event = context.is_some_and(|node| node.type_ == pg_sys::NodeTag::T_EventTriggerData);
        is_event.then(|| &*(*fcinfo).context.cast::<pg_sys::EventTriggerData>())
    };
    let Some(data) = data else {
        Err::<(), _>(not_an_event()).unwrap_or_report();
        return pg_sys::Datum::null();
    };
    // SAFETY: the server's string, and the statement that runs.
    unsafe {
        match CStr::from_ptr(data.event).to_bytes() {
            b"ddl_command_start" => begin(data.parsetree),
            b"ddl_command_end" => end(data.parsetree),
            _ => forget_dropped(),
        }
    }
    .unwrap_or_report();
    pg_sys::Datum::null()
}

/// # Safety
///
/// The pointer must point to a statement from the parser.
unsafe fn begin(statement: *mut pg_sys::Node) -> Result<(), ErrorReport> {
    // A failed statement may have had the same address.
    AFTER.with_borrow_mut(|after| after.retain(|entry| entry.statement != statement.cast_const()));
    // SAFETY: by the caller's promise.
    let Some(alter) = (unsafe { statement_of::<pg_sys::AlterTableStmt>(statement, pg_sys::NodeTag::T_AlterTableStmt) })
    else {
        return Ok(());
    };
    // SAFETY: the list contains only commands.
    let commands = unsafe { elements(alter.cmds) }.map(|command| unsafe { &*command.cast::<pg_sys::AlterTableCmd>() });
    let changes: Vec<_> =
        commands.filter(|command| command.subtype == pg_sys::AlterTableType::AT_AlterColumnType).collect();
    if changes.is_empty() {
        return Ok(());
    }
    // SAFETY: names are null-terminated. The definition of such a command is a column.
    let (names, computes) = unsafe {
        let names: Vec<CString> = changes.iter().map(|change| CStr::from_ptr(change.name).to_owned()).collect();
        let computes = changes.iter().any(|change| {
            change.def.cast::<pg_sys::ColumnDef>().as_ref().is_some_and(|column| !column.raw_default.is_null())
        });
        (names, computes)
    };
    // SAFETY: the name belongs to the statement.
    let Some(relation) = (unsafe { relation_named(alter.relation) }) else { return Ok(()) };
    let names: Vec<String> = names.iter().map(|name| hex(name.to_bytes())).collect();
    // SAFETY: a number of this process.
    let role = unsafe { pg_sys::GetUserId() };
    let mut after = After { statement, clear: Vec::new(), create: Vec::new() };
    as_extension(|schema| {
        let query = format!(
            "SELECT r.clears, r.statement, r.owner FROM {schema}._clip_release($1::pg_catalog.regclass, $2::pg_catalog.text[], $3::pg_catalog.oid) AS r"
        );
        let arguments = [relation.into(), names.into(), role.into()];
        Spi::connect_mut(|_| {
            let statement = prepared(query.as_bytes(), &arguments)?;
            let rows = statement.run(&arguments, false, 0)?;
            for row in (0..rows.processed).filter_map(|number| rows.row(number)) {
                let read = || Ok::<_, spi::Error>((required(&row, 1)?, required(&row, 2)?, required(&row, 3)?));
                // The triggers are already dropped: a skipped statement would leave the column without triggers.
                let (clears, statement, owner) = read().map_err(|error| broken_statement(&error.to_string()))?;
                if clears { after.clear.push((owner, statement)) } else { after.create.push(statement) }
            }
            Ok(())
        })
    })?;
    if !computes {
        after.clear.clear();
    }
    if !after.create.is_empty() {
        AFTER.with_borrow_mut(|entries| entries.push(after));
    }
    Ok(())
}

/// # Safety
///
/// The pointer must point to a statement from the parser.
unsafe fn end(statement: *mut pg_sys::Node) -> Result<(), ErrorReport> {
    let pending = AFTER.with_borrow_mut(|after| {
        let position = after.iter().rposition(|entry| entry.statement == statement.cast_const())?;
        Some(after.remove(position))
    });
    if let Some(after) = pending {
        // The table's triggers run with the privileges of its owner, not with those of the role that changes it.
        for (owner, query) in &after.clear {
            let clear = || Spi::connect_mut(|_| Statement::prepare(query.bytes(), &[])?.run(&[], false, 0).map(drop));
            as_role(*owner, || without_forced_policies(clear))?;
        }
        if !after.clear.is_empty() {
            vectors_cleared().report(PgLogLevel::NOTICE);
            wake();
        }
        as_extension(|_| {
            for query in &after.create {
                Spi::connect_mut(|_| Statement::prepare(query.bytes(), &[])?.run(&[], false, 0).map(drop))?;
            }
            Ok(())
        })?;
    }
    // A dump contains the check trigger if it is needed.
    if is_restore() {
        return Ok(());
    }
    // SAFETY: by the caller's promise.
    let relation = unsafe {
        let named = [
            statement_of::<pg_sys::AlterTableStmt>(statement, pg_sys::NodeTag::T_AlterTableStmt).map(|it| it.relation),
            statement_of::<pg_sys::CreateTrigStmt>(statement, pg_sys::NodeTag::T_CreateTrigStmt).map(|it| it.relation),
            statement_of::<pg_sys::RenameStmt>(statement, pg_sys::NodeTag::T_RenameStmt).map(|it| it.relation),
        ];
        named.into_iter().flatten().next().and_then(|name| relation_named(name))
    };
    let Some(relation) = relation else { return Ok(()) };
    as_extension(|schema| {
        let query = format!("SELECT {schema}._clip_settle($1::pg_catalog.regclass)");
        let arguments = [relation.into()];
        Spi::connect_mut(|_| prepared(query.as_bytes(), &arguments)?.run(&arguments, false, 0).map(drop))
    })
}

fn forget_dropped() -> Result<(), ErrorReport> {
    let question = "SELECT EXISTS (SELECT FROM _clip.failures) OR EXISTS (SELECT FROM _clip.activity)";
    let is_any = as_extension(|_| Ok(read(question, &[], |row| required::<bool>(row, 1))))?;
    if is_any == Ok(Some(true)) { sweep() } else { Ok(()) }
}

fn as_extension<T>(run: impl FnOnce(&str) -> Result<T, ErrorReport>) -> Result<T, ErrorReport> {
    Extension::find().ok_or_else(|| broken_extension("the extension does not exist"))?.as_owner(run)
}

/// Encodes a name in the encoding of the database for SQL.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// # Safety
///
/// The pointer must be null or point to a name in a statement.
unsafe fn relation_named(name: *const pg_sys::RangeVar) -> Option<pg_sys::Oid> {
    if name.is_null() {
        return None;
    }
    let (flags, none) = (pg_sys::RVROption::RVR_MISSING_OK, std::ptr::null_mut());
    // SAFETY: by the caller's promise. Takes no lock, because the role may not be allowed to take it.
    let relation = unsafe { pg_sys::RangeVarGetRelidExtended(name, pg_sys::NoLock as i32, flags, None, none) };
    (relation != pg_sys::InvalidOid).then_some(relation)
}

/// # Safety
///
/// The pointer must be null or point to a node, and `T` must be the type of the tag.
unsafe fn statement_of<'a, T>(node: *mut pg_sys::Node, tag: pg_sys::NodeTag) -> Option<&'a T> {
    // SAFETY: as the caller promises.
    unsafe { node.as_ref().filter(|node| node.type_ == tag).map(|_| &*node.cast::<T>()) }
}

/// # Safety
///
/// The pointer must be null or point to a list of pointers.
unsafe fn elements(list: *mut pg_sys::List) -> impl Iterator<Item = *mut std::ffi::c_void> {
    // SAFETY: as the caller promises. The list has `length` elements.
    let (start, length) =
        unsafe { list.as_ref().map_or((std::ptr::null_mut(), 0), |list| (list.elements, list.length as usize)) };
    // SAFETY: as above.
    (0..length).map(move |i| unsafe { (*start.add(i)).ptr_value })
}
