//! Checksums of files, which are also the names of blobs in the cache. External crates: `sha1`, `sha2`.

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::error::HubError;
use super::repository::RemoteFile;
use super::validate::is_hex;

/// The digest that the hub lists. It is checked to be lower-case hexadecimal, so it is safe as a file name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Checksum {
    Sha256(String),
    /// Git's SHA-1 of a file outside LFS. It detects damage; TLS protects against attacks.
    GitBlob(String),
}

impl Checksum {
    /// Returns the checksum of a file. A file in LFS has a blob identifier too, but that is of the pointer.
    pub(super) fn of(file: &RemoteFile) -> Result<Self, HubError> {
        let checksum = match (&file.sha256, &file.blob_id) {
            (Some(sha256), _) if is_hex(sha256, 64) => Some(Self::Sha256(sha256.clone())),
            (None, Some(id)) if is_hex(id, 40) => Some(Self::GitBlob(id.clone())),
            _ => None,
        };
        checksum.ok_or_else(|| HubError::malformed(format!("{:?}", file.path), "the hub lists no digest of it"))
    }

    /// Returns the name of the blob in the cache, which is the hub's entity tag.
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Sha256(id) | Self::GitBlob(id) => id,
        }
    }

    pub(super) fn hasher(&self, size: u64) -> Hasher {
        match self {
            Self::Sha256(_) => Hasher::Sha256(Sha256::new()),
            Self::GitBlob(_) => Hasher::GitBlob(Sha1::new_with_prefix(format!("blob {size}\0"))),
        }
    }

    pub(super) fn to_text(&self) -> String {
        match self {
            Self::Sha256(id) => format!("sha256 {id}"),
            Self::GitBlob(id) => format!("git's sha1 {id}"),
        }
    }
}

pub(super) enum Hasher {
    Sha256(Sha256),
    GitBlob(Sha1),
}

impl Hasher {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::GitBlob(hash) => hash.update(bytes),
        }
    }

    /// Returns the checksum of all bytes so far.
    pub(super) fn finish(self) -> Checksum {
        match self {
            Self::Sha256(hash) => Checksum::Sha256(hex(&hash.finalize())),
            Self::GitBlob(hash) => Checksum::GitBlob(hex(&hash.finalize())),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(sha256: Option<&str>, blob_id: Option<&str>) -> RemoteFile {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        RemoteFile { path: "a".into(), size: 0, sha256: owned(sha256), blob_id: owned(blob_id) }
    }

    #[test]
    fn empty_files_have_their_known_digests() {
        let git = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";
        let sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for file in [file(None, Some(git)), file(Some(sha256), Some(git))] {
            let checksum = Checksum::of(&file).unwrap();
            assert_eq!(checksum.hasher(0).finish(), checksum);
        }
    }

    #[test]
    fn a_digest_that_is_none_is_refused() {
        for id in ["../../x", "E69DE29BB2D1D6434B8B29AE775AD8C2E48C5391", ""] {
            assert!(Checksum::of(&file(None, Some(id))).is_err());
            assert!(Checksum::of(&file(Some(id), None)).is_err());
        }
        assert!(Checksum::of(&file(None, None)).is_err());
    }
}
