//! Cancel, `statement_timeout`, `transaction_timeout` and terminate, as seen from inside long work.

use std::sync::atomic::{AtomicI32, Ordering};

use pgrx::pg_sys;

/// Whether Postgres wants this statement to end. Only reads memory: it is called from a second thread.
pub fn interrupted() -> bool {
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    if pending(&raw mut pg_sys::TransactionTimeoutPending) {
        return true;
    }
    pending(&raw mut pg_sys::QueryCancelPending) || pending(&raw mut pg_sys::ProcDiePending)
}

fn pending(flag: *mut pg_sys::sig_atomic_t) -> bool {
    // SAFETY: the flags are aligned `volatile int`s that live as long as the process; an atomic read of one races with
    // nothing but the signal handler that sets it.
    unsafe { AtomicI32::from_ptr(flag) }.load(Ordering::Relaxed) != 0
}
