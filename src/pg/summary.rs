//! SQLSTATE and text of an error that is recorded instead of raised.

use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::{CaughtError, ErrorReport, ErrorReportWithLevel};
use pgrx::{PgLogLevel, PgTryBuilder, pg_sys};

/// Returns the SQLSTATE and the text of a report that is recorded instead of raised.
pub fn summary_of(report: ErrorReport) -> (String, String) {
    // pgrx gives access to the SQLSTATE only after the report is raised. It is caught at once.
    PgTryBuilder::new(AssertUnwindSafe(|| {
        report.report(PgLogLevel::ERROR);
        (String::new(), String::new())
    }))
    .catch_others(|error| summary_of_caught(&error))
    .execute()
}

/// Returns SQLSTATE and message to store in `clip_failures`. The DETAIL is included only for errors about the row. Other details
/// may show server paths, and errors raised by other code may quote the row's data.
pub fn summary_of_caught(error: &CaughtError) -> (String, String) {
    let raised = raised(error);
    // SAFETY: the function writes into a buffer of its own; SQLSTATEs are five ASCII characters.
    let sqlstate = unsafe { std::ffi::CStr::from_ptr(pg_sys::unpack_sql_state(raised.sql_error_code() as i32)) };
    let (sqlstate, message) = (sqlstate.to_string_lossy().into_owned(), raised.message());
    let message = match raised.detail().filter(|_| is_of_the_row(&sqlstate)) {
        Some(detail) => format!("{message}: {detail}"),
        None => message.to_owned(),
    };
    // pgrx replaces text of Postgres that is not UTF-8 by this character, which other encodings do not have.
    (sqlstate, message.replace(char::REPLACEMENT_CHARACTER, "?"))
}

/// The report of an error, wherever it was raised.
pub fn raised(error: &CaughtError) -> &ErrorReportWithLevel {
    match error {
        CaughtError::PostgresError(raised)
        | CaughtError::ErrorReport(raised)
        | CaughtError::RustPanic { ereport: raised, .. } => raised,
    }
}

/// Returns true if the cause is the row itself, so that it fails again until the row changes. Missing memory or a missing model
/// may be available at the next attempt.
pub fn is_of_the_row(sqlstate: &str) -> bool {
    matches!(sqlstate, "09000" | "22021" | "22P03" | "38000" | "54000")
}

/// Returns true if an error that a trigger or a constraint raises may be about one row, so that other rows can be stored.
/// Otherwise it is about the whole table or the server: locks, conflicts, privileges, resources, interrupts. A code that a user has
/// invented is XX000 here.
pub fn may_be_of_one_row(sqlstate: &str) -> bool {
    !matches!(&sqlstate[..2], "08" | "25" | "28" | "40" | "42" | "53" | "55" | "57" | "58" | "F0" | "HV")
}
