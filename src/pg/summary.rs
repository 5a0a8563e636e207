//! The SQLSTATE and the text of an error that is recorded instead of raised.

use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::{CaughtError, ErrorReport};
use pgrx::{PgLogLevel, PgSqlErrorCode, PgTryBuilder, pg_sys};

/// SQLSTATE, and message with detail, of a failure that is noted instead of raised.
pub fn summary_of(report: ErrorReport) -> (String, String) {
    // Only a report that is raised tells its SQLSTATE. This one is caught at once.
    PgTryBuilder::new(AssertUnwindSafe(|| {
        report.report(PgLogLevel::ERROR);
        (String::new(), String::new())
    }))
    .catch_others(|error| match error {
        CaughtError::PostgresError(raised)
        | CaughtError::ErrorReport(raised)
        | CaughtError::RustPanic { ereport: raised, .. } => {
            summary(raised.sql_error_code(), raised.message(), raised.detail())
        }
    })
    .execute()
}

/// SQLSTATE and message, to be kept for others to read: with the detail where it is about the row. What it says of the
/// server may be for superusers, and what others say of a row may repeat it.
pub fn summary(code: PgSqlErrorCode, message: &str, detail: Option<&str>) -> (String, String) {
    // SAFETY: the function writes into a buffer of its own; SQLSTATEs are five ASCII characters.
    let sqlstate = unsafe { std::ffi::CStr::from_ptr(pg_sys::unpack_sql_state(code as i32)) };
    let sqlstate = sqlstate.to_string_lossy().into_owned();
    let message = match detail.filter(|_| is_of_the_row(&sqlstate)) {
        Some(detail) => format!("{message}: {detail}"),
        None => message.to_owned(),
    };
    // pgrx puts this where Postgres' own text is not UTF-8, and no other encoding has it.
    (sqlstate, message.replace(char::REPLACEMENT_CHARACTER, "?"))
}

/// Whether it is the row that cannot be embedded, so that it fails again until it is changed. Memory or a model that are
/// not there may be there the next time.
pub fn is_of_the_row(sqlstate: &str) -> bool {
    matches!(sqlstate, "09000" | "22021" | "22P03" | "38000" | "54000")
}
