//! An incomplete blob. Its file always holds the first bytes, and their hash is known.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use super::cache::{Cache, create_folder_of, hash};
use super::checksum::{Checksum, Hasher};
use super::error::HubError;
use super::progress::Interrupted;

pub(super) struct Partial<'a> {
    path: PathBuf,
    file: File,
    hasher: Hasher,
    length: u64,
    size: u64,
    checksum: &'a Checksum,
}

impl<'a> Partial<'a> {
    /// Opens the file of an earlier attempt, or creates it. The caller holds the blob's lock.
    pub(super) fn open(
        cache: &Cache,
        checksum: &'a Checksum,
        size: u64,
        interrupted: Interrupted,
    ) -> Result<Self, HubError> {
        let path = cache.partial(checksum);
        create_folder_of(&path)?;
        let opened = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let file = opened.map_err(|error| HubError::cache(&path, &error))?;
        let mut partial = Self { path, file, hasher: checksum.hasher(size), length: 0, size, checksum };
        let found = partial.file.metadata().map_err(|error| HubError::cache(&partial.path, &error))?.len();
        if found > size {
            partial.length = found;
            partial.restart()?;
        } else if found > 0 {
            partial.length = hash(&mut partial.file, &partial.path, &mut partial.hasher, interrupted)?;
        }
        Ok(partial)
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn is_complete(&self) -> bool {
        self.length == self.size
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        self.file.write_all(bytes).map_err(|error| HubError::cache(&self.path, &error))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Removes all bytes.
    pub(super) fn restart(&mut self) -> Result<(), HubError> {
        if self.length > 0 {
            self.file.set_len(0).map_err(|error| HubError::cache(&self.path, &error))?;
            self.length = 0;
        }
        self.hasher = self.checksum.hasher(self.size);
        Ok(())
    }

    /// Returns the checksum of the bytes. It consumes the hash, so only [`Self::restart`] or [`Self::keep`] may follow.
    pub(super) fn found(&mut self) -> Checksum {
        std::mem::replace(&mut self.hasher, self.checksum.hasher(self.size)).finish()
    }

    /// Turns the verified bytes into the blob.
    pub(super) fn keep(&self, cache: &Cache) -> Result<(), HubError> {
        let written = self.file.metadata().map_err(|error| HubError::cache(&self.path, &error))?.len();
        if written != self.size {
            let reason = "another process wrote it too: its file system does not keep locks".into();
            return Err(HubError::Cache { path: self.path.display().to_string(), reason });
        }
        let blob = cache.blob(self.checksum);
        fs::rename(&self.path, &blob).map_err(|error| HubError::cache(&blob, &error))
    }

    /// Removes the file.
    pub(super) fn discard(&self) -> Result<(), HubError> {
        fs::remove_file(&self.path).map_err(|error| HubError::cache(&self.path, &error))
    }
}
