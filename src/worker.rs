//! Workers of the mode "queue": they embed rows that wait, and leave when nothing does.
//!
//! A row that waits is a row whose vector is NULL: there is no other queue, so nothing can be lost or done twice. Whoever
//! commits such a row sees to it that a worker of its database runs; with `shared_preload_libraries` a launcher visits
//! every database after a start, and then every `clip.worker_naptime`. A worker holds no transaction while it waits, works
//! in transactions of about half a second, and does what it does to a table with the rights of the table's owner.

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, BackgroundWorkerStatus, DynamicBackgroundWorker};
use pgrx::pg_sys::panic::{CaughtError, ErrorReportable};
use pgrx::prelude::*;
use pgrx::{PgXactCallbackEvent, register_xact_callback};

use crate::encoding::Text;
use crate::error::summary;
use crate::journal;
use crate::rights::{Extension, as_role, read, required};
use crate::settings;
use crate::slot::Slot;

/// How long a worker looks for more before it leaves.
const LINGER: Duration = Duration::from_secs(10);

/// How often it looks.
const POLL: Duration = Duration::from_millis(250);

/// How long a worker goes on while others wait for its place.
const TURN: Duration = Duration::from_secs(10);

/// How long after a start another is not tried by the same session: as long as a worker needs to take its slot.
const BETWEEN_STARTS: Duration = Duration::from_millis(100);

/// The same when the server has no process to spare.
const AFTER_REFUSAL: Duration = Duration::from_secs(1);

/// Rows in one transaction: at first, and at most.
const FIRST_BATCH: i32 = 16;
const MOST_BATCH: i32 = 1024;

/// A transaction holds the locks of its rows: this long, more or less.
const TRANSACTION: Duration = Duration::from_millis(500);

/// The argument of a worker beside its database: come, look, and leave.
const VISIT: u64 = 1 << 32;
/// Help the worker that is there.
const HELP: u64 = 1 << 33;

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

fn start(database: pg_sys::Oid, how: u64) -> Option<DynamicBackgroundWorker> {
    // SAFETY: a number of this process.
    let own = unsafe { pg_sys::MyProcPid };
    builder("pg_clip worker", "clip_worker_main")
        .set_argument(Some((u64::from(database.to_u32()) | how).into()))
        .set_notify_pid(own)
        .load_dynamic()
        .ok()
}

fn builder(name: &str, function: &str) -> BackgroundWorkerBuilder {
    BackgroundWorkerBuilder::new(name).set_type(name).set_library("pg_clip").set_function(function).enable_spi_access()
}

/// Called while the server starts.
pub fn register_launcher() {
    builder("pg_clip launcher", "clip_launcher_main").set_restart_time(Some(Duration::from_secs(5))).load();
}

