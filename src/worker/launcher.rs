//! The launcher, which checks every database at intervals.

use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerStatus};
use pgrx::prelude::*;

use super::locks::WorkerLock;
use super::process::{VISIT, attach_signals, builder, nap, start};
use crate::pg::settings;

/// Registers the launcher while the server starts.
pub fn register_launcher() {
    builder("pg_clip launcher", "clip_launcher_main").set_restart_time(Some(Duration::from_secs(5))).load();
}

/// Starts a worker in every database, every `clip.worker_naptime`.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn clip_launcher_main(_argument: pg_sys::Datum) {
    attach_signals();
    BackgroundWorker::connect_worker_to_spi(None, None);
    loop {
        for database in databases() {
            if settings::max_workers() == 0 || WorkerLock::Database(database).is_taken() {
                continue;
            }
            // One database at a time. A worker exits at once if no row is pending. If it finds pending rows, the launcher continues
            // after two seconds.
            let Some(visitor) = start(database, VISIT) else { break };
            let begun = Instant::now();
            while !matches!(visitor.pid(), Err(BackgroundWorkerStatus::Stopped))
                && begun.elapsed() < Duration::from_secs(2)
            {
                nap(Duration::from_millis(10));
            }
        }
        nap(settings::worker_naptime());
    }
}

/// The mark of a database whose DROP DATABASE was interrupted (`DATCONNLIMIT_INVALID_DB`). It accepts no connections.
const INVALID_DATABASE: i32 = -2;

/// Returns the databases that accept connections, except templates.
fn databases() -> Vec<pg_sys::Oid> {
    let mut found = Vec::new();
    // SAFETY: scans a shared catalog in a transaction of its own, as the autovacuum launcher does, because a process without
    // a database cannot run SQL. The struct describes the tuples of this catalog.
    unsafe {
        pg_sys::StartTransactionCommand();
        pg_sys::GetTransactionSnapshot();
        let catalog = pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock as i32);
        let scan = pg_sys::systable_beginscan(
            catalog,
            pg_sys::InvalidOid,
            false,
            std::ptr::null_mut(),
            0,
            std::ptr::null_mut(),
        );
        while let Some(tuple) = pg_sys::systable_getnext(scan).as_ref() {
            let form = pg_sys::GETSTRUCT(std::ptr::from_ref(tuple).cast_mut()).cast::<pg_sys::FormData_pg_database>();
            let is_valid = (*form).datconnlimit != INVALID_DATABASE;
            if is_valid && (*form).datallowconn && !(*form).datistemplate {
                found.push((*form).oid);
            }
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(catalog, pg_sys::AccessShareLock as i32);
        pg_sys::CommitTransactionCommand();
    }
    found
}
