//! The commit of a pending row starts a worker of its database.
//!
//! An error after a commit is a panic of the whole server. So the code that runs there allocates nothing and raises
//! nothing: the start is prepared when the row is written.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;
use std::time::{Duration, Instant};

use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::prelude::*;

use super::locks::Slot;
use super::process::description;
use crate::pg::error::report;
use crate::pg::settings;

/// How long after a start another is not tried by the same session: as long as a worker needs to take its slot.
const BETWEEN_STARTS: Duration = Duration::from_millis(100);

/// A worker that exits keeps its process after its last look for rows: for some milliseconds, and for a tenth of a second and
/// more with ten processes waiting for each core. A start that is refused meanwhile is repeated this often, and so many times.
const RETRY_EVERY: Duration = Duration::from_millis(2);
const RETRIES: u32 = 250;

/// How long a session does not repeat its starts after all of that was in vain: other processes fill the server then, and
/// commits are not to wait for them.
const AFTER_REFUSAL: Duration = Duration::from_secs(60);

/// More than the description of a worker and its names take.
const BYTES_TO_PREPARE: u64 = 64 * 1024;

/// Whether the server had no process to spare for the last start.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refusal {
    No,
    Unreported,
    Reported,
}

thread_local! {
    /// Whether this transaction wants a worker.
    static ASKED: Cell<bool> = const { Cell::new(false) };
    /// The worker that is to be started. It lives as long as the process, as its database does.
    static PREPARED: Cell<*mut pg_sys::BackgroundWorker> = const { Cell::new(ptr::null_mut()) };
    static NO_START_BEFORE: Cell<Option<Instant>> = const { Cell::new(None) };
    static NO_RETRY_BEFORE: Cell<Option<Instant>> = const { Cell::new(None) };
    static REFUSAL: Cell<Refusal> = const { Cell::new(Refusal::No) };
}

/// Starts a worker of this database when this transaction commits, unless one runs.
pub fn wake() {
    if REFUSAL.get() == Refusal::Unreported {
        REFUSAL.set(Refusal::Reported);
        log!("pg_clip: no background worker could be started: rows wait. Raise \"max_worker_processes\".");
    }
    if PREPARED.get().is_null() {
        clip::headroom(BYTES_TO_PREPARE).map_err(report).unwrap_or_report();
        // SAFETY: a number of this process, and a function that may be called at the end of each transaction from now on.
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
        pg_sys::XactEvent::XACT_EVENT_ABORT | pg_sys::XactEvent::XACT_EVENT_PREPARE => ASKED.set(false),
        _ => (),
    }
}

/// Called after a commit: it must not fail, and must not allocate.
fn start_prepared() {
    let now = Instant::now();
    let later = |time: Option<Instant>| time.is_some_and(|time| now < time);
    // SAFETY: a number of this process.
    let slot = Slot::Database(unsafe { pg_sys::MyDatabaseId });
    if settings::max_workers() == 0 || later(NO_START_BEFORE.get()) {
        return;
    }
    let mut retries = if later(NO_RETRY_BEFORE.get()) { 0 } else { RETRIES };
    // A worker that takes the slot from here on finds the row.
    while !slot.is_taken() {
        // SAFETY: the description lives as long as the process. Without a handle the server allocates nothing.
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
