//! The messages of the extension itself: SQLSTATE, message, DETAIL, HINT.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};

pub fn new(code: PgSqlErrorCode, message: impl Into<String>) -> ErrorReport {
    ErrorReport::new(code, message.into(), "pg_clip")
}

/// Raises a warning. Parallel workers stay silent, because they live for one query only: the leader raises it.
pub fn warn(report: ErrorReport) {
    // SAFETY: an integer that the server sets before any of our code runs.
    if unsafe { pg_sys::ParallelWorkerNumber } < 0 {
        report.report(PgLogLevel::WARNING);
    }
}

/// Raises a notice.
pub fn notice(report: ErrorReport) {
    report.report(PgLogLevel::NOTICE);
}

/// A bad argument of one of our functions.
pub fn invalid_argument(name: &str, value: &str, valid: &str) -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, format!("invalid {name}: \"{value}\""))
        .set_detail(format!("Valid values are {valid}."))
}

/// A value of type `vector` whose layout is not pgvector's.
pub fn damaged_vector() -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, "vector is damaged")
        .set_detail("Its size does not match its number of dimensions.")
        .set_hint("Check the source of the value. A page of the table may be damaged.")
}

/// NULL for an argument that must not be NULL.
pub fn null_argument(name: &str) -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, format!("{name} must not be null"))
}

/// NULL in an array that must not contain NULL.
pub fn null_element(array: &str) -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, format!("{array} must not contain null"))
}

/// An array with a wrong number of elements.
pub fn wrong_length(array: &str, length: usize, expected: &str) -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, format!("{array} must have {expected}"))
        .set_detail(format!("It has {length}."))
}

/// A filter that is not exactly one condition.
pub fn not_an_expression() -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_SYNTAX_ERROR, "filter must be one expression")
        .set_detail("The filter is used as a condition in a WHERE clause.")
        .set_hint("Write a condition as after WHERE: 'price < 20 AND in_stock'.")
}

/// A parameter of a filter, which has no value.
pub fn no_parameter(number: &str) -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_UNDEFINED_PARAMETER, format!("there is no parameter ${number}"))
        .set_detail("A filter has no parameters.")
        .set_hint("Write the value into the filter: format('price < %L', value).")
}

/// A row was written, and its embedding cannot be.
pub fn not_stored() -> ErrorReport {
    new(
        PgSqlErrorCode::ERRCODE_TRIGGERED_ACTION_EXCEPTION,
        "could not store an embedding: a trigger or a policy of the table prevents it",
    )
    .set_detail("The embedding is stored by an UPDATE of the row.")
    .set_hint("Add a policy FOR UPDATE, or change the trigger. Mode \"row\" needs no update.")
}

/// An embedding does not fit into its column.
pub fn other_dimensions(model: &str, length: usize, declared: usize) -> ErrorReport {
    new(
        PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
        format!("embedding has {length} dimensions, and its column has {declared}"),
    )
    .set_detail(format!("Model \"{model}\" returns embeddings with {length} dimensions."))
    .set_hint("Drop the trigger and call clip_auto_embed with a column of the model's dimensions.")
}

pub fn broken_trigger(reason: &str) -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "embedding trigger is misconfigured")
        .set_detail(format!("Function clip_auto_embed_row: {reason}."))
        .set_hint("Drop the trigger and call clip_auto_embed again.")
}

/// A notice: the sources of a column have new values.
pub fn vectors_cleared() -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, "embeddings of the column were cleared")
        .set_detail("USING computes new source values, and the embeddings belong to the old ones.")
        .set_hint("In mode \"queue\" a background worker embeds the rows. In other modes, run CALL clip_backfill.")
}

/// ALTER TABLE computes new sources, and a trigger or a rule of the table keeps the old embeddings.
pub fn not_cleared() -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION, "could not clear the embeddings of the column")
        .set_detail(
            "USING computes new source values, but a trigger or a rule of the table prevents an update of its rows.",
        )
        .set_hint("Disable the trigger during the change: ALTER TABLE name DISABLE TRIGGER trigger_name.")
}

/// An SQL call of the function of an event trigger.
pub fn not_an_event() -> ErrorReport {
    new(
        PgSqlErrorCode::ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED,
        "function \"clip_ddl\" can only be called as an event trigger",
    )
}

/// The hint of the errors about a trigger that fires after ours.
const RENAME_TRIGGER: &str =
    "Rename it, so that it sorts before the embedding trigger: ALTER TRIGGER name ON table_name RENAME TO new_name.";

