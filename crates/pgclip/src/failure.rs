//! Why the command ends without success: what it says, what it advises, how it exits.

use std::fmt::Display;

use clip::Error;

/// Exit codes that scripts may rely on; `--help` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Failed = 1,
    NoSuchModel = 3,
    Findings = 4,
    InUse = 5,
    /// As a shell reports a process that SIGINT ended.
    Interrupted = 130,
}

#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
    pub hint: Option<String>,
}

impl Failure {
    pub fn new(message: impl Display) -> Self {
        Self { exit: Exit::Failed, message: message.to_string(), hint: None }
    }

    pub fn hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    pub fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }
}

/// One exhaustive match: a new variant does not compile until someone chooses its advice.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let failure = Self::new(&error);
        match error {
            Error::Interrupted => failure.exit(Exit::Interrupted),
            Error::ModelMissing { present, .. } => failure.exit(Exit::NoSuchModel).hint(match present.as_slice() {
                [] => "There are no models yet: pgclip catalog lists some to pull.".into(),
                names => format!("The models that exist are: {}.", names.join(", ")),
            }),
            Error::InvalidModelName { .. } => failure.hint(
                "A model name has letters, digits, dots, hyphens and underscores, and begins with a letter, digit or underscore.",
            ),
            Error::ModelExists { .. } => {
                failure.hint("A model is never changed in place: choose another name, or remove it first (pgclip rm).")
            }
            Error::ModelFile { .. } => {
                failure.hint("The folder is incomplete, or in a layout that is not known: see pgclip add --help.")
            }
            Error::ModelInvalid { .. } => failure.hint(
                "If the model is right, say what is meant: --variant, --text-output, --image-output, --text-pooling, --image-pooling.",
            ),
            Error::ModelUnsafe { .. } => failure.hint("A model's files are code: keep them where only their owner can write."),
            Error::ModelChanged { .. } => failure.hint("Restore the file, or add the new files as a model of another name."),
            Error::Store { .. } => {
                failure.hint("Nothing of the model was kept. Free some space, or run this as a user who may write there (often root).")
            }
            Error::RuntimeMissing { .. } | Error::RuntimeLoaded { .. } => {
                failure.hint("Name ONNX Runtime's library, 1.22 or newer: --onnxruntime FILE")
            }
            Error::Inference { .. } | Error::NotAnEmbedding { .. } => {
                failure.hint("The model was run and failed: it may be damaged, or of a kind that is not supported.")
            }
            Error::OutOfMemory { .. } => failure.hint("Examining a model takes about as much memory as its files have."),
            Error::EmptyImage
            | Error::UnknownFormat
            | Error::UnsupportedFormat { .. }
            | Error::FormatNotAllowed { .. }
            | Error::UndecodableImage { .. }
            | Error::ImageBytesExceeded { .. }
            | Error::ImagePixelsExceeded { .. }
            | Error::TooManyTokens { .. }
            | Error::TextBytesExceeded { .. }
            | Error::Item { .. } => failure,
        }
    }
}
