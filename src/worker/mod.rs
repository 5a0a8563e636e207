//! Workers of the mode "queue": they embed rows that wait, and leave when nothing does.
//!
//! A row that waits is a row whose vector is NULL: there is no other queue, so nothing can be lost or done twice. Whoever
//! commits such a row sees to it that a worker of its database runs; with `shared_preload_libraries` a launcher visits
//! every database after a start, and then every `clip.worker_naptime`. A worker holds no transaction while it waits, works
//! in transactions of about half a second, and does what it does to a table with the rights of the table's owner.

mod launcher;
mod locks;
mod process;
mod wake;

use std::time::{Duration, Instant};

use pgrx::bgworkers::BackgroundWorker;
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::prelude::*;

use crate::auto_embed::{Filled, Filling, Position, fill_next};
use crate::encoding::Text;
use crate::failures::{self, Activity, add_activity};
use crate::rights::{Extension, as_role, read, required, with_fixed_output, with_settings, without_forced_policies};
use crate::settings;

use locks::Slot;
use process::{
    Failure, HELP, VISIT, attach_signals, in_transaction, nap, reload_settings, report, set_defaults, start,
};

pub use launcher::register_launcher;
pub use wake::wake;

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

/// A column of this database in mode "queue".
#[derive(Clone)]
struct Column {
    relation: pg_sys::Oid,
    trigger_name: Text,
    label: String,
}

/// What is to be done in this database.
struct Work {
    columns: Vec<Column>,
    /// Something failed that is to be tried again before this worker would leave.
    retry_soon: bool,
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

impl Column {
    fn has_work(&self) -> bool {
        let look = || {
            let Some(filling) = self.filling() else { return false };
            let ask =
                || with_settings(&[(c"enable_seqscan", c"off"), (c"jit", c"off")], || filling.ask(&filling.any_row));
            as_role(filling.owner, || without_forced_policies(|| with_fixed_output(ask))).unwrap_or_report()
        };
        matches!(in_transaction(look), Ok(true))
    }

    /// Embed a batch.
    fn step(&self, limit: i64, after: Option<Position>) -> Result<Filled, Failure> {
        in_transaction(|| {
            let Some(filling) = self.filling() else { return Filled::default() };
            let filled = as_role(filling.owner, || without_forced_policies(|| fill_next(&filling, limit, after)));
            let filled = filled.unwrap_or_report();
            add_activity(self.relation, &self.trigger_name, Activity::Worker, None, filled.embedded, filled.failed)
                .unwrap_or_report();
            filled
        })
    }

    /// The column as it is now; it stays so until the transaction ends. None if it is gone.
    fn filling(&self) -> Option<Filling> {
        // SAFETY: waits for the lock, which the transaction holds until it ends.
        unsafe { pg_sys::LockRelationOid(self.relation, pg_sys::RowExclusiveLock as i32) };
        Filling::find(self.relation, &self.trigger_name).unwrap_or_report()
    }

    fn note_empty(&self) {
        let note = || {
            if self.filling().is_some() {
                add_activity(self.relation, &self.trigger_name, Activity::FoundEmpty, None, 0, 0).unwrap_or_report();
            }
        };
        // Information only: if the table is gone by now, there is nothing to say.
        in_transaction(note).ok();
    }

    /// The whole column failed: note why, so that it is left alone for a while. False if that failed too.
    fn note_failure(&self, failure: &Failure) -> bool {
        log!("pg_clip: could not embed {}: {}", self.label, failure.message);
        let exists = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.oid OPERATOR(pg_catalog.=) $1)";
        let noted = in_transaction(|| {
            // Of a table that is gone there is nothing to note.
            if read(exists, &[self.relation.into()], |row| required(row, 1)) == Ok(Some(false)) {
                return Ok(());
            }
            let failure = failures::Failure {
                trigger_name: self.trigger_name.clone().into(),
                key: "null".into(),
                source_digest: "",
                sqlstate: &failure.sqlstate,
                message: &failure.message,
                retry: true,
            };
            failures::record(self.relation, failure)
        });
        let noted = matches!(noted, Ok(Ok(())));
        if !noted {
            log!("pg_clip: could not note that {} failed", self.label);
        }
        noted
    }
}

/// The columns in mode "queue" that may be worked on now. None where the extension is not, or is about to go.
fn work() -> Option<Work> {
    let look = |schema: &str| {
        let failures = "SELECT EXISTS (SELECT FROM _clip.failures \
            WHERE retry_at > now() AND retry_at < now() + interval '15 seconds')";
        // A subscriber's rows are embedded where they come from.
        let columns = format!(
            "SELECT c.relation::oid, c.trigger_name::text, c.relation::text || '.' || c.target FROM {schema}._clip_columns AS c \
             WHERE c.mode = 'queue' AND c.source IS NOT NULL AND c.key_names IS NOT NULL \
               AND NOT EXISTS (SELECT FROM pg_subscription_rel AS s WHERE s.srrelid = c.relation) \
               AND NOT EXISTS (SELECT FROM _clip.failures AS f WHERE f.relation = c.relation \
                   AND f.trigger_name = c.trigger_name AND f.key = 'null' \
                   AND f.retry_at > now() AND (f.last_failed_at <= now() OR f.retry_at = 'infinity')) ORDER BY 1, 2"
        );
        Spi::connect(|client| {
            let mut found = Vec::new();
            for row in client.select(&columns, None, &[])? {
                if let (Some(relation), Some(trigger_name), Some(Text(label))) = (row.get(1)?, row.get(2)?, row.get(3)?)
                {
                    found.push(Column { relation, trigger_name, label });
                }
            }
            let retry_soon = client.select(failures, Some(1), &[])?.first().get_one()?.unwrap_or(false);
            Ok::<_, spi::Error>(Work { columns: found, retry_soon })
        })
    };
    let work = in_transaction(|| Some(Extension::find()?.as_owner(look)));
    work.ok().flatten().and_then(Result::ok).filter(|_| !is_leaving())
}

/// Whether somebody waits to drop, rename or copy this database: that needs all others to be gone.
fn is_leaving() -> bool {
    let query = "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks AS l JOIN pg_catalog.pg_database AS d \
        ON d.oid OPERATOR(pg_catalog.=) l.objid AND d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database() \
        WHERE l.locktype OPERATOR(pg_catalog.=) 'object' \
          AND l.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_database'::pg_catalog.regclass::pg_catalog.oid \
          AND l.mode OPERATOR(pg_catalog.=) ANY ('{ShareLock,ShareRowExclusiveLock,ExclusiveLock,AccessExclusiveLock}'::pg_catalog.text[]))";
    !matches!(in_transaction(|| read(query, &[], |row| required::<bool>(row, 1))), Ok(Ok(Some(false))))
}
