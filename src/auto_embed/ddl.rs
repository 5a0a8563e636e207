//! `clip_ddl`, the event trigger that keeps managed columns consistent with statements that change their tables.
//!
//! Postgres does not change the type of a column that a trigger's condition names. So the triggers are dropped before such a
//! statement and created again after it. If a new trigger fires after ours and may change a source, the check trigger is added.
//! Failures and progress of dropped tables are deleted.

use std::cell::RefCell;
use std::ffi::CStr;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;

use super::parse_tree::{
    changed_table, changes_order_of_triggers, commands_of, hex_of, is_detachment, partition_of, relation_named,
    statement_of,
};
use super::trigger_row::is_restore;
use crate::failures::sweep;
use crate::pg::finfo::declare_finfo;
use crate::pg::messages::{broken_extension, broken_statement, not_an_event, not_cleared, vectors_cleared};
use crate::pg::roles::{Extension, as_role, without_forced_policies};
use crate::pg::spi::{Statement, prepared, read, required};
use crate::pg::text::ServerText;
use crate::worker::wake::wake;

/// Statements to run after an ALTER TABLE, first as the owner of the table, then as the extension's owner.
struct After {
    /// Identifies the statement. The pointer is valid while the statement runs.
    statement: *const pg_sys::Node,
    relation: pg_sys::Oid,
    clear: Vec<Clear>,
    create: Vec<ServerText>,
}

