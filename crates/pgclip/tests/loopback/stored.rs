//! A file of the repository, with the digests that a hub lists.

use sha1::Sha1;
use sha2::{Digest, Sha256};

#[derive(Clone)]
pub struct Stored {
    pub path: String,
    pub bytes: Vec<u8>,
    pub lfs: bool,
}

impl Stored {
    pub fn new(path: &str, bytes: &[u8], lfs: bool) -> Self {
        Self { path: path.into(), bytes: bytes.into(), lfs }
    }

    /// Returns the name of the file's blob in the cache.
    pub fn id(&self) -> String {
        if self.lfs { hex(&Sha256::digest(&self.bytes)) } else { self.blob_id() }
    }

    pub fn blob_id(&self) -> String {
        hex(&Sha1::new_with_prefix(format!("blob {}\0", self.bytes.len())).chain_update(&self.bytes).finalize())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
