//! The reasons why a connection to the service cannot be used.

use std::fmt;

use clip::Error;

/// The reason why a connection to the service cannot be used. Each text is a clause without a period.
#[derive(Clone, Debug)]
pub enum Broken {
    /// This statement should end.
    Interrupted,
    /// No process listens.
    Absent(String),
    /// A process listens, and must not or cannot be used.
    Refused(String),
    /// The process ends, and has not begun with the request.
    Ending,
    /// The process has closed the connection.
    Ended(String),
    /// The process does not answer.
    Silent,
    /// The process sent bytes that are no answer.
    Damaged,
}

impl From<Error> for Broken {
    /// Waits fail only if the statement should end.
    fn from(_: Error) -> Self {
        Self::Interrupted
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted => f.write_str("The statement was interrupted"),
            Self::Absent(reason) | Self::Refused(reason) => f.write_str(reason),
            Self::Ending => f.write_str("It is ending"),
            Self::Ended(reason) => write!(f, "Its connection broke: {reason}"),
            Self::Silent => f.write_str("It does not answer"),
            Self::Damaged => f.write_str("It sent an answer that is not valid"),
        }
    }
}