/// Clears the embeddings of a column whose sources have new values.
struct Clear {
    /// The owner of the table.
    owner: pg_sys::Oid,
    update: ServerText,
    /// A query: whether an embedding is left.
    is_left: ServerText,
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
    if let Some(relation) = unsafe { changes_order_of_triggers(statement) }.filter(|_| !is_restore()) {
        call("_clip_lock_root($1::pg_catalog.regclass, $2::pg_catalog.oid)", &[relation.into(), role().into()])?;
    }
    // SAFETY: by the caller's promise.
    let Some(alter) = (unsafe { statement_of::<pg_sys::AlterTableStmt>(statement, pg_sys::NodeTag::T_AlterTableStmt) })
    else {
        return Ok(());
    };
    let commands: Vec<_> = commands_of(alter).collect();
    for command in &commands {
        if command.subtype == pg_sys::AlterTableType::AT_AttachPartition && !is_restore() {
            // SAFETY: the command is an ATTACH PARTITION, and the name belongs to the statement.
            if let (Some(parent), Some(partition)) = unsafe { (relation_named(alter.relation), partition_of(command)) }
            {
                call(
                    "_clip_attach($1::pg_catalog.regclass, $2::pg_catalog.regclass, $3::pg_catalog.oid)",
                    &[parent.into(), partition.into(), role().into()],
                )?;
            }
        }
    }
    // SAFETY: the names belong to the statement.
    let [changed, dropped] = [pg_sys::AlterTableType::AT_AlterColumnType, pg_sys::AlterTableType::AT_DropColumn]
        .map(|kind| commands.iter().filter(|it| it.subtype == kind).map(|it| unsafe { hex_of(it.name) }).collect());
    let changed: Vec<String> = changed;
    if changed.is_empty() {
        return Ok(());
    }
    let mut computed: Vec<String> = Vec::new();
    for command in commands.iter().filter(|it| it.subtype == pg_sys::AlterTableType::AT_AlterColumnType) {
        // SAFETY: the definition of such a command is a column.
        let column = unsafe { command.def.cast::<pg_sys::ColumnDef>().as_ref() };
        if column.is_some_and(|column| !column.raw_default.is_null()) {
            // SAFETY: the name belongs to the statement.
            computed.push(unsafe { hex_of(command.name) });
        }
    }
    // SAFETY: the name belongs to the statement.
    let Some(relation) = (unsafe { relation_named(alter.relation) }) else { return Ok(()) };
    let mut after = After { statement, relation, clear: Vec::new(), create: Vec::new() };
    as_extension(|schema| {
        let query = format!(
            "SELECT r.statement, r.owner, r.is_left FROM {schema}._clip_release($1::pg_catalog.regclass, $2::pg_catalog.text[], $3::pg_catalog.text[], $4::pg_catalog.text[], $5::pg_catalog.oid) AS r"
        );
        let arguments = [relation.into(), changed.into(), computed.into(), dropped.into(), role().into()];
        Spi::connect_mut(|_| {
            let statement = prepared(query.as_bytes(), &arguments)?;
            let rows = statement.run(&arguments, false, 0)?;
            for row in (0..rows.processed).filter_map(|number| rows.row(number)) {
                let read = || Ok::<_, spi::Error>((required(&row, 1)?, required(&row, 2)?, row.get(3)?));
                // The triggers are already dropped: a skipped statement would leave the column without triggers.
                let (statement, owner, is_left) = read().map_err(|error| broken_statement(&error.to_string()))?;
                match is_left {
                    Some(is_left) => after.clear.push(Clear { owner, update: statement, is_left }),
                    None => after.create.push(statement),
                }
            }
            Ok(())
        })
    })?;
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
        let set_constraints = |begins: bool| {
            call(
                "_clip_fire_at_once($1::pg_catalog.regclass, $2::pg_catalog.bool)",
                &[after.relation.into(), begins.into()],
            )
        };
        if !after.clear.is_empty() {
            set_constraints(true)?;
        }
        // The table's triggers run with the privileges of its owner, not with those of the role that changes it.
        for clear in &after.clear {
            as_role(clear.owner, || without_forced_policies(|| clear.run()))?;
        }
        if !after.clear.is_empty() {
            set_constraints(false)?;
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
    let (alter, rename, relation) = unsafe {
        (
            statement_of::<pg_sys::AlterTableStmt>(statement, pg_sys::NodeTag::T_AlterTableStmt),
            statement_of::<pg_sys::RenameStmt>(statement, pg_sys::NodeTag::T_RenameStmt),
            changed_table(statement),
        )
    };
    let Some(relation) = relation else { return Ok(()) };
    if let Some(rename) = rename.filter(|rename| rename.renameType == pg_sys::ObjectType::OBJECT_TRIGGER) {
        // SAFETY: names are null-terminated.
        let [old, new] = unsafe { [rename.subname, rename.newname].map(|name| hex_of(name)) };
        call(
            "_clip_follow($1::pg_catalog.regclass, $2::pg_catalog.text, $3::pg_catalog.text)",
            &[relation.into(), old.into(), new.into()],
        )?;
    }
    let mut detaches = false;
    for command in alter.into_iter().flat_map(commands_of).filter(|command| is_detachment(command)) {
        detaches = true;
        // SAFETY: the command is a DETACH PARTITION, and the name belongs to the statement.
        if let Some(partition) = unsafe { partition_of(command) } {
            call(
                "_clip_detached($1::pg_catalog.regclass, $2::pg_catalog.regclass)",
                &[relation.into(), partition.into()],
            )?;
        }
    }
    // DETACH PARTITION CONCURRENTLY must not lock the other partitions.
    if detaches { Ok(()) } else { call("_clip_settle($1::pg_catalog.regclass)", &[relation.into()]) }
}

impl Clear {
    fn run(&self) -> Result<(), ErrorReport> {
        Spi::connect_mut(|_| {
            Statement::prepare(self.update.bytes(), &[])?.run(&[], false, 0)?;
            let question = Statement::prepare(self.is_left.bytes(), &[])?;
            let answer = question.run(&[], false, 1)?;
            let is_left = answer.row(0).and_then(|row| row.get::<bool>(1).ok().flatten());
            if is_left == Some(false) { Ok(()) } else { Err(not_cleared()) }
        })
    }
}

/// Calls an internal function of the extension, with arguments of exactly its types.
fn call(function: &str, arguments: &[DatumWithOid<'_>]) -> Result<(), ErrorReport> {
    as_extension(|schema| {
        let query = format!("SELECT {schema}.{function}");
        Spi::connect_mut(|_| prepared(query.as_bytes(), arguments)?.run(arguments, false, 0).map(drop))
    })
}

fn role() -> pg_sys::Oid {
    // SAFETY: reads a variable of this process.
    unsafe { pg_sys::GetUserId() }
}

fn forget_dropped() -> Result<(), ErrorReport> {
    let question = "SELECT EXISTS (SELECT FROM _clip.failures) OR EXISTS (SELECT FROM _clip.activity)";
    let is_any = as_extension(|_| Ok(read(question, &[], |row| required::<bool>(row, 1))))?;
    if is_any == Ok(Some(true)) { sweep() } else { Ok(()) }
}

fn as_extension<T>(run: impl FnOnce(&str) -> Result<T, ErrorReport>) -> Result<T, ErrorReport> {
    Extension::find().ok_or_else(|| broken_extension("the extension does not exist"))?.as_owner(run)
}