/// Visit every database, now and then.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn clip_launcher_main(_argument: pg_sys::Datum) {
    attach_signals();
    BackgroundWorker::connect_worker_to_spi(None, None);
    loop {
        for database in databases() {
            if settings::max_workers() == 0 || Slot::Database(database).is_taken() {
                continue;
            }
            // One at a time: each leaves at once where nothing waits. One that finds work stays, and is not waited for.
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

/// Wait, unless a signal comes first: a termination ends the process here.
fn nap(time: Duration) {
    BackgroundWorker::wait_latch(Some(time));
    reload_settings();
}

fn reload_settings() {
    // SAFETY: a flag that the handler of SIGHUP sets; files are read outside of transactions, as in any process.
    unsafe {
        if (&raw const pg_sys::ConfigReloadPending).read_volatile() != 0 {
            (&raw mut pg_sys::ConfigReloadPending).write_volatile(0);
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
    }
}

unsafe extern "C-unwind" {
    // The server's own handlers. They only set flags: pgrx's guard around them would be in the way of a signal.
    fn die(signal: i32);
    fn SignalHandlerForConfigReload(signal: i32);
}

/// Interruptible at any time, as a backend is.
fn attach_signals() {
    // SAFETY: handlers of the server for a process of the server; signals are blocked until the last call.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        {
            pg_sys::pqsignal(pg_sys::SIGTERM as i32, Some(die));
            pg_sys::pqsignal(pg_sys::SIGHUP as i32, Some(SignalHandlerForConfigReload));
        }
        #[cfg(feature = "pg18")]
        {
            pg_sys::pqsignal_be(pg_sys::SIGTERM as i32, Some(die));
            pg_sys::pqsignal_be(pg_sys::SIGHUP as i32, Some(SignalHandlerForConfigReload));
        }
        pg_sys::BackgroundWorkerUnblockSignals();
    }
}

/// What a database may set for its applications is not meant for its worker.
fn set_defaults() {
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

/// The databases that take connections, templates apart.
fn databases() -> Vec<pg_sys::Oid> {
    let mut found = Vec::new();
    // SAFETY: a scan of a shared catalog in a transaction of its own, as the launcher of autovacuum does it: without a
    // database there is no SQL. The tuples are of the catalog that the struct describes.
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
            if (*form).datallowconn && !(*form).datistemplate {
                found.push((*form).oid);
            }
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(catalog, pg_sys::AccessShareLock as i32);
        pg_sys::CommitTransactionCommand();
    }
    found
}

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
    schema: String,
    relation: pg_sys::Oid,
    trigger_name: Text,
    label: String,
    owner: pg_sys::Oid,
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
        let mut looked_again = false;
        loop {
            let started = Instant::now();
            let (embedded, last) = match column.step(batch, after.take()) {
                Ok(step) => step,
                // A name may have changed between the look into the catalogs and the work, while a lock was waited for.
                Err(failure) if failure.sqlstate.starts_with("42") && !looked_again => {
                    looked_again = true;
                    continue;
                }
                // What cannot be noted would be tried again at once, and for ever.
                Err(failure) => return column.note_failure(&failure).then_some(total),
            };
            total += embedded;
            if last.is_none() {
                if !column.has_work() {
                    column.note_empty();
                }
                return Some(total);
            }
            after = last;
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
            let mut shares = false;
            report(Some("waiting for one of clip.max_workers"));
            while found.is_none() && !is_leaving() && settings::max_workers() > 0 {
                // It fails while one who works looks at it: then again.
                shares = shares || Slot::Waiting.share();
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
        let query = format!("SELECT {}._clip_any_pending($1::pg_catalog.regclass, $2::pg_catalog.name)", self.schema);
        let arguments = || [self.relation.into(), self.trigger_name.clone().into()];
        let look = || as_role(self.owner, || read(&query, &arguments(), |row| required(row, 1)));
        matches!(in_transaction(look), Ok(Ok(Some(true))))
    }

    /// Embed a batch. Returns the number of rows, and where to go on, if there is more.
    fn step(&self, most: i32, after: Option<Text>) -> Result<(i64, Option<Text>), Failure> {
        let query = format!(
            "SELECT p.embedded, p.failed, p.last FROM {}._clip_pass($1::pg_catalog.regclass, $2::pg_catalog.name, $3, $4, pg_catalog.current_setting('search_path')) AS p",
            self.schema
        );
        in_transaction(|| {
            let arguments = [self.relation.into(), self.trigger_name.clone().into(), most.into(), after.into()];
            let step = as_role(self.owner, || Spi::get_three_with_args::<i64, i64, Text>(&query, &arguments));
            let (embedded, failed, last) = step.unwrap_or_else(|error| error!("{error}"));
            let embedded = embedded.unwrap_or(0);
            self.report("worker", embedded, failed.unwrap_or(0));
            (embedded, last)
        })
    }

    fn report(&self, kind: &str, embedded: i64, failed: i64) {
        journal::report_activity(self.relation, &self.trigger_name.0, Some(kind), None, embedded, failed)
            .unwrap_or_report();
    }

    fn note_empty(&self) {
        // Information only: if the table is gone by now, there is nothing to say.
        in_transaction(|| self.report("empty", 0, 0)).ok();
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
            let failure = journal::Failure {
                trigger_name: self.trigger_name.clone().into(),
                key: "null".into(),
                source_digest: "".into(),
                sqlstate: &failure.sqlstate,
                message: Text(failure.message.clone()).into(),
                retry: true,
            };
            journal::record_failure(self.relation, failure)
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
            "SELECT c.relation::oid, c.trigger_name::text, c.relation::text || '.' || c.target, c.owner FROM {schema}._clip_columns AS c \
             WHERE c.mode = 'queue' AND c.source IS NOT NULL AND c.key_names IS NOT NULL \
               AND NOT EXISTS (SELECT FROM pg_subscription_rel AS s WHERE s.srrelid = c.relation) \
               AND NOT EXISTS (SELECT FROM _clip.failures AS f WHERE f.relation = c.relation \
                   AND f.trigger_name = c.trigger_name AND f.key = 'null' \
                   AND f.retry_at > now() AND (f.last_failed_at <= now() OR f.retry_at = 'infinity')) ORDER BY 1, 2"
        );
        Spi::connect(|client| {
            let mut found = Vec::new();
            for row in client.select(&columns, None, &[])? {
                if let (Some(relation), Some(trigger_name), Some(Text(label)), Some(owner)) =
                    (row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)
                {
                    found.push(Column { schema: schema.into(), relation, trigger_name, label, owner });
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

/// Why a transaction was aborted.
struct Failure {
    sqlstate: String,
    message: String,
}

/// Run something in a transaction of its own. An error aborts that transaction, not the worker.
fn in_transaction<T>(run: impl FnOnce() -> T) -> Result<T, Failure> {
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
fn report(activity: Option<&str>) {
    let text = std::ffi::CString::new(activity.unwrap_or_default()).unwrap_or_default();
    let state = if activity.is_some() { pg_sys::BackendState::STATE_RUNNING } else { pg_sys::BackendState::STATE_IDLE };
    // SAFETY: the server copies the string; without one it leaves the former in place.
    unsafe { pg_sys::pgstat_report_activity(state, activity.map_or(std::ptr::null(), |_| text.as_ptr())) };
}
