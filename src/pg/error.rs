//! Maps the errors of `clip` to PostgreSQL errors: SQLSTATE, message, DETAIL, HINT.
//!
//! Messages never repeat the user's text or bytes. They show paths only to roles that can read the setting.

use clip::{Error, MANIFEST_FILE};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgSqlErrorCode, PgTryBuilder, pg_sys};

use super::messages::new;
use super::settings;
use super::summary::raised;

/// The hint of every error about a missing model.
const ADD_MODEL: &str =
    "To install a model, run \"sudo pgclip pull NAME\" or \"sudo pgclip add NAME DIRECTORY\" on the server.";

/// Converts an error. The match is exhaustive: a new variant does not compile until someone chooses its SQLSTATE.
pub fn report(error: Error) -> ErrorReport {
    use PgSqlErrorCode as Code;
    match error {
        Error::EmptyImage => new(Code::ERRCODE_INVALID_BINARY_REPRESENTATION, "could not decode image")
            .set_detail("The value is empty.")
            .set_hint(supported_formats()),
        Error::UnknownFormat => new(Code::ERRCODE_INVALID_BINARY_REPRESENTATION, "could not decode image")
            .set_detail("The data does not start with the signature of a known image format.")
            .set_hint(supported_formats()),
        Error::UnsupportedFormat { format } => {
            new(Code::ERRCODE_INVALID_BINARY_REPRESENTATION, "could not decode image")
                .set_detail(format!("{format} files are not supported."))
                .set_hint(how_to_convert(format))
        }
        Error::FormatNotAllowed { format } => {
            new(Code::ERRCODE_INVALID_BINARY_REPRESENTATION, "could not decode image")
                .set_detail(format!("The setting \"clip.image_formats\" does not include {format}."))
                .set_hint(supported_formats())
        }
        Error::UndecodableImage { format, reason } => {
            new(Code::ERRCODE_INVALID_BINARY_REPRESENTATION, "could not decode image")
                .set_detail(format!("The {format} data is damaged or uses an unsupported feature: {reason}."))
                .set_hint("Check that the file opens in an image viewer. If it does, save it again as JPEG or PNG.")
        }
        Error::ImageBytesExceeded { bytes, limit } => new(Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED, "image is too large")
            .set_detail(format!("The image has {bytes} bytes; the limit is {limit}."))
            .set_hint("Resize the image, or raise the setting \"clip.max_image_bytes\"."),
        Error::ImagePixelsExceeded { width, height, limit } => {
            new(Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED, "image is too large")
                .set_detail(format!("The image has {width} x {height} pixels; the limit is {limit} pixels."))
                .set_hint("Resize the image, or raise the setting \"clip.max_image_pixels\".")
        }
        Error::TooManyTokens { tokens, limit } => new(Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED, "text is too long")
            .set_detail(format!("The text has {tokens} tokens; the model reads at most {limit}."))
            .set_hint("Shorten the text, or truncate it: SET clip.text_overflow = 'truncate'."),
        Error::TextBytesExceeded { bytes, limit } => new(Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED, "text is too long")
            .set_detail(format!("The text has {bytes} bytes; the limit is {limit}."))
            .set_hint("Shorten the text: a model reads only a few dozen words."),
        Error::InvalidModelName { name } => {
            new(Code::ERRCODE_INVALID_PARAMETER_VALUE, format!("invalid model name: \"{name}\""))
                .set_detail("A model name consists of letters, digits, dots, hyphens and underscores, and starts with a letter, digit or underscore.")
                .set_hint(ADD_MODEL)
        }
        Error::ModelMissing { name, present } => {
            let present = match present.as_slice() {
                [] => "No models are installed in the directory of \"clip.model_path\".".into(),
                names => format!("Installed models: {}.", names.join(", ")),
            };
            new(Code::ERRCODE_UNDEFINED_OBJECT, format!("model \"{name}\" does not exist"))
                .set_detail(present)
                .set_hint(ADD_MODEL)
        }
        Error::ModelFile { model, file, reason } => {
            new(Code::ERRCODE_UNDEFINED_FILE, format!("could not read a file of model \"{model}\""))
                .set_detail(format!("File \"{file}\": {reason}."))
                .set_hint(match file == MANIFEST_FILE {
                    true => "The model directory has no manifest: remove the model and add it again with \"pgclip add\".",
                    false => "The model directory is incomplete, or the server cannot read it: remove the model and add it again.",
                })
        }
        Error::ModelInvalid { model, file, reason } => {
            new(Code::ERRCODE_CONFIG_FILE_ERROR, format!("model \"{model}\" cannot be used"))
                .set_detail(format!("File \"{file}\": {reason}."))
                .set_hint("Run \"pgclip verify\" on the server to see the cause, then remove the model and add it again.")
        }
        Error::ModelChanged { model, file } => {
            new(Code::ERRCODE_CONFIG_FILE_ERROR, format!("model \"{model}\" was changed after it was installed"))
                .set_detail(format!("File \"{file}\" does not match its checksum in the manifest."))
                .set_hint("Restore the file, or install the new files under another model name.")
        }
        Error::ModelUnsafe { model, file, reason } => {
            new(Code::ERRCODE_CONFIG_FILE_ERROR, format!("model \"{model}\" cannot be trusted"))
                .set_detail(format!("File \"{file}\": {reason}."))
                .set_hint("Model files must be owned by root or by the server's user, and only their owner may be able to write to them.")
        }
        // Raised as a warning: the model works without prepared weights.
        Error::NotPrepared { model, reason } => {
            new(Code::ERRCODE_WARNING, format!("sessions do not share the weights of model \"{model}\""))
                .set_detail(format!("Each session loads its own copy: {reason}."))
                .set_hint(format!("Run \"sudo pgclip prepare {model}\" on the server."))
        }
        // Only the command pgclip installs and removes models.
        Error::ModelExists { name } => {
            new(Code::ERRCODE_DUPLICATE_OBJECT, format!("model \"{name}\" already exists"))
        }
        Error::Store { reason, .. } => new(Code::ERRCODE_IO_ERROR, format!("could not write a model: {reason}")),
        Error::RuntimeMissing { path, reason } => new(Code::ERRCODE_UNDEFINED_FILE, "could not load ONNX Runtime")
            .set_detail(for_superusers(format!("Library \"{path}\": {reason}.")))
            .set_hint("Install ONNX Runtime 1.22 or newer, and set \"clip.onnxruntime_path\" to the path of its library."),
        Error::RuntimeLoaded { loaded, wanted } => {
            new(Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "ONNX Runtime is already loaded from another file")
                .set_detail(for_superusers(format!("This session loaded \"{loaded}\"; the setting is \"{wanted}\".")))
                .set_hint("Reconnect to load the other library.")
        }
        // Only the embedding service uses another provider than "cpu".
        Error::Provider { provider, reason } => new(
            Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("execution provider \"{provider}\" cannot be used"),
        )
        .set_detail(for_superusers(format!("The cause is: {reason}.")))
        .set_hint("Let the embedding service use the provider \"cpu\", or install an ONNX Runtime that has this provider."),
        Error::Inference { model, tower, reason } => {
            new(Code::ERRCODE_EXTERNAL_ROUTINE_EXCEPTION, "could not compute embedding")
                .set_detail(format!("The {} tower of model \"{model}\" failed: {reason}.", tower.name()))
                .set_hint("If every input fails, this ONNX export is not supported: install a different export of the model.")
        }
        Error::NotAnEmbedding { model, tower } => {
            new(Code::ERRCODE_EXTERNAL_ROUTINE_EXCEPTION, "could not compute embedding")
                .set_detail(format!(
                    "The {} tower of model \"{model}\" returned a vector that is zero or not finite.",
                    tower.name()
                ))
                .set_hint("The weights are damaged, or their type overflows: install a different export of the model.")
        }
        Error::NoHead { model, lacking } => {
            new(Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, format!("model \"{model}\" has no {lacking}"))
                .set_detail("Probabilities need the model's learned logit scale, which is not in its files.")
                .set_hint("Install the model under another name with its published value: \"pgclip add --logit-scale\", for SigLIP also \"--logit-bias\".")
        }
        Error::TemplateWithoutPlace { index } => new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("template {} has no placeholder for the label", index + 1),
        )
        .set_hint("Write {} as the placeholder: 'a photo of a {}'."),
        // In pgvector's words, with its SQLSTATE.
        Error::Dimensions { one, other } => {
            new(Code::ERRCODE_DATA_EXCEPTION, format!("different vector dimensions {one} and {other}"))
                .set_detail("Vectors of different models cannot be compared.")
                .set_hint("Use the model that computed the column's vectors: SELECT relation, target, model FROM clip_auto_embed_status.")
        }
        Error::NoDirection => new(Code::ERRCODE_INVALID_PARAMETER_VALUE, "vector has no direction")
            .set_detail("It is the zero vector, or a weighted sum that cancels out."),
        Error::OutOfMemory { bytes } => new(Code::ERRCODE_OUT_OF_MEMORY, "out of memory")
            .set_detail(bytes.map_or_else(
                || "ONNX Runtime could not allocate memory.".into(),
                |bytes| format!("Failed on request of size {bytes}."),
            ))
            .set_hint("Give the server more memory, let fewer sessions embed at the same time, or lower the setting \"clip.max_image_pixels\"."),
        Error::Interrupted => {
            // Raises what the user should see: cancel, timeout or termination.
            pgrx::check_for_interrupts!();
            new(Code::ERRCODE_QUERY_CANCELED, "canceling statement due to user request")
        }
        Error::LoadInterrupted { model } => {
            let hint = format!("Model \"{model}\" was being loaded, which each session does once. To load it before, without a timeout: SELECT clip_prewarm('{model}').");
            PgTryBuilder::new(|| report(Error::Interrupted))
                .catch_when(Code::ERRCODE_QUERY_CANCELED, |caught| {
                    new(Code::ERRCODE_QUERY_CANCELED, raised(&caught).message()).set_hint(&hint)
                })
                .execute()
        }
        Error::Item { index, source } => {
            let report = report(*source);
            let element = format!("Element {} of the array: ", index + 1);
            let detail = element + report.detail().unwrap_or(report.message());
            report.set_detail(detail)
        }
    }
}

/// Lists the formats that this server decodes.
fn supported_formats() -> String {
    match settings::limits().formats.iter().map(|format| format.name()).collect::<Vec<_>>().as_slice() {
        [] => "The setting \"clip.image_formats\" is empty.".into(),
        names => format!("Supported formats are {}.", names.join(", ")),
    }
}

/// The hint for a file whose format has no decoder.
fn how_to_convert(format: &str) -> String {
    let commands = match format {
        "HEIC" | "HEIF" => Some(("heif-convert in.heic out.jpg", "libheif", "magick in.heic out.jpg")),
        "AVIF" => Some(("avifdec in.avif out.png", "libavif", "magick in.avif out.png")),
        _ => None,
    };
    let supported = supported_formats();
    match commands {
        Some((command, package, other)) => {
            format!("Convert the image first with \"{command}\" ({package}) or \"{other}\" (ImageMagick). {supported}")
        }
        None => supported,
    }
}

fn for_superusers(detail: String) -> String {
    // SAFETY: reads the current role's attributes; may raise an error, which pgrx turns into an unwinding panic.
    match unsafe { pg_sys::superuser() } {
        true => detail,
        false => "Only superusers can see the path and the reason.".into(),
    }
}
