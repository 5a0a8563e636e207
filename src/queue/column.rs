//! Columns in mode "queue", which workers embed.

use std::ffi::CStr;
use std::time::Duration;

use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::prelude::*;

use crate::auto_embed::{Filled, Filling, Position, fill_next, fire_triggers_at_once};
use crate::citus;
use crate::failures::{self, Activity, Failure, add_activity};
use crate::pg::roles::{Extension, as_role, with_fixed_output, with_settings, without_forced_policies};
use crate::pg::spi::{read, required};
use crate::pg::text::Text;
use crate::worker::process::{TransactionError, in_bounded_transaction};

/// Far more than a batch takes, whose size the worker adapts to half a second. The first one also loads the model.
const BATCH_LIMIT: Duration = Duration::from_secs(300);

/// Far more than any other transaction of a worker takes.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// The pending rows of a column, as far as a worker can see.
pub enum Pending {
    Some,
    None,
    /// Another session has locked the table, for example to create an index.
    Locked,
}

/// A column of this database in mode "queue".
#[derive(Clone)]
pub struct QueueColumn {
    relation: pg_sys::Oid,
    trigger_name: Text,
    pub label: String,
}

/// The columns to embed in this database.
pub struct Work {
    pub columns: Vec<QueueColumn>,
    /// True if a failure is due for a retry before this worker would exit.
    pub retry_soon: bool,
}

impl QueueColumn {
    /// Looks for a pending row. Functions of the table's owner may run meanwhile, for example those of an index.
    pub fn pending(&self) -> Result<Pending, TransactionError> {
        in_bounded_transaction(LOOK_LIMIT, || {
            if !self.lock() {
                return Pending::Locked;
            }
            let Some(filling) = self.find() else { return Pending::None };
            let ask =
                || with_settings(&[(c"enable_seqscan", c"off"), (c"jit", c"off")], || filling.ask(&filling.any_row));
            let found = as_role(filling.owner, || without_forced_policies(|| with_fixed_output(ask)));
            if found.unwrap_or_report() { Pending::Some } else { Pending::None }
        })
    }

    /// Embeds a batch.
    pub fn step(&self, limit: i64, after: Option<Position>) -> Result<Filled, TransactionError> {
        in_bounded_transaction(BATCH_LIMIT, || {
            if !self.lock() {
                return Filled::default();
            }
            let Some(filling) = self.find() else { return Filled::default() };
            // A trigger that fires at the commit would run as the role of this process.
            fire_triggers_at_once().unwrap_or_report();
            let filled = as_role(filling.owner, || without_forced_policies(|| fill_next(&filling, limit, after)));
            let filled = filled.unwrap_or_report();
            add_activity(self.relation, &self.trigger_name, Activity::Worker, None, filled.embedded, filled.failed)
                .unwrap_or_report();
            filled
        })
    }

    /// Locks the relations of the extension that a batch uses, and then the table, against changes of their definitions. Returns
    /// false if another session holds a lock that prevents writing. `DROP EXTENSION` locks them in the same order: if a worker
    /// waited for the extension with the table locked, both would wait for each other.
    fn lock(&self) -> bool {
        let is_locked = |relation| {
            // SAFETY: does not wait. The transaction holds the lock until its end.
            unsafe { pg_sys::ConditionalLockRelationOid(relation, pg_sys::RowExclusiveLock as i32) }
        };
        // SAFETY: looks up names, and returns zero for a name that does not exist.
        let of_extension = |name: &CStr| unsafe {
            pg_sys::get_relname_relid(name.as_ptr(), pg_sys::get_namespace_oid(c"_clip".as_ptr(), true))
        };
        let relations = [c"columns", c"failed", c"failures", c"activity"].map(of_extension);
        relations.into_iter().all(|relation| relation != pg_sys::InvalidOid && is_locked(relation))
            && is_locked(self.relation)
    }

    /// Returns the column. None if it does not exist.
    fn find(&self) -> Option<Filling> {
        Filling::find(self.relation, &self.trigger_name).unwrap_or_report()
    }

    /// Records that no row of the column is pending.
    pub fn record_empty(&self) {
        let record = || {
            if self.lock() && self.find().is_some() {
                add_activity(self.relation, &self.trigger_name, Activity::FoundEmpty, None, 0, 0).unwrap_or_report();
            }
        };
        // Information only, so an error is ignored: the table may have been dropped.
        in_bounded_transaction(LOOK_LIMIT, record).ok();
    }

