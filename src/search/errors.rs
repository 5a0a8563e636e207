//! Errors of searches.

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};

use super::column::Model;
use crate::pg::messages::new;

/// A query with another model than the column's.
pub fn column_of_another_model(target: &str, relation: &str, made_by: &Model, model: &str, found: &str) -> ErrorReport {
    new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("column \"{target}\" of table {relation} has embeddings of model \"{}\"", made_by.name),
    )
    .set_detail(format!("The column records the digest {}; model \"{model}\" has the digest {found}.", made_by.digest))
    .set_hint("Search with the column's model, or change the model of the column with CALL clip_reembed.")
}

/// A warning: the result has no rows of a table, because its server does not answer.
pub fn left_out(table: &str, leaf: &str, reason: &str) -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_WARNING, format!("search of table {table} leaves out table {leaf}"))
        .set_detail(reason.to_owned())
}

/// A partial search in a query with parallel workers, during which the server cannot undo a failed attempt.
pub fn partial_in_parallel_query() -> ErrorReport {
    new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "a search with partial => true cannot be part of a parallel query",
    )
    .set_hint("Search in a statement of its own, or SET max_parallel_workers_per_gather = 0.")
}

/// Raises the error of a server that does not answer, with a hint.
pub fn partial_is_possible(code: PgSqlErrorCode, message: String, detail: Option<String>, is_partial: bool) -> ! {
    let error = new(code, message).set_hint(match is_partial {
        true => "The server answered at the start of this search. Try again.",
        false => "To search only the tables whose servers answer: partial => true.",
    });
    let error = match detail {
        Some(detail) => error.set_detail(detail),
        None => error,
    };
    Err(error).unwrap_or_report()
}
