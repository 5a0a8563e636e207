//! A background worker as a process of the server: start, signals, settings, transactions.

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, DynamicBackgroundWorker};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

use super::locks::keep_locks;
use crate::pg::interrupt;
use crate::pg::server_settings::set_for_process;
use crate::pg::summary::summary_of_caught;

/// Flag in the worker's argument, next to the database OID: started by the launcher. Such a worker exits as soon as no row is
/// pending.
pub const VISIT: u64 = 1 << 32;
/// Flag of a helper, which embeds rows in addition to the primary worker of a database.
pub const HELP: u64 = 1 << 33;

/// Starts a worker for a database. Returns None if all of `max_worker_processes` are in use.
pub fn start(database: pg_sys::Oid, how: u64) -> Option<DynamicBackgroundWorker> {
    // SAFETY: a number of this process.
    let own = unsafe { pg_sys::MyProcPid };
    worker(database, how).set_notify_pid(own).load_dynamic().ok()
}

/// Returns the description of a worker for the server, for a start that must not allocate.
pub fn description(database: pg_sys::Oid, how: u64) -> pg_sys::BackgroundWorker {
    (&worker(database, how)).into()
}

fn worker(database: pg_sys::Oid, how: u64) -> BackgroundWorkerBuilder {
    builder("pg_clip worker", "clip_worker_main").set_argument(Some((u64::from(database.to_u32()) | how).into()))
}

pub fn builder(name: &str, function: &str) -> BackgroundWorkerBuilder {
    BackgroundWorkerBuilder::new(name).set_type(name).set_library("pg_clip").set_function(function).enable_spi_access()
}

/// Waits for a time or a signal. Exits if the process is terminated or the postmaster dies.
pub fn nap(time: Duration) {
    const EVENTS: u32 = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    // SAFETY: waits for the latch of this process and resets it, as every process of the server does. The longest time is a
    // day, which fits into the number of milliseconds.
    unsafe {
        pg_sys::WaitLatch(pg_sys::MyLatch, EVENTS as i32, time.as_millis() as i64, pg_sys::PG_WAIT_EXTENSION);
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    pgrx::check_for_interrupts!();
    reload_settings();
}

/// Waits for a time, also if signals arrive.
pub fn nap_for(time: Duration) {
    let begun = Instant::now();
    while let Some(left) = time.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
        nap(left);
    }
}