    /// Records a failure of the whole column, so that workers skip it for a while. Returns false if that failed, too.
    pub fn record_failure(&self, error: &TransactionError) -> bool {
        log!("pg_clip: could not embed {}: {}", self.label, error.message);
        let exists = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.oid OPERATOR(pg_catalog.=) $1)";
        let recorded = in_bounded_transaction(LOOK_LIMIT, || {
            // The table may have been dropped.
            if read(exists, &[self.relation.into()], |row| required(row, 1)) == Ok(Some(false)) {
                return Ok(());
            }
            let failure = Failure {
                trigger_name: self.trigger_name.clone().into(),
                key: "null".into(),
                source_digest: "",
                sqlstate: &error.sqlstate,
                message: &error.message,
                retry: true,
            };
            failures::record(self.relation, failure)
        });
        let recorded = matches!(recorded, Ok(Ok(())));
        if !recorded {
            log!("pg_clip: could not record the failure of {}", self.label);
        }
        recorded
    }
}

/// Returns the columns in mode "queue" to embed now. None if the database has no extension, or is about to be dropped.
pub fn work() -> Option<Work> {
    let look = |schema: &str| {
        // A node of Citus embeds its own shards.
        let embeds =
            if citus::is_loaded() { format!(" AND {schema}._clip_citus_embeds(c.relation)") } else { String::new() };
        let failures = "SELECT EXISTS (SELECT FROM _clip.failures \
            WHERE retry_at > now() AND retry_at < now() + interval '15 seconds')";
        // Rows of a subscription are embedded by the publisher.
        let columns = format!(
            "SELECT c.relation::oid, c.trigger_name::text, c.relation::text || '.' || c.target FROM _clip.columns AS c \
             WHERE c.mode = 'queue' AND c.source IS NOT NULL AND c.key_names IS NOT NULL \
               AND NOT EXISTS (SELECT FROM pg_subscription_rel AS s WHERE s.srrelid = c.relation) \
               AND NOT EXISTS (SELECT FROM _clip.failures AS f WHERE f.relation = c.relation \
                   AND f.trigger_name = c.trigger_name AND f.key = 'null' \
                   AND f.retry_at > now() AND (f.last_failed_at <= now() OR f.retry_at = 'infinity')){embeds} ORDER BY 1, 2"
        );
        Spi::connect(|client| {
            let mut found = Vec::new();
            for row in client.select(&columns, None, &[])? {
                if let (Some(relation), Some(trigger_name), Some(Text(label))) = (row.get(1)?, row.get(2)?, row.get(3)?)
                {
                    found.push(QueueColumn { relation, trigger_name, label });
                }
            }
            let retry_soon = client.select(failures, Some(1), &[])?.first().get_one()?.unwrap_or(false);
            Ok::<_, spi::Error>(Work { columns: found, retry_soon })
        })
    };
    let found = in_bounded_transaction(LOOK_LIMIT, || Extension::find().map(|extension| extension.as_owner(look)));
    let work = match found {
        Ok(work) => work?,
        Err(error) => {
            log!("pg_clip: could not read the managed columns: {}", error.message);
            return None;
        }
    };
    work.ok().filter(|_| !is_leaving())
}

/// Returns true if a session waits to drop, rename or copy this database, which needs all other sessions to end.
pub fn is_leaving() -> bool {
    let query = "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks AS l JOIN pg_catalog.pg_database AS d \
        ON d.oid OPERATOR(pg_catalog.=) l.objid AND d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database() \
        WHERE l.locktype OPERATOR(pg_catalog.=) 'object' \
          AND l.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_database'::pg_catalog.regclass::pg_catalog.oid \
          AND l.mode OPERATOR(pg_catalog.=) ANY ('{ShareLock,ShareRowExclusiveLock,ExclusiveLock,AccessExclusiveLock}'::pg_catalog.text[]))";
    !matches!(
        in_bounded_transaction(LOOK_LIMIT, || read(query, &[], |row| required::<bool>(row, 1))),
        Ok(Ok(Some(false)))
    )
}
