//! Searches that read the tables below a table one by one, because some of them are on other servers.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::{CaughtError, ErrorReport};
use pgrx::prelude::*;

use super::errors::{left_out, partial_in_parallel_query, partial_is_possible};
use super::select::select;
use crate::pg::messages::warn;
use crate::pg::roles::with_settings;
use crate::pg::spi::Row;
use crate::pg::subtransaction::in_subtransaction;
use crate::pg::text::ServerText;

/// The arguments of a search statement: the vector; the limit, or the words of a hybrid search; the numbers of the tables whose index
/// is not used; the numbers of the tables that are left out.
pub type Arguments<'a> = [DatumWithOid<'a>; 4];

/// The tables of a search, numbered from 1.
pub struct Leaves {
    names: Vec<Option<String>>,
    /// A statement for each table that fails if its server does not answer. None for a table of this server.
    probes: Vec<Option<String>>,
    /// True if the caller accepts a result without the tables whose servers do not answer.
    is_partial: bool,
    /// The tables that are left out.
    skipped: Vec<i32>,
}

impl Leaves {
    pub fn new(
        names: Option<Vec<Option<String>>>,
        probes: Option<Vec<Option<String>>>,
        is_partial: bool,
    ) -> Option<Self> {
        let (names, probes) = names.zip(probes)?;
        Some(Self { names, probes, is_partial, skipped: Vec::new() })
    }

    /// Finds the tables whose server does not answer, and warns of each.
    pub fn leave_out(&mut self, table: &str) -> Result<(), ErrorReport> {
        if !self.is_partial {
            return Ok(());
        }
        // SAFETY: reads a variable of this process.
        if unsafe { pg_sys::IsInParallelMode() } {
            return Err(partial_in_parallel_query());
        }
        for (number, (name, probe)) in (1..).zip(self.names.iter().zip(&self.probes)) {
            let Some(probe) = probe else { continue };
            match in_subtransaction(|| select(probe.as_bytes(), &[], |_| Ok(()))) {
                Ok(answer) => drop(answer?),
                Err(error) => match Failure::of(&error) {
                    Some(failure) => {
                        warn(left_out(table, name.as_deref().unwrap_or_default(), &failure.reason()));
                        self.skipped.push(number);
                    }
                    None => error.rethrow(),
                },
            }
        }
        Ok(())
    }

    /// Runs a statement whose last column is an array of the tables whose index may have omitted rows, and once more without the
    /// indexes of these tables.
    pub fn select<T>(
        &self,
        statement: &ServerText,
        arguments: &mut Arguments<'_>,
        read: &impl Fn(&Row<'_>) -> spi::SpiResult<T>,
    ) -> Result<Vec<T>, ErrorReport> {
        let mut run = |exact: Option<Vec<i32>>| {
            arguments[2] = exact.into();
            arguments[3] = self.skipped.clone().into();
            let read = |row: &Row<'_>| Ok((row.get::<Vec<i32>>(row.columns())?, read(row)?));
            // The server of a foreign table sorts its rows, so that only the nearest rows cross the network.
            let run = || with_settings(&[(c"enable_sort", c"off")], || select(statement.bytes(), arguments, read));
            self.explaining(run)
        };
        let found = run(Some(Vec::new()))?;
        // Without a row, no index may have found any.
        let short = found.first().map_or(Some(None), |(short, _)| short.clone().map(Some));
        let found = match short {
            Some(short) => run(short)?,
            None => found,
        };
        Ok(found.into_iter().map(|(_, row)| row).collect())
    }

    /// Adds a hint to an error of a server that does not answer.
    fn explaining<T>(&self, run: impl FnOnce() -> T) -> T {
        let run = std::panic::AssertUnwindSafe(run);
        PgTryBuilder::new(move || { run }.0())
            .catch_others(|error| match Failure::of(&error) {
                Some(failure) => partial_is_possible(failure.code, failure.message, failure.detail, self.is_partial),
                None => error.rethrow(),
            })
            .execute()
    }
}

/// The error of a server that does not answer.
struct Failure {
    code: PgSqlErrorCode,
    message: String,
    detail: Option<String>,
}

impl Failure {
    /// Returns None for any other error.
    fn of(error: &CaughtError) -> Option<Self> {
        use PgSqlErrorCode::*;
        let (CaughtError::PostgresError(report) | CaughtError::ErrorReport(report)) = error else { return None };
        let code = report.sql_error_code();
        matches!(
            code,
            ERRCODE_CONNECTION_EXCEPTION
                | ERRCODE_CONNECTION_DOES_NOT_EXIST
                | ERRCODE_CONNECTION_FAILURE
                | ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION
                | ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION
                | ERRCODE_ADMIN_SHUTDOWN
                | ERRCODE_CRASH_SHUTDOWN
                | ERRCODE_CANNOT_CONNECT_NOW
        )
        .then(|| Self {
            code,
            message: report.message().trim_end().into(),
            detail: report.detail().map(|detail| detail.trim_end().into()),
        })
    }

    /// The whole error in one text. Only the detail says whether the server is down or rejects the user.
    fn reason(&self) -> String {
        [Some(self.message.as_str()), self.detail.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(": ")
    }
}
