//! Errors of searches.

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;

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
