//! Reads the parse tree of a statement that changes a table.

use std::ffi::{CStr, c_char};

use pgrx::pg_sys;

/// Encodes a name, which is in the encoding of the database, for SQL.
///
/// # Safety
///
/// The name must be null-terminated.
pub unsafe fn hex_of(name: *const c_char) -> String {
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(name) }.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// # Safety
///
/// The pointer must be null or point to a name in a statement.
pub unsafe fn relation_named(name: *const pg_sys::RangeVar) -> Option<pg_sys::Oid> {
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
pub unsafe fn statement_of<'a, T>(node: *mut pg_sys::Node, tag: pg_sys::NodeTag) -> Option<&'a T> {
    // SAFETY: as the caller promises.
    unsafe { node.as_ref().filter(|node| node.type_ == tag).map(|_| &*node.cast::<T>()) }
}

/// Returns the table whose columns or triggers a statement changes.
///
/// # Safety
///
/// The pointer must point to a statement from the parser.
pub unsafe fn changed_table(statement: *mut pg_sys::Node) -> Option<pg_sys::Oid> {
    use pg_sys::NodeTag::{T_AlterTableStmt, T_CreateTrigStmt, T_DropStmt, T_RenameStmt};
    // SAFETY: as the caller promises. All names belong to the statement.
    unsafe {
        let names = [
            statement_of::<pg_sys::AlterTableStmt>(statement, T_AlterTableStmt).map(|it| it.relation),
            statement_of::<pg_sys::CreateTrigStmt>(statement, T_CreateTrigStmt).map(|it| it.relation),
            statement_of::<pg_sys::RenameStmt>(statement, T_RenameStmt).map(|it| it.relation),
            statement_of::<pg_sys::DropStmt>(statement, T_DropStmt).and_then(|it| table_of_trigger(it)),
        ];
        names.into_iter().flatten().next().and_then(|name| relation_named(name))
    }
}

/// Returns the table of a DROP TRIGGER, whose one object is a list: the names of the table, then the name of the trigger.
///
/// # Safety
///
/// The statement must come from the parser.
unsafe fn table_of_trigger(drop: &pg_sys::DropStmt) -> Option<*mut pg_sys::RangeVar> {
    if drop.removeType != pg_sys::ObjectType::OBJECT_TRIGGER {
        return None;
    }
    // SAFETY: as the caller promises. The list is copied before it is cut.
    unsafe {
        let names = elements(drop.objects).next()?.cast::<pg_sys::List>();
        let tables = (*names).length - 1;
        Some(pg_sys::makeRangeVarFromNameList(pg_sys::list_truncate(pg_sys::list_copy(names), tables)))
    }
}

/// Returns the table of a statement after which another BEFORE trigger may fire after ours.
///
/// # Safety
///
/// The pointer must point to a statement from the parser.
pub unsafe fn changes_order_of_triggers(statement: *mut pg_sys::Node) -> Option<pg_sys::Oid> {
    // SAFETY: as the caller promises.
    unsafe {
        let create = statement_of::<pg_sys::CreateTrigStmt>(statement, pg_sys::NodeTag::T_CreateTrigStmt);
        let rename = statement_of::<pg_sys::RenameStmt>(statement, pg_sys::NodeTag::T_RenameStmt);
        let is_before_row = create.is_some_and(|it| it.row && it.timing as u32 & pg_sys::TRIGGER_TYPE_BEFORE != 0);
        let renames = rename.is_some_and(|it| it.renameType == pg_sys::ObjectType::OBJECT_TRIGGER);
        if is_before_row || renames { changed_table(statement) } else { None }
    }
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

/// Returns the commands of an ALTER TABLE.
pub fn commands_of(alter: &pg_sys::AlterTableStmt) -> impl Iterator<Item = &pg_sys::AlterTableCmd> {
    // SAFETY: the list contains only commands, which live as long as the statement.
    unsafe { elements(alter.cmds).map(|command| &*command.cast::<pg_sys::AlterTableCmd>()) }
}

/// Returns true for DETACH PARTITION in all its forms.
pub fn is_detachment(command: &pg_sys::AlterTableCmd) -> bool {
    use pg_sys::AlterTableType::{AT_DetachPartition, AT_DetachPartitionFinalize};
    [AT_DetachPartition, AT_DetachPartitionFinalize].contains(&command.subtype)
}

/// Returns the partition of a command.
///
/// # Safety
///
/// The command must be ATTACH PARTITION or DETACH PARTITION of a statement from the parser.
pub unsafe fn partition_of(command: &pg_sys::AlterTableCmd) -> Option<pg_sys::Oid> {
    // SAFETY: as the caller promises, the definition is a PartitionCmd.
    unsafe { command.def.cast::<pg_sys::PartitionCmd>().as_ref().and_then(|partition| relation_named(partition.name)) }
}
