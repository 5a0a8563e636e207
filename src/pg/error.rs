//! Failures of `clip`, told as Postgres tells them: SQLSTATE, message, DETAIL, HINT.
//!
//! Messages never repeat the user's text or bytes, and paths only where the role may read the setting anyway.

use clip::{Error, MANIFEST_FILE};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgSqlErrorCode, pg_sys};

use super::messages::new;
use super::settings;

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
