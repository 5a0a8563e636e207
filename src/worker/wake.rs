//! Starts a worker for the database after the commit of a pending row.
//!
//! An error after a commit would crash the whole server. So the code that runs there does not allocate and raises no error: the
//! start is prepared when the row is written.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;
use std::time::{Duration, Instant};

use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::prelude::*;

use super::locks::WorkerLock;
use super::process::description;
use crate::citus::serves_a_node;
use crate::pg::error::report;
use crate::pg::settings;

/// Minimum time between two starts by the same session: the time that a worker needs to take its lock.
const BETWEEN_STARTS: Duration = Duration::from_millis(100);

/// Interval and number of retries of a start. An exiting worker occupies its process after its last check for rows: for some
/// milliseconds, or for a tenth of a second and more if ten processes wait for each core.
const RETRY_EVERY: Duration = Duration::from_millis(2);
const RETRIES: u32 = 250;

/// Time without retries after all retries have failed. Then other processes occupy the server, and commits should not wait for them.
const AFTER_REFUSAL: Duration = Duration::from_secs(60);

/// More bytes than the description of a worker needs.
const BYTES_TO_PREPARE: u64 = 64 * 1024;

/// The state of the last start: whether the server had no free process, and whether this was logged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refusal {
    No,
    Unreported,
    Reported,
}

thread_local! {
    /// True if this transaction has requested a worker.
    static ASKED: Cell<bool> = const { Cell::new(false) };
    /// The description of the worker to start. It lives as long as the process, which never changes its database.
    static PREPARED: Cell<*mut pg_sys::BackgroundWorker> = const { Cell::new(ptr::null_mut()) };
    static NO_START_BEFORE: Cell<Option<Instant>> = const { Cell::new(None) };
    static NO_RETRY_BEFORE: Cell<Option<Instant>> = const { Cell::new(None) };
    static REFUSAL: Cell<Refusal> = const { Cell::new(Refusal::No) };
}

/// Starts a worker for this database when this transaction commits, unless one is running.
pub fn wake() {
    if REFUSAL.get() == Refusal::Unreported {
        REFUSAL.set(Refusal::Reported);
        log!(
            "pg_clip: could not start a background worker, so rows stay pending. Raise the setting \"max_worker_processes\"."
        );
    }
    if PREPARED.get().is_null() {
        clip::headroom(BYTES_TO_PREPARE).map_err(report).unwrap_or_report();
        // SAFETY: a number of this process, and a function that can run at the end of every transaction from now on.
        unsafe {
            let worker = Box::new(description(pg_sys::MyDatabaseId, 0));
            pg_sys::RegisterXactCallback(Some(at_end_of_transaction), ptr::null_mut());
            PREPARED.set(Box::into_raw(worker));
        }
    }
    ASKED.set(true);
}

#[pg_extern(sql = false)]
fn clip_wake_worker() {
    wake();
}

#[pg_guard]
unsafe extern "C-unwind" fn at_end_of_transaction(event: pg_sys::XactEvent::Type, _argument: *mut c_void) {
    match event {
        pg_sys::XactEvent::XACT_EVENT_COMMIT if ASKED.replace(false) => start_prepared(),
        // Another session commits it in some milliseconds. The worker waits for rows longer than that.
        pg_sys::XactEvent::XACT_EVENT_PREPARE if serves_a_node() && ASKED.replace(false) => start_prepared(),
        pg_sys::XactEvent::XACT_EVENT_ABORT | pg_sys::XactEvent::XACT_EVENT_PREPARE => ASKED.set(false),
        _ => (),
    }
}

/// Starts the prepared worker. Runs after a commit, so it must not raise an error and must not allocate.
fn start_prepared() {
    let now = Instant::now();
    let later = |time: Option<Instant>| time.is_some_and(|time| now < time);
    // SAFETY: a number of this process.
    let lock = WorkerLock::Database(unsafe { pg_sys::MyDatabaseId });
    if settings::max_workers() == 0 || later(NO_START_BEFORE.get()) {
        return;
    }
    let mut retries = if later(NO_RETRY_BEFORE.get()) { 0 } else { RETRIES };
    // A worker that takes the lock from now on finds the row.
    while !lock.is_taken() {
        // SAFETY: the description lives as long as the process. Without a handle, the server does not allocate.
        if unsafe { pg_sys::RegisterDynamicBackgroundWorker(PREPARED.get(), ptr::null_mut()) } {
            NO_START_BEFORE.set(Some(now + BETWEEN_STARTS));
            REFUSAL.set(Refusal::No);
            return;
        }
        if retries == 0 {
            NO_RETRY_BEFORE.set(Some(now + AFTER_REFUSAL));
            if REFUSAL.get() == Refusal::No {
                REFUSAL.set(Refusal::Unreported);
            }
            return;
        }
        retries -= 1;
        std::thread::sleep(RETRY_EVERY);
    }
}
