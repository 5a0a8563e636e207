//! Citus: the settings that a worker and a search need on its nodes. Its tables are described in sql/parts/29_citus.sql.
//!
//! Nothing here depends on Citus. Each function does nothing if the server has not loaded the library of Citus.

use std::ffi::CStr;

use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::prelude::*;

use crate::pg::messages::broken_statement;
use crate::pg::roles::{Extension, with_settings};
use crate::pg::server_settings::{set_for_process, value_of};
use crate::pg::spi::read;

/// A setting that Citus hides from lists.
const VISIBILITY: &CStr = c"citus.override_table_visibility";

/// Returns true if the server has loaded the library of Citus.
pub fn is_loaded() -> bool {
    value_of(VISIBILITY).is_some()
}

/// Lets this worker see and change the shards of its node, as tables of their own.
pub fn show_shards() {
    if !is_loaded() {
        return;
    }
    set_for_process(&[(VISIBILITY, c"off"), (c"citus.enable_manual_changes_to_shards", c"on")]);
}

/// Returns true if this session belongs to a transaction of another node. Such a transaction is prepared, and another session
/// commits it. Does not allocate and raises no error.
pub fn serves_a_node() -> bool {
    // SAFETY: null, or a null-terminated string of this process.
    unsafe {
        let name = (&raw const pg_sys::application_name).read();
        !name.is_null() && CStr::from_ptr(name).to_bytes().starts_with(b"citus_internal")
    }
}

/// Runs `run` with the settings of a search, on this node and on those that Citus asks. The nodes keep a setting until the end of
/// the transaction, so the former values follow afterwards.
pub fn with_search_settings<T>(settings: &[(&CStr, &CStr)], run: impl FnOnce() -> T) -> T {
    let Some(extension) = is_loaded().then(Extension::find).flatten() else { return with_settings(settings, run) };
    let text = |text: &CStr| text.to_string_lossy().into_owned();
    let of_index = || settings.iter().filter(|(name, _)| name.to_bytes().contains(&b'.'));
    let names: Vec<_> = of_index().map(|(name, _)| text(name)).collect();
    let values = of_index().map(|(_, value)| Some(text(value))).collect();
    let former = of_index().map(|(name, _)| value_of(name)).collect();
    set_on_nodes(&extension, names.clone(), values);
    let done = with_settings(settings, run);
    set_on_nodes(&extension, names, former);
    done
}

/// Sends settings to the nodes. NULL is the default.
fn set_on_nodes(extension: &Extension, names: Vec<String>, values: Vec<Option<String>>) {
    extension.as_owner(|schema| {
        let call = format!("SELECT {schema}._clip_citus_set($1, $2)");
        read(&call, &[names.into(), values.into()], |_| Ok(()))
            .map_err(|error| broken_statement(&error.to_string()))
            .unwrap_or_report();
    });
}
