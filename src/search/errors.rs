//! Errors of searches.

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;

use super::column::Model;
use crate::pg::messages::new;

/// A query that would be embedded with another model than the column.
pub fn column_of_another_model(target: &str, relation: &str, made_by: &Model, model: &str, found: &str) -> ErrorReport {
    new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("column \"{target}\" of table {relation} holds vectors of model \"{}\"", made_by.name),
    )
    .set_detail(format!(
        "They were made by a model with digest {}; that of model \"{model}\" is {found}.",
        made_by.digest
    ))
    .set_hint("Vectors of two models cannot be compared. CALL clip_reembed changes the model of a column.")
}
