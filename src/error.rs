//! Failures of `clip`, told as Postgres tells them: SQLSTATE, message, DETAIL, HINT.
//!
//! Messages never repeat the user's text or bytes, and paths only where the role may read the setting anyway.

use std::panic::AssertUnwindSafe;

use clip::{Error, MANIFEST_FILE};
use pgrx::pg_sys::panic::{CaughtError, ErrorReport};
use pgrx::{PgLogLevel, PgSqlErrorCode, PgTryBuilder, pg_sys};

use crate::settings;

/// How to put a model in place, wherever one is missing or broken.
const ADD_MODEL: &str = "On the server, \"pgclip pull NAME\" or \"pgclip add NAME DIR\" adds a model.";

/// Explain a failure. One exhaustive match: a new variant does not compile until someone chooses its SQLSTATE.
pub fn report(error: Error) -> ErrorReport {
    use PgSqlErrorCode as Code;
    match error {
        Error::EmptyImage => new(Code::ERRCODE_INVALID_BINARY_REPRESENTATION, "could not decode image")
            .set_detail("The image has no bytes.")
            .set_hint(supported_formats()),
        Error::UnknownFormat => new(Code::ERRCODE_INVALID_BINARY_REPRESENTATION, "could not decode image")
            .set_detail("The data does not begin like an image of a known format.")
            .set_hint(supported_formats()),
        Error::UnsupportedFormat { format } => {
            new(Code::ERRCODE_INVALID_BINARY_REPRESENTATION, "could not decode image")
                .set_detail(format!("{format} files are not supported."))
                .set_hint(how_to_convert(format))
        }
        Error::FormatNotAllowed { format } => {
            new(Code::ERRCODE_INVALID_BINARY_REPRESENTATION, "could not decode image")
                .set_detail(format!("{format} images are not allowed on this server."))
                .set_hint(format!("{} The setting \"clip.image_formats\" lists them.", supported_formats()))
        }
        Error::UndecodableImage { format, reason } => {
            new(Code::ERRCODE_INVALID_BINARY_REPRESENTATION, "could not decode image")
                .set_detail(format!("The {format} data is broken or of a kind that is not supported: {reason}."))
                .set_hint("Check that the file opens in an image viewer, or save it again.")
        }
        Error::ImageBytesExceeded { bytes, limit } => new(Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED, "image is too large")
            .set_detail(format!("The image has {bytes} bytes; the limit is {limit}."))
            .set_hint("Resize the image or raise \"clip.max_image_bytes\"."),
        Error::ImagePixelsExceeded { width, height, limit } => {
            new(Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED, "image is too large")
                .set_detail(format!("The image has {width} x {height} pixels; the limit is {limit} pixels."))
                .set_hint("Resize the image or raise \"clip.max_image_pixels\".")
        }
        Error::TooManyTokens { tokens, limit } => new(Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED, "text is too long")
            .set_detail(format!("The text has {tokens} tokens; the model reads {limit}."))
            .set_hint("Shorten the text, or set \"clip.text_overflow\" to \"truncate\"."),
        Error::TextBytesExceeded { bytes, limit } => new(Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED, "text is too long")
            .set_detail(format!("The text has {bytes} bytes; the limit is {limit}."))
            .set_hint("A model reads some dozens of words: shorten the text."),
        Error::InvalidModelName { name } => {
            new(Code::ERRCODE_INVALID_PARAMETER_VALUE, format!("invalid model name: \"{name}\""))
                .set_detail("A model name has letters, digits, dots, hyphens and underscores, and begins with a letter, digit or underscore.")
                .set_hint(ADD_MODEL)
        }
        Error::ModelMissing { name, present } => {
            let present = match present.as_slice() {
                [] => "There are no models under \"clip.model_path\".".into(),
                names => format!("The models that exist are: {}.", names.join(", ")),
            };
            new(Code::ERRCODE_UNDEFINED_OBJECT, format!("model \"{name}\" does not exist"))
                .set_detail(present)
                .set_hint(ADD_MODEL)
        }
        Error::ModelFile { model, file, reason } => {
            new(Code::ERRCODE_UNDEFINED_FILE, format!("could not read a file of model \"{model}\""))
                .set_detail(format!("File \"{file}\": {reason}."))
                .set_hint(match file == MANIFEST_FILE {
                    true => "A model folder needs its manifest: add the model again.",
                    false => "The folder is incomplete or not readable by the server: add the model again.",
                })
        }
        Error::ModelInvalid { model, file, reason } => {
            new(Code::ERRCODE_CONFIG_FILE_ERROR, format!("model \"{model}\" cannot be used"))
                .set_detail(format!("File \"{file}\": {reason}."))
                .set_hint("Remove the model and add it again: \"pgclip verify\" says what is wrong.")
        }
        Error::ModelChanged { model, file } => {
            new(Code::ERRCODE_CONFIG_FILE_ERROR, format!("model \"{model}\" was changed after it was added"))
                .set_detail(format!("File \"{file}\" is not the one that the manifest describes."))
                .set_hint("Restore the file, or add the new files as a model of another name.")
        }
        Error::ModelUnsafe { model, file, reason } => {
            new(Code::ERRCODE_CONFIG_FILE_ERROR, format!("model \"{model}\" cannot be trusted"))
                .set_detail(format!("File \"{file}\": {reason}."))
                .set_hint("Model files must belong to root or to the server's user, and be writable by nobody else.")
        }
        // Told as a warning: the model works without.
        Error::NotPrepared { model, reason } => {
            new(Code::ERRCODE_WARNING, format!("connections do not share the weights of model \"{model}\""))
                .set_detail(format!("Each has its own copy: {reason}."))
                .set_hint(format!("On the server, \"pgclip prepare {model}\" prepares them."))
        }
        // Only the command adds and removes models.
        Error::ModelExists { name } => {
            new(Code::ERRCODE_DUPLICATE_OBJECT, format!("model \"{name}\" already exists"))
        }
        Error::Store { reason, .. } => new(Code::ERRCODE_IO_ERROR, format!("could not write a model: {reason}")),
        Error::RuntimeMissing { path, reason } => new(Code::ERRCODE_UNDEFINED_FILE, "could not load ONNX Runtime")
            .set_detail(for_superusers(format!("Library \"{path}\": {reason}.")))
            .set_hint("Install ONNX Runtime 1.22 or newer and let \"clip.onnxruntime_path\" name its library."),
        Error::RuntimeLoaded { loaded, wanted } => {
            new(Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "ONNX Runtime is already loaded from another file")
                .set_detail(for_superusers(format!("It was loaded from \"{loaded}\"; the setting names \"{wanted}\".")))
                .set_hint("Reconnect to use the other library.")
        }
        Error::Inference { model, tower, reason } => {
            new(Code::ERRCODE_EXTERNAL_ROUTINE_EXCEPTION, "could not compute embedding")
                .set_detail(format!("The {} tower of model \"{model}\" failed: {reason}.", tower.name()))
                .set_hint("If it fails for every input, the model's graph does not suit: add another export of it.")
        }
        Error::NotAnEmbedding { model, tower } => {
            new(Code::ERRCODE_EXTERNAL_ROUTINE_EXCEPTION, "could not compute embedding")
                .set_detail(format!(
                    "The {} tower of model \"{model}\" gave a vector that is zero or not finite.",
                    tower.name()
                ))
                .set_hint("The model's weights are damaged or of a type that overflows: add another export of it.")
        }
        Error::NoHead { model, lacking } => {
            new(Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, format!("model \"{model}\" has no {lacking}"))
                .set_detail("Probabilities need what the model learned to multiply cosines with; none of its files says it.")
                .set_hint("Add the model under another name with the number that was published with it: \"pgclip add --logit-scale\", for SigLIP also \"--logit-bias\".")
        }
        Error::TemplateWithoutPlace { index } => new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("template {} has no place for the label", index + 1),
        )
        .set_hint("Write {} where the label goes: 'a photo of a {}'."),
        // In pgvector's words, with its SQLSTATE.
        Error::Dimensions { one, other } => {
            new(Code::ERRCODE_DATA_EXCEPTION, format!("different vector dimensions {one} and {other}"))
                .set_detail("Vectors of different models cannot be compared.")
                .set_hint("Name the model that made the column's vectors: the view clip_auto_embed_status tells it.")
        }
        Error::NoDirection => new(Code::ERRCODE_INVALID_PARAMETER_VALUE, "vector has no direction")
            .set_detail("It is the zero vector, or a sum of vectors and weights that cancel out."),
        Error::OutOfMemory { bytes } => new(Code::ERRCODE_OUT_OF_MEMORY, "out of memory")
            .set_detail(bytes.map_or_else(
                || "ONNX Runtime was refused memory.".into(),
                |bytes| format!("Failed on request of size {bytes}."),
            ))
            .set_hint("Give the server more memory, let fewer connections embed at a time, or lower \"clip.max_image_pixels\"."),
        Error::Interrupted => {
            // Raises what the user should see: cancel, timeout or termination.
            pgrx::check_for_interrupts!();
            new(Code::ERRCODE_QUERY_CANCELED, "canceling statement due to user request")
        }
        Error::Item { index, source } => {
            let report = report(*source);
            let element = format!("Element {} of the array: ", index + 1);
            let detail = element + report.detail().unwrap_or(report.message());
            report.set_detail(detail)
        }
    }
}

