//! Workers of mode "queue". They embed pending rows, and exit when no row is pending.
//!
//! The table itself is the queue: a row is pending while its embedding is NULL. So no work can be lost or repeated. A session that
//! commits a pending row starts a worker for its database. With `shared_preload_libraries`, a launcher checks every database after a
//! start of the server, and then every `clip.worker_naptime`. A worker is in no transaction while it waits, works in transactions
//! of about half a second, and writes to a table with the privileges of the table's owner.

mod column;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pgrx::bgworkers::BackgroundWorker;
use pgrx::prelude::*;

use crate::citus;
use crate::pg::settings;
use crate::worker::locks::{WorkerLock, is_lock_lost};
use crate::worker::process::{
    HELP, TransactionError, VISIT, attach_signals, nap, nap_for, reload_settings, report_activity, set_defaults, start,
};
use column::{Pending, QueueColumn, is_leaving, work};

/// Time for which an idle worker checks for pending rows before it exits.
const LINGER: Duration = Duration::from_secs(10);

/// Interval between two checks.
const POLL: Duration = Duration::from_millis(250);

/// Time for which a worker keeps its worker slot while other workers wait for one, and for which it embeds one column while others
/// have pending rows.
const TURN: Duration = Duration::from_secs(10);

/// Time for which a worker skips a column whose failure it could not record.
const AVOIDED: Duration = Duration::from_secs(60);

/// Rows in the first transaction of a pass, and maximum number of rows in one transaction.
const FIRST_BATCH: i64 = 16;
const MAX_BATCH: i64 = 1024;

/// Target duration of a transaction, because it holds the locks of its rows.
const TRANSACTION: Duration = Duration::from_millis(500);

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn clip_worker_main(argument: pg_sys::Datum) {
    let argument = argument.value() as u64;
    attach_signals();
    let database = pg_sys::Oid::from(argument as u32);
    BackgroundWorker::connect_worker_to_spi_by_oid(Some(database), None);
    set_defaults();
    citus::show_shards();
    let database_lock = WorkerLock::Database(database);
    let helps = argument & HELP != 0;
    if !helps && !database_lock.take() {
        return;
    }
    let linger = if argument & (VISIT | HELP) != 0 { Duration::ZERO } else { LINGER };
    let mut worker = Worker { database, helps, idle_since: Instant::now(), slot: None, avoided: HashMap::new() };
    loop {
        let round = worker.round();
        if round.exit || settings::max_workers() == 0 || is_lock_lost() {
            return;
        }
        if round.embedded > 0 || round.retry_soon {
            worker.idle_since = Instant::now();
        }
        let idle = round.embedded == 0 && worker.idle_since.elapsed() >= linger;
        if idle && helps {
            return;
        }
        if idle {
            // Sessions that commit from now on start another worker. The last check sees rows that were committed before.
            database_lock.release();
            let is_pending = |column: &QueueColumn| matches!(column.pending(), Ok(Pending::Some));
            if work().is_none_or(|work| !work.columns.iter().any(is_pending)) || !database_lock.take() {
                return;
            }
            worker.idle_since = Instant::now();
        }
        if round.embedded == 0 {
            worker.release_slot();
            nap(POLL);
        }
    }
}

struct Worker {
    database: pg_sys::Oid,
    helps: bool,
    idle_since: Instant,
    /// The worker slot of this worker, and the time since it has the slot.
    slot: Option<(WorkerLock, Instant)>,
    /// Columns that fail and whose failure could not be recorded, with the time of the failure.
    avoided: HashMap<String, Instant>,
}

#[derive(Default)]
struct RoundResult {
    embedded: i64,
    retry_soon: bool,
    /// True if the worker must exit: the extension or the database is being dropped, or workers are disabled.
    exit: bool,
}

