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
            Error::NotPrepared { .. } => failure.hint(
                "The model works without: each connection then has weights of its own. ONNX Runtime 1.31 or newer prepares best.",
            ),
            Error::Store { .. } => {
                failure.hint("Nothing that was begun was kept. Free some space, or run this as a user who may write there (often root).")
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
                failure.exit(Exit::Interrupted).hint("The same command goes on where this one ended.")
            }
            HubError::RepositoryMissing { .. } | HubError::RevisionMissing { .. } => failure
                .exit(Exit::NoSuchModel)
                .hint("Check the name and the revision. A private repository needs HF_TOKEN."),
            HubError::Gated { .. } | HubError::Denied { .. } => failure.hint(
                "Accept its conditions on the hub's page, if it has any, and set HF_TOKEN to a token that may read it.",
            ),
            HubError::TokenRefused => failure.hint("Set HF_TOKEN to a token that is valid, or unset it."),
            HubError::Unreachable { .. } => {
                failure.hint("Without a network, copy the model's folder here and run: pgclip add NAME DIR")
            }
            HubError::Failing { .. } => failure.hint("What was fetched is kept: try the same command later."),
            HubError::WrongBytes { .. } => {
                failure.hint("Something on the way changes the file: a proxy, or a broken mirror in HF_ENDPOINT.")
            }
            HubError::NotCached { .. } => {
                failure.hint("Unset HF_HUB_OFFLINE, or fetch it where there is a network and copy the cache.")
            }
            HubError::DiskFull { .. } => failure
                .hint("What was fetched is kept: free some space, or let HF_HOME name another disk, and run it again."),
            HubError::Cache { .. } => failure.hint("HF_HOME names the folder of the cache."),
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
