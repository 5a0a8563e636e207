//! Workers of the mode "queue": they embed rows that wait, and leave when nothing does.
//!
//! A row that waits is a row whose vector is NULL: there is no other queue, so nothing can be lost or done twice. Whoever
//! commits such a row sees to it that a worker of its database runs; with `shared_preload_libraries` a launcher visits
//! every database after a start, and then every `clip.worker_naptime`. A worker holds no transaction while it waits, works
//! in transactions of about half a second, and does what it does to a table with the rights of the table's owner.

mod column;

use std::time::{Duration, Instant};

use pgrx::bgworkers::BackgroundWorker;
use pgrx::prelude::*;

use crate::pg::settings;
use crate::worker::locks::Slot;
use crate::worker::process::{HELP, VISIT, attach_signals, nap, reload_settings, report, set_defaults, start};
use column::{Column, is_leaving, work};

/// How long a worker looks for more before it leaves.
const LINGER: Duration = Duration::from_secs(10);

/// How often it looks.
const POLL: Duration = Duration::from_millis(250);

/// How long a worker goes on while others wait for its place.
const TURN: Duration = Duration::from_secs(10);

/// Rows in one transaction: at first, and at most.
const FIRST_BATCH: i64 = 16;
const MOST_BATCH: i64 = 1024;

/// A transaction holds the locks of its rows: this long, more or less.
const TRANSACTION: Duration = Duration::from_millis(500);

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn clip_worker_main(argument: pg_sys::Datum) {
    let argument = argument.value() as u64;
    attach_signals();
    let database = pg_sys::Oid::from(argument as u32);
    BackgroundWorker::connect_worker_to_spi_by_oid(Some(database), None);
    set_defaults();
    let slot = Slot::Database(database);
    let helps = argument & HELP != 0;
    if !helps && !slot.take() {
        return;
    }
    let linger = if argument & (VISIT | HELP) != 0 { Duration::ZERO } else { LINGER };
    let mut worker = Worker { database, helps, idle_since: Instant::now(), place: None };
    loop {
        let done = worker.round();
        if done.leave || settings::max_workers() == 0 {
            return;
        }
        if done.embedded > 0 || done.retry_soon {
            worker.idle_since = Instant::now();
        }
        let idle = done.embedded == 0 && worker.idle_since.elapsed() >= linger;
        if idle && helps {
            return;
        }
        if idle {
            // Whoever commits from here on starts another worker; what was committed before is seen by the last look.
            slot.release();
            if work().is_none_or(|work| !work.columns.iter().any(Column::has_work)) || !slot.take() {
                return;
            }
            worker.idle_since = Instant::now();
        }
        if done.embedded == 0 {
            worker.give_up_place();
            nap(POLL);
        }
    }
}

struct Worker {
    database: pg_sys::Oid,
    helps: bool,
    idle_since: Instant,
    /// The slot of the server that this worker has, and since when.
    place: Option<(Slot, Instant)>,
}

#[derive(Default)]
struct Done {
    embedded: i64,
    retry_soon: bool,
    /// The extension is gone, or the database is about to be, or no worker is wanted.
    leave: bool,
}

impl Worker {
    /// Go over all columns once.
    fn round(&mut self) -> Done {
        let Some(work) = work() else { return Done { leave: true, ..Done::default() } };
        let mut done = Done { retry_soon: work.retry_soon, ..Done::default() };
        for column in work.columns.iter().filter(|column| column.has_work()) {
            if !self.take_place() {
                return Done { leave: self.helps, retry_soon: true, ..done };
            }
            match self.pass(column) {
                Some(embedded) => done.embedded += embedded,
                None => return Done { leave: true, ..done },
            }
            report(None);
        }
        done
    }

    /// Embed all rows of a column that wait. None when the worker is to leave.
    fn pass(&mut self, column: &Column) -> Option<i64> {
        report(Some(&format!("embedding {}", column.label)));
        let (mut batch, mut after, mut total, begun) = (FIRST_BATCH, None, 0, Instant::now());
        let mut called_help = self.helps;
        loop {
            let started = Instant::now();
            let filled = match column.step(batch, after.take()) {
                Ok(filled) => filled,
                // What cannot be noted would be tried again at once, and for ever.
                Err(failure) => return column.note_failure(&failure).then_some(total),
            };
            total += filled.embedded;
            if filled.last.is_none() {
                if !column.has_work() {
                    column.note_empty();
                }
                return Some(total);
            }
            after = filled.last;
            match started.elapsed() {
                time if time < TRANSACTION / 2 => batch = (batch * 2).min(MOST_BATCH),
                time if time > TRANSACTION * 2 => batch = (batch / 2).max(1),
                _ => (),
            }
            reload_settings();
            if is_leaving() || settings::max_workers() == 0 {
                return None;
            }
            if !called_help && begun.elapsed() > Duration::from_secs(1) && settings::max_workers() > 1 {
                called_help = true;
                for _ in 1..settings::max_workers() {
                    start(self.database, HELP);
                }
            }
            if self.place.is_some_and(|(_, since)| since.elapsed() > TURN) && Slot::Waiting.is_taken() {
                self.give_up_place();
                // The others look every POLL.
                nap(POLL * 4);
                if !self.take_place() {
                    return Some(total);
                }
            }
        }
    }

    /// Have a slot of the server. False where there is none for a helper, or where this worker is to look anew.
    fn take_place(&mut self) -> bool {
        if self.place.is_some() {
            return true;
        }
        let free = || (0..settings::max_workers()).map(Slot::Server).find(|slot| slot.take());
        let mut found = free();
        if found.is_none() && !self.helps {
            report(Some("waiting for one of clip.max_workers"));
            let shares = Slot::Waiting.share();
            while found.is_none() && !is_leaving() && settings::max_workers() > 0 {
                nap(POLL);
                found = free();
            }
            if shares {
                Slot::Waiting.unshare();
            }
            report(None);
        }
        self.place = found.map(|slot| (slot, Instant::now()));
        found.is_some()
    }

    fn give_up_place(&mut self) {
        if let Some((slot, _)) = self.place.take() {
            slot.release();
        }
    }
}
