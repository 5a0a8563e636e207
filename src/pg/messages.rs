//! The messages of the extension itself: SQLSTATE, message, DETAIL, HINT.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};

pub fn new(code: PgSqlErrorCode, message: impl Into<String>) -> ErrorReport {
    ErrorReport::new(code, message.into(), "pg_clip")
}

/// Say what is no failure. A parallel worker lives for one query and would say it in each: the session does.
pub fn warn(report: ErrorReport) {
    // SAFETY: an integer that the server sets before any of our code runs.
    if unsafe { pg_sys::ParallelWorkerNumber } < 0 {
        report.report(PgLogLevel::WARNING);
    }
}

/// Say something once that is no warning.
pub fn notice(report: ErrorReport) {
    report.report(PgLogLevel::NOTICE);
}

/// A bad argument of one of our functions.
pub fn invalid_argument(name: &str, value: &str, valid: &str) -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, format!("invalid {name}: \"{value}\""))
        .set_detail(format!("Valid values are {valid}."))
}

/// A value of type `vector` that pgvector has not made.
pub fn damaged_vector() -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, "vector is damaged")
        .set_detail("Its size does not fit its number of dimensions.")
        .set_hint("Check where the value comes from. A page of the table may be damaged.")
}

/// NULL where it has no meaning.
pub fn null_argument(name: &str) -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, format!("{name} must not be null"))
}

/// NULL in an array where it has no meaning.
pub fn null_element(array: &str) -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, format!("{array} must not contain null"))
}

/// An array that must have as many elements as another, or any at all.
pub fn wrong_length(array: &str, length: usize, expected: &str) -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, format!("{array} must have {expected}"))
        .set_detail(format!("It has {length}."))
}

/// A filter that is more than a condition, or none.
pub fn not_an_expression() -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_SYNTAX_ERROR, "filter must be one expression")
        .set_detail("It is put where a condition stands, in parentheses.")
        .set_hint("Write what would stand after WHERE: 'price < 20 AND in_stock'.")
}

/// A trigger that was not made by clip_auto_embed, or was changed.
pub fn broken_trigger(reason: &str) -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "trigger cannot embed")
        .set_detail(format!("Function clip_auto_embed_row: {reason}."))
        .set_hint("Drop the trigger, and let clip_auto_embed make it.")
}

/// A notice: the sources of a column are not what they were.
pub fn vectors_cleared() -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, "the vectors of the column were cleared")
        .set_detail("USING computes new values, which the vectors do not belong to.")
        .set_hint("In mode \"queue\" a background worker embeds the rows; else CALL clip_backfill.")
}

/// A call of an event trigger's function by SQL.
pub fn not_an_event() -> ErrorReport {
    new(
        PgSqlErrorCode::ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED,
        "function \"clip_ddl\" can only be called as an event trigger",
    )
}

/// A trigger of the table's that fires after ours, where nothing would look at what it does.
pub fn trigger_fires_later(later: &str) -> ErrorReport {
    new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("trigger \"{later}\" fires after the one that embeds the row"),
    )
    .set_detail(
        "It could change the source of a vector that is made already. Triggers fire in the order of their names.",
    )
    .set_hint("Rename it with ALTER TRIGGER, so that its name comes first.")
}

/// A trigger of the table's has changed a source after its vector was made.
pub fn source_changed(ours: &str) -> ErrorReport {
    new(
        PgSqlErrorCode::ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION,
        "a trigger of the table has changed a row after it was embedded",
    )
    .set_detail(format!(
        "The vector is not that of the source: the trigger fires after \"{ours}\", as its name comes later."
    ))
    .set_hint("Rename it with ALTER TRIGGER, so that its name comes first.")
}

/// The extension's own tables are not as they should be.
pub fn broken_extension(reason: &str) -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "could not write to a table of pg_clip")
        .set_detail(format!("{reason}."))
        .set_hint("Check that the extension is as it was created, and that the disk is not full.")
}

/// Only the owner of a table may forget what failed in it.
pub fn not_owner() -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, "must be owner of the table")
}

/// A role that may not change a table cannot embed its rows.
pub fn not_writable(label: &str) -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, format!("permission denied for table {label}"))
        .set_detail("Embedding its rows needs SELECT on the key and the source, and UPDATE on the vectors.")
}

/// A statement of ours that cannot run.
pub fn broken_statement(reason: &str) -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, "could not run a statement of pg_clip").set_detail(format!("{reason}."))
}

/// A model of the right name that is not the one that made a column.
pub fn another_model(model: &str, recorded: &str, found: &str) -> ErrorReport {
    new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("model \"{model}\" is not the one that made the column's vectors"),
    )
    .set_detail(format!("They were made by the model of that name with digest {recorded}; now its digest is {found}."))
    .set_hint("Add the former model again, or change the column's model: CALL clip_reembed.")
}

/// What commits as it goes cannot run where others decide when to commit.
pub fn in_transaction_block(what: &str, instead: &str) -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION, format!("{what} cannot run inside a transaction block"))
        .set_detail("It commits after each batch.")
        .set_hint(instead)
}

/// A warning: a text was embedded with a model that made no column of this database.
pub fn text_of_another_model(model: &str, column: &str, other: &str) -> ErrorReport {
    let version = if model == other { ", another version" } else { "" };
    new(PgSqlErrorCode::ERRCODE_WARNING, format!("no column of this database holds vectors of model \"{model}\""))
        .set_detail(format!(
            "Column {column} holds vectors of model \"{other}\"{version}: vectors of two models cannot be compared."
        ))
        .set_hint(QUERY_OF_COLUMN)
}

/// A warning: the default model made one column, and another model made another column of as many dimensions.
pub fn text_of_one_of_two_models(model: &str, column: &str, other: &str) -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_WARNING, format!("text embedded with the default model \"{model}\""))
        .set_detail(format!("Column {column} holds vectors of model \"{other}\", which have as many dimensions: vectors of two models cannot be compared, and no error says so."))
        .set_hint(QUERY_OF_COLUMN)
}

/// How to be sure of the model.
const QUERY_OF_COLUMN: &str = "Embed the text with the column's model: clip_query('table', 'text'). Or name the model: clip_embed_text('text', 'model').";

/// Text that is not text in the encoding of this database.
pub fn invalid_text() -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_CHARACTER_NOT_IN_REPERTOIRE, "invalid byte sequence for encoding \"UTF8\"")
        .set_hint("The tokenizer reads UTF-8; a database with encoding SQL_ASCII must hold UTF-8 text.")
}

/// A model whose vectors pgvector cannot hold.
pub fn too_many_dimensions(dimensions: usize, limit: usize) -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, format!("vector cannot have more than {limit} dimensions"))
        .set_detail(format!("The model gives {dimensions}."))
}
