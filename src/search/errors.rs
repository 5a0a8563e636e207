//! What searches say besides their results.

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;

use super::column::Model;
use super::pending::Pending;
use crate::error::new;

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

/// A notice: rows that a search cannot find.
pub fn pending_rows(target: &str, relation: &str, literal: &str, pending: &Pending) -> ErrorReport {
    let detail = match (pending.is_sample, pending.rows) {
        (true, _) => "A sample of the table has rows with a source and no vector: searches do not find them.".into(),
        (false, 1) => "1 row has a source and no vector: searches do not find it.".into(),
        (false, 1001..) => "More than 1000 rows have a source and no vector: searches do not find them.".into(),
        (false, rows) => format!("{rows} rows have a source and no vector: searches do not find them."),
    };
    let hint = match (pending.is_queued, target) {
        (true, _) => "A background worker fills them: the view clip_auto_embed_status shows how far it is.".into(),
        (false, "embedding") => format!("Fill them: CALL clip_backfill({literal})."),
        (false, _) => format!("Fill them: CALL clip_backfill({literal}, '{}').", target.replace('\'', "''")),
    };
    let message = format!("column \"{target}\" of table {relation} has rows without a vector");
    new(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message).set_detail(detail).set_hint(hint)
}