impl Worker {
    /// Embeds the pending rows of all columns once.
    fn round(&mut self) -> RoundResult {
        let Some(work) = work() else { return RoundResult { exit: true, ..RoundResult::default() } };
        let mut result = RoundResult { retry_soon: work.retry_soon, ..RoundResult::default() };
        self.avoided.retain(|_, since| since.elapsed() < AVOIDED);
        let turn = if work.columns.len() > 1 { TURN } else { Duration::MAX };
        // Another process begins with another column, so that a column that ends the process does not stop those after it.
        let (before, after) = work.columns.split_at(std::process::id() as usize % work.columns.len().max(1));
        for column in after.iter().chain(before) {
            if self.avoided.contains_key(&column.label) {
                continue;
            }
            match column.pending() {
                Ok(Pending::Some) => (),
                Ok(Pending::None) => continue,
                Ok(Pending::Locked) => {
                    result.retry_soon = true;
                    continue;
                }
                Err(error) => {
                    self.record_failure(column, &error);
                    continue;
                }
            }
            if !self.acquire_slot() {
                return RoundResult { exit: self.helps, retry_soon: true, ..result };
            }
            match self.pass(column, turn) {
                Some(embedded) => result.embedded += embedded,
                None => return RoundResult { exit: true, ..result },
            }
            report_activity(None);
        }
        result
    }

    /// Records a failure of a whole column. If that fails too, the worker skips the column for a while: otherwise it would retry at
    /// once, forever.
    fn record_failure(&mut self, column: &QueueColumn, error: &TransactionError) {
        if !column.record_failure(error) {
            self.avoided.insert(column.label.clone(), Instant::now());
        }
    }

    /// Embeds the pending rows of a column, for some time. Returns None if the worker must exit.
    fn pass(&mut self, column: &QueueColumn, turn: Duration) -> Option<i64> {
        report_activity(Some(&format!("embedding {}", column.label)));
        let (mut batch, mut after, mut total, begun) = (FIRST_BATCH, None, 0, Instant::now());
        let mut called_help = self.helps;
        loop {
            let started = Instant::now();
            let filled = match column.step(batch, after.take()) {
                Ok(filled) => filled,
                Err(error) => {
                    self.record_failure(column, &error);
                    return Some(total);
                }
            };
            total += filled.embedded;
            if filled.last.is_none() {
                if matches!(column.pending(), Ok(Pending::None)) {
                    column.record_empty();
                }
                return Some(total);
            }
            after = filled.last;
            match started.elapsed() {
                time if time < TRANSACTION / 2 => batch = (batch * 2).min(MAX_BATCH),
                time if time > TRANSACTION * 2 => batch = (batch / 2).max(1),
                _ => (),
            }
            reload_settings();
            if is_leaving() || settings::max_workers() == 0 || is_lock_lost() {
                return None;
            }
            if begun.elapsed() > turn || self.has_surplus_slot() {
                return Some(total);
            }
            if !called_help && begun.elapsed() > Duration::from_secs(1) && settings::max_workers() > 1 {
                called_help = true;
                for _ in 1..settings::max_workers() {
                    start(self.database, HELP);
                }
            }
            if self.slot.is_some_and(|(_, since)| since.elapsed() > TURN) && WorkerLock::Waiting.is_taken() {
                self.release_slot();
                // The other workers check every POLL.
                nap_for(POLL * 4);
                if !self.acquire_slot() {
                    return Some(total);
                }
            }
        }
    }

    /// Acquires one of the `clip.max_workers` worker slots. The primary worker of a database waits for a free slot; a helper does
    /// not wait. Returns false if no slot was acquired; then the worker checks its database again.
    fn acquire_slot(&mut self) -> bool {
        if self.has_surplus_slot() {
            self.release_slot();
        }
        if self.slot.is_some() {
            return true;
        }
        let free = || (0..settings::max_workers()).map(WorkerLock::Slot).find(|slot| slot.take());
        let mut found = free();
        if found.is_none() && !self.helps {
            report_activity(Some("waiting for one of clip.max_workers"));
            let shares = WorkerLock::Waiting.share();
            while found.is_none() && !is_leaving() && settings::max_workers() > 0 {
                nap(POLL);
                found = free();
            }
            if shares {
                WorkerLock::Waiting.unshare();
            }
            report_activity(None);
        }
        self.slot = found.map(|slot| (slot, Instant::now()));
        found.is_some()
    }

    /// Returns true if `clip.max_workers` was lowered below the number of this worker's slot.
    fn has_surplus_slot(&self) -> bool {
        self.slot.is_some_and(|(slot, _)| slot.is_beyond(settings::max_workers()))
    }

    fn release_slot(&mut self) {
        if let Some((slot, _)) = self.slot.take() {
            slot.release();
        }
    }
}
