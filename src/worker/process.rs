//! A background worker as a process of the server: its start, its signals, its settings, its transactions.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, DynamicBackgroundWorker};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

use crate::pg::interrupt;
use crate::pg::summary::summary;

/// The argument of a worker beside its database: come, look, and leave.
pub const VISIT: u64 = 1 << 32;
/// Help the worker that is there.
pub const HELP: u64 = 1 << 33;

/// Starts a worker of a database. None if the server has no process to spare.
pub fn start(database: pg_sys::Oid, how: u64) -> Option<DynamicBackgroundWorker> {
    // SAFETY: a number of this process.
    let own = unsafe { pg_sys::MyProcPid };
    worker(database, how).set_notify_pid(own).load_dynamic().ok()
}

/// The same worker as the server wants it described, for a start that must not allocate.
pub fn description(database: pg_sys::Oid, how: u64) -> pg_sys::BackgroundWorker {
    (&worker(database, how)).into()
}

fn worker(database: pg_sys::Oid, how: u64) -> BackgroundWorkerBuilder {
    builder("pg_clip worker", "clip_worker_main").set_argument(Some((u64::from(database.to_u32()) | how).into()))
}

pub fn builder(name: &str, function: &str) -> BackgroundWorkerBuilder {
    BackgroundWorkerBuilder::new(name).set_type(name).set_library("pg_clip").set_function(function).enable_spi_access()
}

/// Wait, unless a signal comes first. A termination ends the process here, and so does the death of the postmaster.
pub fn nap(time: Duration) {
    const EVENTS: u32 = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    // SAFETY: the latch of this process, waited for and reset as in every process of the server. The longest time is a
    // day, which the number of milliseconds holds.
    unsafe {
        pg_sys::WaitLatch(pg_sys::MyLatch, EVENTS as i32, time.as_millis() as i64, pg_sys::PG_WAIT_EXTENSION);
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    pgrx::check_for_interrupts!();
    reload_settings();
}

pub fn reload_settings() {
    // SAFETY: a flag that the handler of SIGHUP sets; files are read outside of transactions, as in any process.
    unsafe {
        if (&raw const pg_sys::ConfigReloadPending).read_volatile() != 0 {
            (&raw mut pg_sys::ConfigReloadPending).write_volatile(0);
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
    }
}

unsafe extern "C-unwind" {
    // The server's own handler. It only sets flags: pgrx's guard around it would be in the way of a signal.
    fn SignalHandlerForConfigReload(signal: i32);
}

/// Interruptible at any time, as a backend is.
pub fn attach_signals() {
    interrupt::handle_signal(libc::SIGTERM, interrupt::die);
    interrupt::handle_signal(libc::SIGHUP, SignalHandlerForConfigReload);
    interrupt::end_with_postmaster();
    // SAFETY: handlers are in place.
    unsafe { pg_sys::BackgroundWorkerUnblockSignals() };
}

/// What a database may set for its applications is not meant for its worker.
pub fn set_defaults() {
    for (name, value) in [
        (c"default_transaction_read_only", c"off"),
        (c"default_transaction_isolation", c"read committed"),
        (c"default_transaction_deferrable", c"off"),
        (c"session_replication_role", c"origin"),
        (c"lock_timeout", c"0"),
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        (c"transaction_timeout", c"0"),
    ] {
        // SAFETY: settings that the server has, with values that they take, outside of a transaction.
        unsafe {
            pg_sys::SetConfigOption(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_SUSET,
                pg_sys::GucSource::PGC_S_OVERRIDE,
            );
        }
    }
}

/// Why a transaction was aborted.
pub struct Failure {
    pub sqlstate: String,
    pub message: String,
}

/// Run something in a transaction of its own. An error aborts that transaction, not the worker.
pub fn in_transaction<T>(run: impl FnOnce() -> T) -> Result<T, Failure> {
    let failed = |error: CaughtError| match error {
        CaughtError::PostgresError(report)
        | CaughtError::ErrorReport(report)
        | CaughtError::RustPanic { ereport: report, .. } => {
            let (sqlstate, message) = summary(report.sql_error_code(), report.message(), report.detail());
            Err(Failure { sqlstate, message })
        }
    };
    let run = AssertUnwindSafe(run);
    let done = PgTryBuilder::new(move || Ok(BackgroundWorker::transaction(run)))
        .catch_others(failed)
        .catch_rust_panic(failed)
        .execute();
    if done.is_err() {
        // SAFETY: what every process of the server does after an error; it restores roles and settings too.
        unsafe { pg_sys::AbortCurrentTransaction() };
    }
    done
}

/// Tell pg_stat_activity what is done; none when nothing is.
pub fn report(activity: Option<&str>) {
    let text = std::ffi::CString::new(activity.unwrap_or_default()).unwrap_or_default();
    let state = if activity.is_some() { pg_sys::BackendState::STATE_RUNNING } else { pg_sys::BackendState::STATE_IDLE };
    // SAFETY: the server copies the string; without one it leaves the former in place.
    unsafe { pg_sys::pgstat_report_activity(state, activity.map_or(std::ptr::null(), |_| text.as_ptr())) };
}