/// Say what is no failure. A parallel worker lives for one query and would say it in each: the session does.
pub fn warn(report: ErrorReport) {
    // SAFETY: an integer that the server sets before any of our code runs.
    if unsafe { pg_sys::ParallelWorkerNumber } < 0 {
        report.report(PgLogLevel::WARNING);
    }
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

/// Say something once that is no warning.
pub fn notice(report: ErrorReport) {
    report.report(PgLogLevel::NOTICE);
}

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

pub fn new(code: PgSqlErrorCode, message: impl Into<String>) -> ErrorReport {
    ErrorReport::new(code, message.into(), "pg_clip")
}

/// The formats that this server decodes.
fn supported_formats() -> String {
    match settings::limits().formats.iter().map(|format| format.name()).collect::<Vec<_>>().as_slice() {
        [] => "The setting \"clip.image_formats\" allows no format.".into(),
        names => format!("Supported formats are {}.", names.join(", ")),
    }
}

/// What to do about a file whose format has no decoder here.
fn how_to_convert(format: &str) -> String {
    let commands = match format {
        "HEIC" | "HEIF" => Some(("heif-convert in.heic out.jpg", "libheif", "magick in.heic out.jpg")),
        "AVIF" => Some(("avifdec in.avif out.png", "libavif", "magick in.avif out.png")),
        _ => None,
    };
    let supported = supported_formats();
    match commands {
        Some((command, package, other)) => {
            format!("Convert the image first, with \"{command}\" ({package}) or \"{other}\" (ImageMagick). {supported}")
        }
        None => supported,
    }
}

fn for_superusers(detail: String) -> String {
    // SAFETY: reads the current role's attributes; may raise an error, which pgrx turns into an unwinding panic.
    match unsafe { pg_sys::superuser() } {
        true => detail,
        false => "Only superusers see the path and the reason.".into(),
    }
}
