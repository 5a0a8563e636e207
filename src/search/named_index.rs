//! The index that the caller of a search names. The server chooses among the indexes of one operator by their expected costs, so it
//! does not see the others while such a search runs.

use std::cell::{Cell, RefCell};
use std::ffi::CStr;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::pg::arguments::{name, regclass};
use crate::pg::messages::broken_extension;
use crate::pg::roles::{Extension, with_settings};
use crate::pg::spi::{read, required};

thread_local! {
    /// The indexes that the planner does not see now, those of partitions included.
    static HIDDEN: RefCell<Vec<pg_sys::Oid>> = const { RefCell::new(Vec::new()) };
    /// The hook of another extension.
    static NEXT_HOOK: Cell<pg_sys::get_relation_info_hook_type> = const { Cell::new(None) };
    static IS_HOOKED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a search of a column. If `index` is given, the server uses no other index to sort by the distance.
pub fn with_index<T>(
    relation: pg_sys::Oid,
    target: &CStr,
    index: Option<pg_sys::Oid>,
    run: impl FnOnce() -> Result<T, ErrorReport>,
) -> Result<T, ErrorReport> {
    /// Restores the state of the search around this one, also on a panic.
    struct Before(Vec<pg_sys::Oid>);
    impl Drop for Before {
        fn drop(&mut self) {
            HIDDEN.set(std::mem::take(&mut self.0));
        }
    }
    let Some(index) = index else { return run() };
    let extension = Extension::find().ok_or_else(|| broken_extension("the extension does not exist"))?;
    // Runs as the extension's owner, because a role that uses a view may not be able to use our schema. Reads only catalogs.
    let others = extension.as_owner(|schema| {
        let question = format!("SELECT {schema}._clip_other_indexes($1, $2, $3)");
        read(&question, &[regclass(relation), name(target), regclass(index)], |row| required(row, 1))
    });
    let others = others.ok().flatten().ok_or_else(|| broken_extension("a function returned no indexes"))?;
    if !IS_HOOKED.replace(true) {
        // SAFETY: a variable of this process. The function lives as long as this library, which is never unloaded.
        unsafe {
            NEXT_HOOK.set(pg_sys::get_relation_info_hook);
            pg_sys::get_relation_info_hook = Some(hide_indexes);
        }
    }
    let _before = Before(HIDDEN.replace(others));
    // The server expects that reading a small table costs less. A condition can still use an index of its own.
    with_settings(&[(c"enable_seqscan", c"off")], run)
}

/// Called by the server when it plans a statement, with the indexes of a table.
#[pg_guard]
unsafe extern "C-unwind" fn hide_indexes(
    root: *mut pg_sys::PlannerInfo,
    relation: pg_sys::Oid,
    inherits: bool,
    planned: *mut pg_sys::RelOptInfo,
) {
    // SAFETY: the server's arguments are passed on. The list contains the indexes of the table, and is shortened in place.
    unsafe {
        if let Some(next) = NEXT_HOOK.get() {
            next(root, relation, inherits, planned);
        }
        let mut number = pg_sys::list_length((*planned).indexlist);
        while number > 0 {
            number -= 1;
            let index = pg_sys::list_nth((*planned).indexlist, number).cast::<pg_sys::IndexOptInfo>();
            if HIDDEN.with_borrow(|hidden| hidden.contains(&(*index).indexoid)) {
                (*planned).indexlist = pg_sys::list_delete_nth_cell((*planned).indexlist, number);
            }
        }
    }
}
