//! Reads the parse tree of a statement that changes a table.

use pgrx::pg_sys;

/// Encodes a name in the encoding of the database for SQL.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