pub fn reload_settings() {
    // SAFETY: the handler of SIGHUP sets the flag. Files are read outside of transactions, as in every process.
    unsafe {
        if (&raw const pg_sys::ConfigReloadPending).read_volatile() != 0 {
            (&raw mut pg_sys::ConfigReloadPending).write_volatile(0);
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
    }
}

unsafe extern "C-unwind" {
    // The server's own handler. It only sets flags, so it needs no guard of pgrx, which is not safe in a handler.
    fn SignalHandlerForConfigReload(signal: i32);
}

/// Sets the signal handlers, so that the worker can be interrupted like a backend.
pub fn attach_signals() {
    interrupt::handle_signal(libc::SIGTERM, interrupt::die);
    interrupt::handle_signal(libc::SIGHUP, SignalHandlerForConfigReload);
    interrupt::end_with_postmaster();
    // SAFETY: the handlers are set.
    unsafe { pg_sys::BackgroundWorkerUnblockSignals() };
}

/// Resets settings that a database may set for its applications, because they must not affect the worker.
pub fn set_defaults() {
    set_for_process(&[
        (c"default_transaction_read_only", c"off"),
        (c"default_transaction_isolation", c"read committed"),
        (c"default_transaction_deferrable", c"off"),
        (c"session_replication_role", c"origin"),
        // An owner who locks a table must not stop the embedding of other tables.
        (c"lock_timeout", c"10s"),
        // In a deadlock, the worker gives up and tries again later. The server stops the session that checks first.
        (c"deadlock_timeout", c"10ms"),
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        (c"transaction_timeout", c"0"),
    ]);
}

/// The error that aborted a transaction.
pub struct TransactionError {
    pub sqlstate: String,
    pub message: String,
}

/// Runs `run` in a transaction of its own. An error aborts that transaction, not the worker.
fn in_transaction<T>(run: impl FnOnce() -> T) -> Result<T, TransactionError> {
    let failed = |error: CaughtError| {
        let (sqlstate, message) = summary_of_caught(&error);
        Err(TransactionError { sqlstate, message })
    };
    let run = AssertUnwindSafe(run);
    let done = PgTryBuilder::new(move || Ok(BackgroundWorker::transaction(run)))
        .catch_others(failed)
        .catch_rust_panic(failed)
        .execute();
    if done.is_err() {
        // SAFETY: every process of the server calls this after an error. It restores roles and settings, too.
        unsafe { pg_sys::AbortCurrentTransaction() };
        keep_locks();
    }
    done
}

/// Shows an activity in pg_stat_activity. None means idle.
pub fn report_activity(activity: Option<&str>) {
    let text = std::ffi::CString::new(activity.unwrap_or_default()).unwrap_or_default();
    let state = if activity.is_some() { pg_sys::BackendState::STATE_RUNNING } else { pg_sys::BackendState::STATE_IDLE };
    // SAFETY: the server copies the string. Without a string, it keeps the previous one.
    unsafe { pg_sys::pgstat_report_activity(state, activity.map_or(std::ptr::null(), |_| text.as_ptr())) };
}

unsafe extern "C-unwind" {
    // utils/timeout.h, which the bindings leave out.
    fn enable_timeout_after(id: i32, delay_ms: i32);
    fn disable_timeout(id: i32, keep_indicator: bool);
    fn RegisterTimeout(id: i32, handler: Option<unsafe extern "C-unwind" fn()>) -> i32;
}

/// `STATEMENT_TIMEOUT` of the server's enum `TimeoutId`, the same from PostgreSQL 15 to 18.
const STATEMENT_TIMEOUT: i32 = 3;

/// `USER_TIMEOUT` of the same enum: a free number for a timeout of this process.
const USER_TIMEOUT: i32 = if cfg!(any(feature = "pg17", feature = "pg18")) { 13 } else { 12 };

/// Time after a limit at which the process exits, if a function has ignored the cancel.
const GRACE: Duration = Duration::from_secs(30);

/// Requests the end of this process, which no EXCEPTION clause can catch.
unsafe extern "C-unwind" fn end_process() {
    // SAFETY: sends a signal to this process, whose handler only sets flags.
    unsafe { libc::kill(pg_sys::MyProcPid, libc::SIGTERM) };
}

/// Returns the number of this process's own timeout.
fn last_resort() -> i32 {
    thread_local! {
        static NUMBER: Cell<Option<i32>> = const { Cell::new(None) };
    }
    // SAFETY: registers a handler that lives as long as this library.
    NUMBER.get().unwrap_or_else(|| unsafe {
        let number = RegisterTimeout(USER_TIMEOUT, Some(end_process));
        NUMBER.set(Some(number));
        number
    })
}

/// Runs `run` in a transaction that the server cancels after some time, as by `statement_timeout`: a function of a table may wait
/// for hours, and the worker serves other tables and databases, too. If the function ignores the cancel, the process exits.
pub fn in_bounded_transaction<T>(limit: Duration, run: impl FnOnce() -> T) -> Result<T, TransactionError> {
    let last_resort = last_resort();
    // SAFETY: every process with a database connection has registered the first timeout. Its handler sends the process the signal
    // for a cancel, which a worker handles as a session does. The second one is registered above.
    unsafe {
        enable_timeout_after(STATEMENT_TIMEOUT, limit.as_millis() as i32);
        enable_timeout_after(last_resort, (limit + GRACE).as_millis() as i32);
    }
    let done = in_transaction(run);
    // SAFETY: as above.
    unsafe {
        disable_timeout(STATEMENT_TIMEOUT, false);
        disable_timeout(last_resort, false);
    }
    done
}