/// A trigger of the table that fires after ours, on a table without the check trigger.
pub fn trigger_fires_later(later: &str) -> ErrorReport {
    new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("trigger \"{later}\" fires after the trigger that embeds the row"),
    )
    .set_detail(
        "It could change the source after its embedding is computed. Triggers fire in the order of their names.",
    )
    .set_hint(RENAME_TRIGGER)
}

/// A trigger of the table changed a source after its embedding was computed.
pub fn source_changed(ours: &str) -> ErrorReport {
    new(
        PgSqlErrorCode::ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION,
        "a trigger of the table changed a source after it was embedded",
    )
    .set_detail(format!(
        "The trigger fires after \"{ours}\", because its name sorts later, so the embedding does not match the source."
    ))
    .set_hint(RENAME_TRIGGER)
}

/// A trigger of the table changes the source whenever an embedding is stored.
pub fn source_changes() -> ErrorReport {
    new(
        PgSqlErrorCode::ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION,
        "a trigger of the table changes the source when its embedding is stored",
    )
    .set_detail("The stored source would never match the embedding.")
    .set_hint("Let the trigger fire only for the columns that it depends on: CREATE TRIGGER name BEFORE UPDATE OF column_name.")
}

/// A failed write to the extension's own tables.
pub fn broken_extension(reason: &str) -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "could not write to a table of pg_clip")
        .set_detail(format!("{reason}."))
        .set_hint("Check that nobody changed the extension's tables, and that the disk is not full.")
}

/// Only the owner of a table can clear its failures.
pub fn not_owner() -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, "must be owner of the table")
}

/// A role that may not change a table cannot embed its rows.
pub fn not_writable(label: &str) -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, format!("permission denied for table {label}")).set_detail(
        "Embedding the rows needs SELECT on the key and the source column, and UPDATE on the embedding column.",
    )
}

/// An internal statement that cannot run.
pub fn broken_statement(reason: &str) -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, "could not run a statement of pg_clip").set_detail(format!("{reason}."))
}

/// A model with the recorded name and another digest.
pub fn another_model(model: &str, recorded: &str, found: &str) -> ErrorReport {
    new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("model \"{model}\" is not the model that computed the column's embeddings"),
    )
    .set_detail(format!("The column records the digest {recorded}; the installed model has the digest {found}."))
    .set_hint("Install the former model again, or recompute the column with CALL clip_reembed.")
}

/// A procedure that commits between batches, called inside a transaction block.
pub fn in_transaction_block(what: &str, instead: &str) -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION, format!("{what} cannot run inside a transaction block"))
        .set_detail("The procedure commits after each batch.")
        .set_hint(instead)
}

/// A warning: a text was embedded with a model that no column of this database has.
pub fn text_of_another_model(model: &str, column: &str, other: &str) -> ErrorReport {
    let version = if model == other { ", another version" } else { "" };
    new(PgSqlErrorCode::ERRCODE_WARNING, format!("no column of this database has embeddings of model \"{model}\""))
        .set_detail(format!(
            "Column {column} has embeddings of model \"{other}\"{version}. Embeddings of different models cannot be compared."
        ))
        .set_hint(QUERY_OF_COLUMN)
}

/// A warning: the default model is the model of one column, and another column has another model with the same number of dimensions.
pub fn text_of_one_of_two_models(model: &str, column: &str, other: &str) -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_WARNING, format!("text embedded with the default model \"{model}\""))
        .set_detail(format!("Column {column} has embeddings of model \"{other}\" with the same number of dimensions. Comparing embeddings of different models gives meaningless results without an error."))
        .set_hint(QUERY_OF_COLUMN)
}

/// The hint of the warnings above.
const QUERY_OF_COLUMN: &str = "Embed the query with the column's model: clip_query('table', 'text'). Or name the model: clip_embed_text('text', 'model').";

/// Bytes that are not valid text in the encoding of this database.
pub fn invalid_text() -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_CHARACTER_NOT_IN_REPERTOIRE, "invalid byte sequence for encoding \"UTF8\"")
        .set_hint("The tokenizer reads UTF-8. In a database with encoding SQL_ASCII, store text as UTF-8.")
}

/// A model whose embeddings have more dimensions than pgvector's type.
pub fn too_many_dimensions(dimensions: usize, limit: usize) -> ErrorReport {
    new(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, format!("vector cannot have more than {limit} dimensions"))
        .set_detail(format!("The model computes {dimensions} dimensions."))
}
