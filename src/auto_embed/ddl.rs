//! `clip_ddl`, the event trigger: what statements that change tables mean for columns that embed themselves.
//!
//! Postgres refuses to change the type of a column that a trigger's condition names: before such a statement the triggers are
//! dropped, after it they are created again. A trigger that fires after ours may change a source: then a check is added. What
//! is known of dropped tables is forgotten.

use std::cell::RefCell;
use std::ffi::{CStr, CString};

use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;

use super::trigger_row::is_restore;
use crate::failures::sweep;
use crate::pg::messages::{broken_extension, broken_statement, not_an_event, vectors_cleared};
use crate::pg::roles::{Extension, as_role, without_forced_policies};
use crate::pg::spi::{Statement, prepared, read, required};
use crate::pg::text::Raw;
use crate::worker::wake::wake;

/// What is to be done after a statement: by the owner of the table, and then by the extension's owner.
struct After {
    /// Tells the statement: it is there while it runs.
    statement: *const pg_sys::Node,
    /// With the owner of the table.
    clear: Vec<(pg_sys::Oid, Raw)>,
    create: Vec<Raw>,
}

thread_local! {
    static AFTER: RefCell<Vec<After>> = const { RefCell::new(Vec::new()) };
}

#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_clip_ddl_wrapper() -> &'static pg_sys::Pg_finfo_record {
    const CALLING_CONVENTION: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &CALLING_CONVENTION
}

/// # Safety
///
/// Called by the server alone.
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
/// The pointer must be of a statement that the parser made.
unsafe fn begin(statement: *mut pg_sys::Node) -> Result<(), ErrorReport> {
    // One that failed may have been at the same place.
    AFTER.with_borrow_mut(|after| after.retain(|entry| entry.statement != statement.cast_const()));
    // SAFETY: by the caller's promise.
    let Some(alter) = (unsafe { statement_of::<pg_sys::AlterTableStmt>(statement, pg_sys::NodeTag::T_AlterTableStmt) })
    else {
        return Ok(());
    };
    // SAFETY: the list has commands alone, and as many as it says.
    let commands = unsafe { elements(alter.cmds) }.map(|command| unsafe { &*command.cast::<pg_sys::AlterTableCmd>() });
    let changes: Vec<_> =
        commands.filter(|command| command.subtype == pg_sys::AlterTableType::AT_AlterColumnType).collect();
    if changes.is_empty() {
        return Ok(());
    }
    // SAFETY: names are null-terminated; what such a command defines is a column.
    let (names, computes) = unsafe {
        let names: Vec<CString> = changes.iter().map(|change| CStr::from_ptr(change.name).to_owned()).collect();
        let computes = changes.iter().any(|change| {
            change.def.cast::<pg_sys::ColumnDef>().as_ref().is_some_and(|column| !column.raw_default.is_null())
        });
        (names, computes)
    };
    // SAFETY: the name is the statement's.
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
                // The triggers are dropped by now: a statement that is passed over would leave the column without them.
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
/// The pointer must be of a statement that the parser made.
unsafe fn end(statement: *mut pg_sys::Node) -> Result<(), ErrorReport> {
    let pending = AFTER.with_borrow_mut(|after| {
        let place = after.iter().rposition(|entry| entry.statement == statement.cast_const())?;
        Some(after.remove(place))
    });
    if let Some(after) = pending {
        // The table's own triggers run with its owner's rights, not with those of the role that changes it.
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
    // A dump has the check where it is needed, and creates it itself.
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
    Extension::find().ok_or_else(|| broken_extension("it is not there"))?.as_owner(run)
}

/// Names go to SQL as the bytes that they are.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// # Safety
///
/// The pointer must be of a name in a statement, or null.
unsafe fn relation_named(name: *const pg_sys::RangeVar) -> Option<pg_sys::Oid> {
    if name.is_null() {
        return None;
    }
    let (flags, none) = (pg_sys::RVROption::RVR_MISSING_OK, std::ptr::null_mut());
    // SAFETY: by the caller's promise. No lock is taken on behalf of somebody who may not have one.
    let relation = unsafe { pg_sys::RangeVarGetRelidExtended(name, pg_sys::NoLock as i32, flags, None, none) };
    (relation != pg_sys::InvalidOid).then_some(relation)
}

/// # Safety
///
/// The pointer must be null or of a node, and `T` what the tag says.
unsafe fn statement_of<'a, T>(node: *mut pg_sys::Node, tag: pg_sys::NodeTag) -> Option<&'a T> {
    // SAFETY: as the caller promises.
    unsafe { node.as_ref().filter(|node| node.type_ == tag).map(|_| &*node.cast::<T>()) }
}

/// # Safety
///
/// The pointer must be null or of a list of pointers.
unsafe fn elements(list: *mut pg_sys::List) -> impl Iterator<Item = *mut std::ffi::c_void> {
    // SAFETY: as the caller promises; the list has as many elements as it says.
    let (start, length) =
        unsafe { list.as_ref().map_or((std::ptr::null_mut(), 0), |list| (list.elements, list.length as usize)) };
    // SAFETY: as above.
    (0..length).map(move |i| unsafe { (*start.add(i)).ptr_value })
}
