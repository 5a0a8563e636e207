//! Subtransactions, which undo the work of a failed statement.

use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

/// Runs `run` in a subtransaction. An error undoes its work and nothing else, as an EXCEPTION clause of PL/pgSQL does.
pub fn in_subtransaction<T>(run: impl FnOnce() -> T) -> Result<T, CaughtError> {
    // SAFETY: the sequence of PL/pgSQL. Memory context and resource owner are those of the caller afterwards.
    unsafe {
        let (context, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
        let run = AssertUnwindSafe(run);
        let done = PgTryBuilder::new(move || Ok({ run }.0())).catch_others(Err).catch_rust_panic(Err).execute();
        match done {
            Ok(_) => pg_sys::ReleaseCurrentSubTransaction(),
            Err(_) => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
        }
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::CurrentResourceOwner = owner;
        done
    }
}
