//! The failure of a command: its message, its hint and its exit code.

use std::fmt::Display;

use clip::Error;
use pgclip::hub::HubError;

/// Exit codes that scripts may rely on; `--help` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Failed = 1,
    NoSuchModel = 3,
    Findings = 4,
    InUse = 5,
    /// The code that a shell reports for a process that SIGINT ended.
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

/// The match is exhaustive: a new variant does not compile without a decision about its hint.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let failure = Self::new(&error);
        match error {
            Error::Interrupted | Error::LoadInterrupted { .. } => failure.exit(Exit::Interrupted),
            Error::ModelMissing { present, .. } => failure.exit(Exit::NoSuchModel).hint(match present.as_slice() {
                [] => "No models are installed. To list models to download: pgclip catalog.".into(),
                names => format!("Installed models: {}.", names.join(", ")),
            }),
            Error::InvalidModelName { .. } => failure.hint(
                "A model name consists of letters, digits, dots, hyphens and underscores, and starts with a letter, digit or underscore.",
            ),
            Error::ModelExists { .. } => {
                failure.hint("A model is never changed in place. Choose another name, or remove the model first: pgclip rm NAME.")
            }
            Error::ModelFile { .. } => {
                failure.hint("The directory is incomplete, or its layout is unknown: see pgclip add --help.")
            }
            Error::ModelInvalid { .. } => failure.hint(
                "If the model is correct, choose the file or output explicitly with --variant, --text-output, --image-output, --text-pooling or --image-pooling.",
            ),
            Error::ModelUnsafe { .. } => failure.hint("Model files are code for the server: keep them in a directory that only their owner can write to."),
            Error::ModelChanged { .. } => failure.hint("Restore the file, or install the new files under another model name."),
            Error::NotPrepared { .. } => failure.hint(
                "The model works, but each session loads its own copy of the weights. ONNX Runtime 1.31 or newer is advised.",
            ),
            Error::Store { .. } => {
                failure.hint("Nothing was changed. Run the command as a user who can write to this directory (usually: sudo), or free disk space.")
            }
            Error::RuntimeMissing { .. } | Error::RuntimeLoaded { .. } => {
                failure.hint("Pass the path of ONNX Runtime 1.22 or newer: --onnxruntime FILE")
            }
            Error::Provider { .. } => failure.hint("Choose the provider cpu, or pass an ONNX Runtime that has the provider: --onnxruntime FILE"),
            Error::Inference { .. } | Error::NotAnEmbedding { .. } => {
                failure.hint("The test run of the model failed. The model is damaged or not supported.")
            }
            Error::OutOfMemory { .. } => failure.hint("Testing a model takes about as much memory as the size of its files."),
            Error::EmptyImage
            | Error::UnknownFormat
            | Error::UnsupportedFormat { .. }
            | Error::FormatNotAllowed { .. }
            | Error::UndecodableImage { .. }
            | Error::ImageBytesExceeded { .. }
            | Error::ImagePixelsExceeded { .. }
            | Error::TooManyTokens { .. }
            | Error::TextBytesExceeded { .. }
            | Error::NoHead { .. }
            | Error::TemplateWithoutPlace { .. }
            | Error::Dimensions { .. }
            | Error::NoDirection
            | Error::Item { .. } => failure,
        }
    }
}

/// The same for the errors of the hub.
impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        let failure = Self::new(&error);
        match error {
            HubError::Interrupted => {
                failure.exit(Exit::Interrupted).hint("To resume, run the same command again.")
            }
            HubError::RepositoryMissing { .. } | HubError::RevisionMissing { .. } => failure
                .exit(Exit::NoSuchModel)
                .hint("Check the name and the revision. A private repository needs HF_TOKEN."),
            HubError::Gated { .. } | HubError::Denied { .. } => failure.hint(
                "Accept the conditions on the model's page, if there are any, and set HF_TOKEN to a token that can read the repository.",
            ),
            HubError::TokenRefused => failure.hint("Set HF_TOKEN to a valid token, or unset it."),
            HubError::Unreachable { .. } => {
                failure.hint("Without a network, copy the model's directory to this host and run: pgclip add NAME DIR")
            }
            HubError::Failing { .. } => failure.hint("The downloaded part is kept. Run the same command again later."),
            HubError::WrongBytes { .. } => {
                failure.hint("A proxy, or the mirror in HF_ENDPOINT, changes the file.")
            }
            HubError::NotCached { .. } => {
                failure.hint("Unset HF_HUB_OFFLINE, or download the model on a host with a network and copy the cache.")
            }
            HubError::DiskFull { .. } => failure
                .hint("The downloaded part is kept. Free disk space, or set HF_HOME to a directory on another disk, and run the command again."),
            HubError::Cache { .. } => failure.hint("HF_HOME names the directory of the cache."),
            HubError::Environment { .. }
            | HubError::InvalidRepository { .. }
            | HubError::InvalidRevision { .. }
            | HubError::FileMissing { .. }
            | HubError::Malformed { .. }
            | HubError::UnsafePath { .. }
            | HubError::TooLarge { .. } => failure,
        }
    }
}
