//! The failures of a computation: those of `clip`, and those of the service.

use clip::Error;
use pgrx::PgSqlErrorCode as Code;
use pgrx::pg_sys::panic::ErrorReport;

use crate::pg::error::report;
use crate::pg::messages::new;

/// A failed computation.
#[derive(Debug)]
pub enum Failure {
    Clip(Error),
    /// The service cannot be used, and this session must not compute itself.
    Unavailable {
        reason: String,
    },
    /// The service ended, or stopped to answer, while it had this request, and the second attempt failed, too.
    Crash,
    /// The queue of the service is full.
    Busy {
        reason: String,
    },
}

impl Failure {
    /// Returns true if the caller asked to stop.
    pub fn is_interrupt(&self) -> bool {
        matches!(self, Self::Clip(error) if error.is_interrupt())
    }

    /// Returns true if the input may be the cause.
    pub fn is_of_the_input(&self) -> bool {
        match self {
            Self::Clip(error) => !error.is_interrupt(),
            Self::Crash => true,
            Self::Unavailable { .. } | Self::Busy { .. } => false,
        }
    }

    /// Adds the number of elements before those that failed to the number of the failed one.
    pub fn after(self, before: usize) -> Self {
        match self {
            Self::Clip(Error::Item { index, source }) => Self::Clip(Error::Item { index: before + index, source }),
            other => other,
        }
    }

    /// Removes the number of the element from the error of a batch of one.
    pub fn of_one(self) -> Self {
        match self {
            Self::Clip(error) => Self::Clip(clip::of_one(error)),
            other => other,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Clip(error)
    }
}

impl From<Failure> for ErrorReport {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Clip(error) => report(error),
            Failure::Unavailable { reason } => new(
                Code::ERRCODE_SYSTEM_ERROR,
                "embedding service is unavailable",
            )
            .set_detail(format!("{reason}."))
            .set_hint("Try again later. The view clip_service and the server's log show the state of the service. With \"clip.service_fallback\" on, sessions compute embeddings themselves."),
            Failure::Crash => new(Code::ERRCODE_EXTERNAL_ROUTINE_EXCEPTION, "could not compute embedding")
                .set_detail("The embedding service ended or stopped to answer while it had this request, and a second attempt failed, too.")
                .set_hint("Try again. If the same input always fails, it is the cause. The server's log shows how the service ended."),
            Failure::Busy { reason } => {
                new(Code::ERRCODE_INSUFFICIENT_RESOURCES, "queue of the embedding service is full")
                    .set_detail(format!("{reason}."))
                    .set_hint("Try again later, or let fewer sessions embed at the same time.")
            }
        }
    }
}
