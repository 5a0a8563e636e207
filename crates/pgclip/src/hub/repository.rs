//! Repositories of the hub and their files.

/// A repository at one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    pub name: String,
    /// The commit: 40 hexadecimal digits.
    pub revision: String,
    /// The branch or tag that was requested, unless it was the commit.
    pub branch: Option<String>,
    pub license: Option<String>,
    pub files: Vec<RemoteFile>,
    /// True if the hub was not asked: then only files that were fetched before are known.
    pub cached: bool,
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    pub path: String,
    pub size: u64,
    /// SHA-256 of a file in LFS.
    pub sha256: Option<String>,
    /// Git's SHA-1. For a file in LFS it is that of the pointer.
    pub blob_id: Option<String>,
}
