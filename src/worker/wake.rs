//! The commit of a row that waits starts a worker.

use std::cell::Cell;
use std::time::{Duration, Instant};

use pgrx::prelude::*;
use pgrx::{PgXactCallbackEvent, register_xact_callback};

use super::locks::Slot;
use super::process::start;
use crate::settings;

/// How long after a start another is not tried by the same session: as long as a worker needs to take its slot.
const BETWEEN_STARTS: Duration = Duration::from_millis(100);

/// The same when the server has no process to spare.
const AFTER_REFUSAL: Duration = Duration::from_secs(1);

/// See to it that a worker of this database runs once this transaction has committed.
pub fn wake() {
    thread_local! {
        static ASKED: Cell<bool> = const { Cell::new(false) };
        static NOT_BEFORE: Cell<Option<Instant>> = const { Cell::new(None) };
        static COMPLAINED: Cell<bool> = const { Cell::new(false) };
    }
    if ASKED.replace(true) {
        return;
    }
    register_xact_callback(PgXactCallbackEvent::Abort, || ASKED.set(false));
    register_xact_callback(PgXactCallbackEvent::Prepare, || ASKED.set(false));
    // What is called here must not fail: the transaction has committed.
    register_xact_callback(PgXactCallbackEvent::Commit, || {
        ASKED.set(false);
        // SAFETY: a number of this process.
        let database = unsafe { pg_sys::MyDatabaseId };
        let too_soon = NOT_BEFORE.get().is_some_and(|time| Instant::now() < time);
        if settings::max_workers() == 0 || too_soon || Slot::Database(database).is_taken() {
            return;
        }
        let started = start(database, 0).is_some();
        let pause = if started { BETWEEN_STARTS } else { AFTER_REFUSAL };
        NOT_BEFORE.set(Some(Instant::now() + pause));
        if !COMPLAINED.replace(!started) && !started {
            log!("pg_clip: no background worker can be started now: rows wait. Raise \"max_worker_processes\".");
        }
    });
}

#[pg_extern(sql = false)]
fn clip_wake_worker() {
    wake();
}
