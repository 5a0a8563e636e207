//! The errors of the hub, as one closed enum.

use std::fmt;
use std::io;
use std::path::Path;

/// An error. It never contains the token or a signed address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HubError {
    /// An environment variable has a value that cannot be used.
    Environment {
        variable: &'static str,
        reason: String,
    },
    /// A name that no repository can have.
    InvalidRepository {
        repository: String,
    },
    /// A name that no branch, tag or commit can have.
    InvalidRevision {
        revision: String,
    },
    /// The repository does not exist, or is private.
    RepositoryMissing {
        repository: String,
    },
    RevisionMissing {
        repository: String,
        revision: String,
    },
    FileMissing {
        repository: String,
        file: String,
    },
    /// The repository's conditions must be accepted first.
    Gated {
        repository: String,
    },
    /// The hub denies access and gives no reason.
    Denied {
        repository: String,
    },
    /// The hub rejects the token.
    TokenRefused,
    /// No connection to the server.
    Unreachable {
        host: String,
        reason: String,
    },
    /// The server fails repeatedly.
    Failing {
        host: String,
        reason: String,
    },
    /// The server's answer cannot be used.
    Malformed {
        what: String,
        reason: String,
    },
    /// A path of the repository that leads outside the folder, or that no file system accepts.
    UnsafePath {
        repository: String,
        path: String,
    },
    /// More bytes than the limit.
    TooLarge {
        what: String,
        bytes: u64,
        limit: u64,
    },
    /// The bytes of a file were wrong twice.
    WrongBytes {
        file: String,
        expected: String,
        found: String,
    },
    /// The hub must not be asked, and the cache lacks the file.
    NotCached {
        repository: String,
        what: String,
    },
    /// The cache cannot be read or written.
    Cache {
        path: String,
        reason: String,
    },
    /// The disk is full. Fetched bytes are kept.
    DiskFull {
        path: String,
    },
    /// The caller asked to stop. Fetched bytes are kept.
    Interrupted,
}

impl HubError {
    pub(super) fn cache(path: &Path, error: &io::Error) -> Self {
        let path = path.display().to_string();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Cache { path, reason: error.to_string() },
        }
    }

    pub(super) fn malformed(what: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self::Malformed { what: what.into(), reason: reason.to_string() }
    }
}

impl fmt::Display for HubError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment { variable, reason } => write!(f, "invalid {variable}: {reason}"),
            Self::InvalidRepository { repository } => write!(f, "invalid repository name: {repository:?}"),
            Self::InvalidRevision { revision } => write!(f, "invalid revision: {revision:?}"),
            Self::RepositoryMissing { repository } => {
                write!(
                    f,
                    "repository \"{repository}\" does not exist, or is private: set HF_TOKEN to one that may read it"
                )
            }
            Self::RevisionMissing { repository, revision } => {
                write!(f, "repository \"{repository}\" has no revision \"{revision}\"")
            }
            Self::FileMissing { repository, file } => write!(f, "repository \"{repository}\" has no file {file:?}"),
            Self::Gated { repository } => {
                write!(f, "repository \"{repository}\" is gated: accept its conditions on its page and set HF_TOKEN")
            }
            Self::Denied { repository } => {
                write!(f, "access to repository \"{repository}\" is denied: set HF_TOKEN to one that may read it")
            }
            Self::TokenRefused => f.write_str("the hub does not accept the token: check HF_TOKEN"),
            Self::Unreachable { host, reason } => write!(f, "could not reach \"{host}\": {reason}"),
            Self::Failing { host, reason } => write!(f, "\"{host}\" keeps failing: {reason}"),
            Self::Malformed { what, reason } => write!(f, "{what} cannot be used: {reason}"),
            Self::UnsafePath { repository, path } => {
                write!(f, "repository \"{repository}\" has a file of an unsafe name: {path:?}")
            }
            Self::TooLarge { what, bytes, limit } => write!(f, "{what} has {bytes} bytes; the limit is {limit}"),
            Self::WrongBytes { file, expected, found } => {
                write!(f, "{file:?} did not arrive as the hub lists it: expected {expected}, found {found}")
            }
            Self::NotCached { repository, what } => {
                write!(f, "{what} of repository \"{repository}\" is not in the cache, and the hub must not be asked")
            }
            Self::Cache { path, reason } => write!(f, "could not use \"{path}\" of the cache: {reason}"),
            Self::DiskFull { path } => {
                write!(f, "the disk is full: \"{path}\" is kept as far as it goes, and will be continued")
            }
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for HubError {}
