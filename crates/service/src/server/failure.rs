//! The reasons why a request has no embeddings.

use clip::Error;

use crate::protocol::FromService;

/// The reason why a request has no embeddings.
#[derive(Clone, Debug)]
pub enum Failure {
    /// It fails in a session, too.
    Failed(Error),
    /// A session may compute it.
    Declined(String),
}

impl Failure {
    /// Returns the answer to a request.
    pub fn answer(self, number: u64) -> FromService {
        match self {
            Self::Failed(error) => FromService::Failed { number, error },
            Self::Declined(reason) => FromService::Declined { number, reason },
        }
    }
}

/// Decides whether a session may compute a request after an error that its inputs did not cause. A session looks in its own model
/// directories, has its own library and its own memory.
pub fn failure(error: Error) -> Failure {
    match error {
        Error::ModelMissing { .. }
        | Error::InvalidModelName { .. }
        | Error::ModelFile { .. }
        | Error::ModelUnsafe { .. }
        | Error::NotPrepared { .. }
        | Error::Store { .. }
        | Error::RuntimeMissing { .. }
        | Error::RuntimeLoaded { .. }
        | Error::Provider { .. }
        | Error::OutOfMemory { .. }
        | Error::Interrupted
        | Error::LoadInterrupted { .. } => Failure::Declined(sentence(&error.to_string())),
        Error::EmptyImage
        | Error::UnknownFormat
        | Error::UnsupportedFormat { .. }
        | Error::FormatNotAllowed { .. }
        | Error::UndecodableImage { .. }
        | Error::ImageBytesExceeded { .. }
        | Error::ImagePixelsExceeded { .. }
        | Error::TooManyTokens { .. }
        | Error::TextBytesExceeded { .. }
        | Error::ModelInvalid { .. }
        | Error::ModelChanged { .. }
        | Error::ModelExists { .. }
        | Error::Inference { .. }
        | Error::NotAnEmbedding { .. }
        | Error::NoHead { .. }
        | Error::TemplateWithoutPlace { .. }
        | Error::Dimensions { .. }
        | Error::NoDirection
        | Error::Item { .. } => Failure::Failed(error),
    }
}

/// Returns a reason that begins a DETAIL.
fn sentence(reason: &str) -> String {
    format!("The service failed: {reason}")
}
